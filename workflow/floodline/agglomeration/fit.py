"""Training of a model that scores contacts, on boxes with labels.

A supervoxel belongs to the neuron that most of its labelled voxels are of; impure and hardly labelled ones are left
out. A contact counts if its decision point lies in a box and both its supervoxels belong somewhere: it lies inside a
neuron if they belong to the same one. Contacts of large supervoxels weigh more, by the square root of the smaller one's
labelled voxels, since more depends on them.

The calibration says what the scores are worth: contacts are scored by models that were trained without them (left out
by neuron, so that no contact of a neuron helps to score another one), and of those with about equal scores the fraction
is taken that really lies inside a neuron.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from floodline.agglomeration.edges import read_contacts
from floodline.agglomeration.model import Model, Tree, inputs
from floodline.config import Fit
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.manifest import write_json
from floodline.segmentation.contingency import Table, add, tabulate
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

BLOCK_XYZ = (256, 256, 256)
FEWEST = 10
"""Contacts of either kind that there must be."""

BINS = np.linspace(0, 1, 11)
"""Of scores, for the calibration."""

REGULARISATION = 1.0
LINEAR = [
    "contrast", "root_share", "darkness", "overlap", "log_overlap_voxels", "one_pass",
    "is_resegmented", "recovers_other_high",
]  # fmt: skip
"""What logistic regression sees. There are some hundred labelled contacts, few of them inside a neuron: with all that
trees see it does worse on neurons that it has not seen (weighted log-loss 0.153 in place of 0.133 on FIB-25)."""

LEAST_SCALE = 0.25
"""Features that hardly vary, as those of the few contacts that were resegmented, are not blown up beyond this."""

TREES: dict[str, Any] = {
    "n_estimators": 150, "max_depth": 3, "learning_rate": 0.05, "subsample": 0.7, "min_samples_leaf": 10
}  # fmt: skip


def run(experiment: Experiment) -> None:
    """Write `model.json` from the contacts and the labels.

    Raises:
        FloodlineError: there are no labels, the boxes reach outside them, or too few contacts are labelled.
    """
    wanted = experiment.config.agglomeration.fit
    path = experiment.agglomeration / "model.json"
    path.unlink(missing_ok=True)
    if experiment.config.labels is None:
        raise FloodlineError("`floodline agglomerate fit` learns from labels, and the configuration has none.")
    labels, supervoxels = (Layer.open(experiment.layer(name)) for name in ("labels", "supervoxels"))
    boxes = [Box.of(corners) for corners in wanted.boxes_xyz] or [labels.box]
    for box in boxes:
        if not labels.box.contains(box):
            raise FloodlineError(f"agglomeration.fit.boxes_xyz: {box} reaches outside the labels, {labels.box}.")
    table = add(tabulate(labels.read(part), supervoxels.read(part)) for box in boxes for part in blocks(box, BLOCK_XYZ))
    samples = labelled(read_contacts(experiment), table, boxes, wanted)
    counts = samples["same"].value_counts()
    if min(counts.get(True, 0), counts.get(False, 0)) < FEWEST:
        raise FloodlineError(
            f"only {counts.get(True, 0)} labelled contacts lie inside a neuron and {counts.get(False, 0)} between two: "
            f"{FEWEST} of each are needed, so give more labels (agglomeration.fit.boxes_xyz)."
        )
    model = fit(samples, wanted, int(experiment.rng("agglomerate fit").integers(2**31)))
    model.about["fitted_to"]["boxes_xyz"] = [box.corners for box in boxes]
    logger.info("%s", model.about["calibration"])
    write_json(path, model.plain())


def labelled(edges: pd.DataFrame, table: Table, boxes: Iterable[Box], wanted: Fit) -> pd.DataFrame:
    """The contacts that labels say something about.

    Args:
        edges: contacts with all their features.
        table: contingency table of labels and supervoxels in the boxes.

    Returns:
        Their rows, with `same`, `weight` and `neuron` (that of the smaller supervoxel).
    """
    table = table.where((table.a > 0) & (table.b > 0))
    pieces = pd.DataFrame({"neuron": table.a, "supervoxel": table.b, "voxels": table.count})
    total = pieces.groupby("supervoxel")["voxels"].sum()
    pieces = pieces.sort_values(["voxels", "neuron"]).groupby("supervoxel").tail(1).set_index("supervoxel")
    pieces["total"] = total
    used = pieces[(pieces["voxels"] >= wanted.min_purity * pieces["total"]) & (pieces["total"] >= wanted.min_voxels)]
    place = edges[["x", "y", "z"]].to_numpy()
    inside = np.zeros(len(edges), bool)
    for box in boxes:
        inside |= ((place >= box.start_xyz) & (place < box.stop_xyz)).all(axis=1)
    found = edges[inside & edges["a"].isin(used.index) & edges["b"].isin(used.index)].reset_index(drop=True)
    a, b = used.loc[found["a"]].reset_index(drop=True), used.loc[found["b"]].reset_index(drop=True)
    smaller = np.where(a["total"] <= b["total"], a["neuron"], b["neuron"])
    weight = np.sqrt(np.minimum(a["total"].to_numpy(np.float64), b["total"].to_numpy(np.float64)))
    return found.assign(same=(a["neuron"] == b["neuron"]).to_numpy(), neuron=smaller, weight=weight / weight.mean())


def fit(samples: pd.DataFrame, wanted: Fit, seed: int) -> Model:
    """A model, with its calibration.

    Args:
        samples: from `labelled`.
        seed: of the folds and of the trees.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    model = _train(samples, wanted, seed)
    left_out = np.full(len(samples), np.nan)
    folds = StratifiedGroupKFold(wanted.folds, shuffle=True, random_state=seed)
    for train, test in folds.split(samples, samples["same"], samples["neuron"]):
        if samples["same"].iloc[train].nunique() == 2:
            left_out[test] = _train(samples.iloc[train], wanted, seed).score(samples.iloc[test])
    about = {
        "fitted_to": {"kind": wanted.kind, "contacts": len(samples), "inside_neurons": int(samples["same"].sum())},
        "calibration": calibration(samples["same"].to_numpy(), left_out),
    }
    return Model(**{**vars(model), "about": about})


def _train(samples: pd.DataFrame, wanted: Fit, seed: int) -> Model:
    rows = inputs(samples)[LINEAR] if wanted.kind == "logistic" else inputs(samples)
    features = [name for name in rows.columns.tolist() if rows[name].nunique() > 1]
    values, same = rows[features].to_numpy(np.float64), samples["same"].to_numpy()
    weight = samples["weight"].to_numpy()
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), LEAST_SCALE)
    if wanted.kind == "logistic":
        from sklearn.linear_model import LogisticRegression

        linear = LogisticRegression(C=REGULARISATION, max_iter=1000).fit((values - mean) / scale, same, weight)
        return Model(features, float(linear.intercept_[0]), mean, scale, linear.coef_[0], [], {})
    from sklearn.ensemble import GradientBoostingClassifier

    boosted = GradientBoostingClassifier(**TREES, random_state=seed).fit(values, same, weight)
    prior = np.average(same, weights=weight)
    trees = [_plain(one.tree_, boosted.learning_rate) for one in boosted.estimators_[:, 0]]
    return Model(features, float(np.log(prior / (1 - prior))), mean, scale, np.zeros(len(features)), trees, {})


def _plain(tree: Any, learning_rate: float) -> Tree:
    feature = np.where(tree.children_left < 0, -1, tree.feature)
    value = tree.value[:, 0, 0] * learning_rate
    return Tree(feature, tree.threshold, tree.children_left.astype(int), tree.children_right.astype(int), value)


def calibration(same: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """How the scores of contacts that a model had not seen compare with what they are.

    Args:
        same: (n,) whether a contact lies inside a neuron.
        score: (n,) NaN: none.
    """
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    known = np.isfinite(score)
    same, score = same[known], score[known]
    if len(np.unique(same)) < 2:
        return {"contacts": len(same), "bins": []}
    at = np.clip(np.digitize(score, BINS) - 1, 0, len(BINS) - 2)
    bins = [
        {
            "from": round(float(BINS[i]), 3),
            "to": round(float(BINS[i + 1]), 3),
            "contacts": int((at == i).sum()),
            "mean_score": float(score[at == i].mean()),
            "inside_neurons": float(same[at == i].mean()),
        }
        for i in np.unique(at).tolist()
    ]
    return {
        "contacts": len(same),
        "brier": float(brier_score_loss(same, score)),
        "log_loss": float(log_loss(same, score)),
        "auc": float(roc_auc_score(same, score)),
        "bins": bins,
    }
