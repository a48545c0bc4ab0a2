"""Resegmentation: what floods of a small network measure at a decision point, the published rule, and resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from floods import write_floods
from small_floods import FLOOD, NETWORK, random_weights

from floodline import config
from floodline.agglomeration import edges, graph, resegment
from floodline.assembly import run as assembly
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn import weights

SHAPE = (24, 24, 48)
WANTED = {
    "undecided": [0, 1],
    "min_voxels": 100,
    "radius_xyz": [14, 11, 11],
    "analysis_radius_xyz": [5, 4, 4],
    "contact_exclusion_xyz": [2, 2, 2],
    "attempt_exclusion_xyz": [2, 2, 2],
}


def two_rods(membrane: bool) -> tuple[np.ndarray, np.ndarray]:
    """A bright rod along x, cut in two supervoxels at x 24; a true membrane lies there, or none."""
    image = np.full(SHAPE, 30, np.uint8)
    image[8:16, 8:16, 2:46] = 200
    labels = np.zeros(SHAPE, np.int64)
    labels[8:16, 8:16, 2:23], labels[8:16, 8:16, 25:46] = 1, 2
    if membrane:
        image[:, :, 22:26] = 30
    return labels, image


def sees_brightness(experiment: Experiment) -> weights.Weights:
    """The network of small_floods without what is random in it: bright voxels are inside, dark ones are membranes."""
    made = random_weights(experiment)
    for name, array in made.items():
        is_path = np.abs(array) >= 0.9
        made[name] = np.where(is_path, np.rint(array), 0).astype(np.float32)
    return made


def prepared(
    folder: Path, membrane: bool, contrast: float = 1, masks=(), inference: dict | None = None, **wanted: object
) -> Experiment:
    from floods import make_experiment

    labels, image = two_rods(membrane)
    image = (contrast * image).astype(np.uint8)
    keys = {"subvolume_size_xyz": SHAPE[::-1], "precision": "float32", "flood": FLOOD, **(inference or {})}
    experiment = make_experiment(
        folder, image, SHAPE[::-1], (1, 1, 1), network=NETWORK, masks=list(masks), inference=keys,
        agglomeration={"resegmentation": WANTED | wanted},
    )  # fmt: skip
    weights.save_model(experiment.model, sees_brightness(experiment), {})
    (box,) = experiment.subvolumes
    write_floods(experiment, {box: labels})
    assembly.run(experiment)
    graph.run(experiment)
    return experiment


def resegmented(experiment: Experiment) -> pd.DataFrame:
    resegment.run(experiment)
    return pd.read_parquet(experiment.agglomeration / "resegmentation.parquet")


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Experiment:
    """A rod that was cut falsely."""
    return prepared(tmp_path_factory.mktemp("cut"), membrane=False)


def test_either_flood_of_a_rod_that_was_cut_covers_both_pieces(cut):
    (row,) = resegmented(cut).to_dict("records")
    assert (row["a"], row["b"]) == (1, 2)
    assert row["iou"] > 0.9
    assert min(row[f"{one}_recovers_{other}"] for one in "ab" for other in "ab") > 0.8
    assert row["calls"] > 2
    assert row["depth_a"] >= 4, "half of the rod's 8 voxels, or more where the box cuts it off"
    edges.run(cut)
    (scored,) = pd.read_parquet(cut.agglomeration / "edges.parquet").to_dict("records")
    assert scored["score"] == edges.SURE


def test_a_membrane_keeps_the_floods_apart(tmp_path):
    experiment = prepared(tmp_path, membrane=True)
    (row,) = resegmented(experiment).to_dict("records")
    assert row["a_recovers_a"] > 0.6 and row["b_recovers_b"] > 0.6
    assert row["a_recovers_b"] == row["b_recovers_a"] == 0
    assert row["iou"] < 0.1
    edges.run(experiment)
    (scored,) = pd.read_parquet(experiment.agglomeration / "edges.parquet").to_dict("records")
    assert scored["score"] == 1 - edges.SURE


def test_a_mask_keeps_the_floods_apart_as_it_did_before(tmp_path):
    wall = {"kind": "box", "boxes_xyz": [[[19, 0, 0], [29, 24, 24]]], "closed_to": ["floods"]}
    (row,) = resegmented(prepared(tmp_path, membrane=False, masks=[wall])).to_dict("records")
    assert row["a_recovers_a"] > 0 and row["b_recovers_b"] > 0
    assert row["a_recovers_b"] == row["b_recovers_a"] == 0


def test_the_floods_see_the_image_as_those_before_did(tmp_path):
    """A dark image, matched to the histogram of a bright one that the network knows."""
    _, bright = two_rods(membrane=False)
    np.save(tmp_path / "bright.npy", np.bincount(bright.ravel(), minlength=256))
    known = {"image_mean": 115, "image_stddev": 85}
    matched = {**known, "reference_histogram": str(tmp_path / "bright.npy")}
    rows = []
    for name, inference in (("as it is", known), ("matched", matched)):
        experiment = prepared(tmp_path / name, membrane=False, contrast=0.3, inference=inference)
        rows += resegmented(experiment).to_dict("records")
    assert not rows[0]["iou"] > 0
    assert rows[1]["iou"] > 0.9


def test_only_undecided_contacts_of_large_supervoxels_are_flooded(tmp_path):
    experiment = prepared(tmp_path, membrane=False, min_voxels=10**6)
    assert resegmented(experiment).empty
    edges.run(experiment)
    (scored,) = pd.read_parquet(experiment.agglomeration / "edges.parquet").to_dict("records")
    assert np.isnan(scored["iou"]) and 0 < scored["score"] < 1


def test_contacts_that_are_done_are_not_flooded_again_after_an_interruption(cut, monkeypatch):
    expected = resegmented(cut)

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(resegment, "write_table", killed)
    with pytest.raises(Killed):
        resegment.run(cut)
    assert not (cut.agglomeration / "resegmentation.parquet").exists()
    monkeypatch.undo()
    monkeypatch.setattr(resegment, "measure", killed)
    pd.testing.assert_frame_equal(resegmented(cut), expected)


MEASURED_BY_HAND = {
    "iou": 0.9, "a_recovers_a": 0.7, "a_recovers_b": 0.7, "b_recovers_a": 0.7, "b_recovers_b": 0.7,
    "deleted_a": 0.01, "deleted_b": 0.5, "depth_a": 9.0, "depth_b": 9.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, True),
        ({"iou": 0.8}, False),
        ({"a_recovers_b": 0.6}, False),
        ({"b_recovers_b": 0.5}, False),
        ({"deleted_a": 0.02}, False),
        ({"deleted_a": 0.02, "deleted_b": 0.0}, True),
        ({"b_recovers_a": np.nan, "b_recovers_b": np.nan, "iou": np.nan}, False),
    ],
)
def test_the_published_rule(change, verdict):
    assert resegment.accepted(pd.DataFrame([MEASURED_BY_HAND | change])).tolist() == [verdict]


def test_without_a_configuration_it_is_one_sentence(tmp_path):
    experiment = prepared(tmp_path, membrane=False)
    tree = experiment.config.model_dump(mode="json")
    tree["agglomeration"]["resegmentation"] = None
    (tmp_path / "config.yaml").write_text(config.dump(config.parse(tree)))
    with pytest.raises(FloodlineError, match=r"agglomeration\.resegmentation is null"):
        resegment.run(Experiment(tmp_path))
