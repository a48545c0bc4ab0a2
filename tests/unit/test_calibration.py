"""The report's part on a trained score."""

from __future__ import annotations

import numpy as np
from published import experiment

from floodline.agglomeration import fit
from floodline.agglomeration.model import Model
from floodline.manifest import write_json
from floodline.publishing import calibration


def test_the_calibration_of_the_model_is_shown(tmp_path):
    found = fit.calibration(np.array([True, False, True, False]), np.array([0.96, 0.12, 0.83, 0.85]))
    about = {"fitted_to": {"kind": "logistic", "contacts": 4, "inside_neurons": 2}, "calibration": found}
    write_json(tmp_path / "model.json", Model([], 0.0, np.zeros(0), np.ones(0), np.zeros(0), [], about).plain())
    made = experiment(tmp_path / "run", agglomeration={"model": str(tmp_path / "model.json")})
    text = calibration.section(made)
    assert "fitted to 4 labelled contacts, 2 of them inside neurons" in text
    assert "0.8 to 0.9" in text and "0.840" in text and "0.500" in text, "of two contacts one is inside a neuron"


def test_without_a_model_there_is_nothing_to_show(tmp_path):
    assert calibration.section(experiment(tmp_path)) == ""
