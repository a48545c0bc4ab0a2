"""Trained scores of contacts: what a model learns, that its file says it all, and its calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from floods import CHUNK
from sklearn.metrics import roc_auc_score
from test_solvers import prepared

from floodline import config
from floodline.agglomeration import edges, fit, graph, solve
from floodline.agglomeration.model import EDGE_COLUMNS, Model
from floodline.agglomeration.resegment import MEASURED
from floodline.config import Fit
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import write_json
from floodline.segmentation.contingency import tabulate
from floodline.volumes.layer import Layer


def samples(count: int, seed: int = 0) -> pd.DataFrame:
    """Contacts of which contrast and overlap say, with noise, whether they lie inside a neuron."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({name: rng.uniform(0.1, 1, count) for name in EDGE_COLUMNS})
    table = table.assign(contact_area=rng.integers(10, 5000, count), voxels_a=5000, voxels_b=8000)
    others = ["neighbour_a", "neighbour_b", "pass_a", "pass_b", "flood_voxels", "neighbour_voxels"]
    table[["flood_b", *others]] = 0.0
    table[MEASURED] = np.nan
    evidence = 6 * table["flood_a"] - 8 * table["contrast"] + rng.normal(0, 1, count)
    return table.assign(same=evidence > 0, neuron=rng.integers(0, 40, count), weight=1.0)


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_a_model_learns_and_its_file_says_it_all(tmp_path, kind):
    model = fit.fit(samples(600), Fit(kind=kind), seed=3)
    unseen = samples(400, seed=1)
    score = model.score(unseen)
    assert roc_auc_score(unseen["same"], score) > 0.9
    write_json(tmp_path / "model.json", model.plain())
    np.testing.assert_allclose(Model.load(tmp_path / "model.json").score(unseen), score, rtol=1e-12)


def test_boosted_trees_are_those_of_scikit_learn(monkeypatch):
    from sklearn import ensemble

    trained = []

    class Kept(ensemble.GradientBoostingClassifier):
        def fit(self, *arguments):
            trained.append(self)
            return super().fit(*arguments)

    monkeypatch.setattr(ensemble, "GradientBoostingClassifier", Kept)
    known = samples(300).assign(weight=lambda table: table["contact_area"] / 1000)
    model = fit._train(known, Fit(kind="boosted"), 3)
    unseen = samples(200, seed=1)
    rows = fit.inputs(unseen)[model.features].to_numpy()
    np.testing.assert_allclose(model.score(unseen), trained[0].predict_proba(rows)[:, 1], rtol=1e-9)


def test_a_score_is_the_same_whichever_supervoxel_is_called_a():
    model = fit.fit(samples(300), Fit(), seed=3)
    unseen = samples(50, seed=1)
    sides = {"a": "b", "b": "a"}
    swapped = unseen.rename(
        columns=lambda name: (
            f"{sides[name[0]]}_recovers_{sides[name[-1]]}" if "_recovers_" in name
            else name[:-1] + sides[name[-1]] if name[-2:] in ("_a", "_b") else name
        )
    )  # fmt: skip
    np.testing.assert_allclose(model.score(unseen), model.score(swapped))


def test_calibration_counts_what_is_inside_neurons():
    same = np.array([False, False, True, True, True, False])
    found = fit.calibration(same, np.array([0.05, 0.02, 0.95, 0.97, 0.05, np.nan]))
    assert found["contacts"] == 5
    assert [(one["contacts"], one["inside_neurons"]) for one in found["bins"]] == [(3, 1 / 3), (2, 1.0)]
    assert found["bins"][0]["mean_score"] == pytest.approx(0.04)


def test_calibration_is_of_contacts_that_the_model_had_not_seen():
    noise = samples(400).assign(same=np.random.default_rng(5).random(400) < 0.3)
    found = fit.fit(noise, Fit(kind="boosted"), seed=3)
    assert abs(found.about["calibration"]["auc"] - 0.5) < 0.12, "nothing can be learnt here"
    assert roc_auc_score(noise["same"], found.score(noise)) > 0.8, "but much can be learnt by heart"


def test_labels_say_which_contacts_lie_inside_neurons():
    contacts = pd.DataFrame({"a": [1, 1, 2, 3], "b": [2, 3, 3, 4], "x": [1, 1, 1, 99], "y": 1, "z": 1})
    # 1 and 2 are of neuron 7; 3 of 8; 4 of both.
    truth = np.repeat([7, 7, 8, 7, 8, 0], [400, 300, 350, 200, 200, 1000])
    supervoxels = np.repeat([1, 2, 3, 4, 4, 1], [400, 300, 350, 200, 200, 1000])
    table = tabulate(truth, supervoxels)
    box = Box((0, 0, 0), (50, 50, 50))
    found = fit.labelled(contacts, table, [box], Fit())
    assert found[["a", "b", "same", "neuron"]].to_numpy().tolist() == [
        [1, 2, True, 7], [1, 3, False, 8], [2, 3, False, 7]
    ]  # fmt: skip
    assert fit.labelled(contacts, table, [box], Fit(min_voxels=320))[["a", "b"]].to_numpy().tolist() == [[1, 3]]
    assert 4 in fit.labelled(contacts, table, [Box((0, 0, 0), (100, 9, 9))], Fit(min_purity=0.5))["b"].tolist()


# --- the stage -------------------------------------------------------------------------------------------------------


def labelled_experiment(folder: Path, **agglomeration: object) -> Experiment:
    """The slabs of test_solvers with labels."""
    experiment = prepared(folder, None)
    tree = experiment.config.model_dump(mode="json")
    tree |= {"labels": {"source": {"kind": "phantom"}}, "agglomeration": agglomeration}
    (folder / "config.yaml").write_text(config.dump(config.parse(tree)))
    experiment = Experiment(folder)
    labels = Layer.create(
        experiment.layer("labels"), box=experiment.image_box, dtype="uint64", voxel_size_nm_xyz=(8, 8, 8),
        chunk_size_xyz=CHUNK, kind="segmentation",
    )  # fmt: skip
    labels.write(experiment.image_box, np.ones(experiment.image_box.shape_zyx, np.uint64))
    return experiment


def test_too_few_labelled_contacts_are_one_sentence(tmp_path):
    experiment = labelled_experiment(tmp_path, fit={"boxes_xyz": [[[0, 0, 0], [24, 8, 8]]]})
    graph.run(experiment)
    with pytest.raises(FloodlineError, match="only 3 labelled contacts lie inside a neuron and 0 between two"):
        fit.run(experiment)
    assert not (experiment.agglomeration / "model.json").exists()


def test_a_box_outside_the_labels_is_one_sentence(tmp_path):
    experiment = labelled_experiment(tmp_path, fit={"boxes_xyz": [[[0, 0, 0], [25, 8, 8]]]})
    with pytest.raises(FloodlineError, match=r"fit\.boxes_xyz: x 0\.\.25 .* reaches outside the labels"):
        fit.run(experiment)


def test_a_configured_model_scores_the_contacts(tmp_path):
    path = tmp_path / "model.json"
    write_json(path, fit.fit(samples(300), Fit(), seed=3).plain())
    experiment = labelled_experiment(tmp_path / "run", model=str(path))
    for step in (graph, edges, solve):
        step.run(experiment)
    table = pd.read_parquet(experiment.agglomeration / "edges.parquet")
    np.testing.assert_allclose(table["score"], Model.load(path).score(table))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "else"}, 'its format is "else"'),
        ({"features": ["smell"]}, "it asks for the feature smell, which is unknown"),
        ({"weights": "many"}, "no model of `floodline agglomerate fit`"),
    ],
)
def test_a_file_that_is_no_model_is_one_sentence(tmp_path, change, sentence):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(fit.fit(samples(200), Fit(), seed=3).plain() | change))
    with pytest.raises(FloodlineError, match=sentence):
        Model.load(path)
