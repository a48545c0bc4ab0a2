"""The report's part on a trained score of contacts: what it was fitted to, and what its numbers are worth."""

from __future__ import annotations

from pathlib import Path

from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing import page


def section(experiment: Experiment) -> str:
    """The calibration of `agglomeration.model`; nothing where contacts are scored by the built-in rule."""
    path = experiment.config.agglomeration.model
    if path is None:
        return ""
    model = read_json(Path(path))
    fitted, found = model["fitted_to"], model["calibration"]
    kind = {"logistic": "Logistic regression", "boosted": "Boosted trees"}[fitted["kind"]]
    inside = fitted["inside_neurons"]
    summary = f"{kind}, fitted to {fitted['contacts']} labelled contacts, {inside} of them inside neurons."
    if found["bins"]:
        summary += (
            f" Scored by models that had not seen them, contacts inside neurons rank above others with probability "
            f"{found['auc']:.3f}; the mean squared error of the score is {found['brier']:.3f}."
        )
    rows = [
        [f"{one['from']:.1f} to {one['to']:.1f}", one["contacts"], one["mean_score"], one["inside_neurons"]]
        for one in found["bins"]
    ]
    return page.section(
        "Scores of contacts",
        page.paragraph(summary),
        page.table(
            ["score", "contacts", "mean score", "really inside a neuron"], rows, "Calibration on left-out contacts"
        ),
    )
