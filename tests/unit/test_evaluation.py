"""The evaluation stage: records for each segmentation, box and convention."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage import metrics

from floodline import config
from floodline.errors import FloodlineError
from floodline.evaluation import run, scan
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import write_json
from floodline.volumes.layer import Layer

START_XYZ = (10, -20, 5)
KEYS = {
    "segmentation", "box_name", "box_xyz", "convention", "coverage", "voxels", "voi_split", "voi_merge",
    "adapted_rand_error", "precision", "recall", "rand_error", "cremi",
}  # fmt: skip


def experiment_with(folder, layers, **evaluation):
    """An experiment's folder with layers of the given arrays, all at START_XYZ."""
    values = {
        "name": "tiny",
        "image": {"source": {"kind": "phantom"}},
        "labels": {"source": {"kind": "phantom"}},
        "training": {},
        "evaluation": evaluation,
    }
    (folder / "config.yaml").write_text(config.dump(config.parse(values)))
    experiment = Experiment(folder)
    for name, array in layers.items():
        box = Box.of_array(array.shape, START_XYZ)
        layer = Layer.create(
            experiment.layer(name),
            box=box,
            dtype="uint64",
            voxel_size_nm_xyz=(8, 8, 8),
            chunk_size_xyz=(64, 64, 64),
            kind="segmentation",
        )
        layer.write(box, array.astype(np.uint64))
        write_json(experiment.manifest(name), {"box_xyz": box.corners, "voxel_size_nm_xyz": [8, 8, 8]})
    return experiment


@pytest.fixture
def layers():
    """Truth with unlabelled voxels; supervoxels with splits, mergers and gaps; neurons that are perfect."""
    rng = np.random.default_rng(5)
    truth = np.kron(rng.integers(0, 6, (4, 4, 4)), np.ones((6, 5, 4), int))
    supervoxels = np.kron(rng.integers(0, 9, (3, 4, 5)), np.ones((8, 5, 4), int))[:, :, :16]
    return {"labels": truth, "supervoxels": supervoxels, "neurons": truth + 2**60 * (truth > 0)}


def read(experiment):
    return json.loads(experiment.metrics.read_text())


def test_each_segmentation_box_and_convention_has_its_record(tmp_path, layers):
    corners = [[12, -18, 6], [25, -5, 20]]
    experiment = experiment_with(tmp_path, layers, boxes=[{"name": "held_out", "box_xyz": corners}])
    run.run(experiment)
    records = read(experiment)
    assert [(r["segmentation"], r["convention"]) for r in records] == [
        ("supervoxels", "labelled_by_both"),
        ("supervoxels", "all_labelled"),
        ("neurons", "labelled_by_both"),
        ("neurons", "all_labelled"),
    ]
    cut = Box.of(corners).slices_zyx(START_XYZ)
    truth, supervoxels = layers["labels"][cut], layers["supervoxels"][cut]
    for record in records:
        assert record.keys() >= KEYS
        assert record["box_name"] == "held_out"
        assert record["box_xyz"] == corners
    for record, counted in zip(records[:2], [(truth > 0) & (supervoxels > 0), truth > 0], strict=True):
        split, merge = metrics.variation_of_information(truth[counted], supervoxels[counted])
        error, recall, precision = metrics.adapted_rand_error(truth[counted], supervoxels[counted], ignore_labels=())
        assert record["voxels"] == counted.sum()
        assert record["coverage"] == pytest.approx((supervoxels[truth > 0] > 0).mean())
        assert (record["voi_split"], record["voi_merge"]) == pytest.approx((split, merge))
        assert (record["adapted_rand_error"], record["precision"], record["recall"]) == pytest.approx(
            (error, precision, recall)
        )
    for record in records[2:]:
        assert record["adapted_rand_error"] == record["voi_split"] == record["voi_merge"] == record["cremi"] == 0
        assert record["coverage"] == 1


def test_scores_do_not_depend_on_the_blocks(tmp_path, layers, monkeypatch):
    experiment = experiment_with(tmp_path, layers)
    run.run(experiment)
    whole, worst_of_whole = read(experiment), json.loads((tmp_path / "evaluation" / "worst.json").read_text())
    monkeypatch.setattr(scan, "BLOCK_XYZ", (7, 5, 9))
    monkeypatch.setattr(scan, "TILE_XYZ", (4, 5, 3))
    run.run(experiment)
    in_blocks = read(experiment)
    for record in whole + in_blocks:
        del record["intervals"]  # over tiles, so these do depend on them
    assert in_blocks == whole
    sizes = [(m["kind"], m["neurons"], m["segments"], m["voxels"]) for m in worst_of_whole]
    of_blocks = json.loads((tmp_path / "evaluation" / "worst.json").read_text())
    assert [(m["kind"], m["neurons"], m["segments"], m["voxels"]) for m in of_blocks] == sizes


def test_without_boxes_all_that_is_labelled_is_scored(tmp_path, layers):
    # The labels cover only a part of what was segmented.
    part = {**layers, "labels": layers["labels"][:10]}
    experiment = experiment_with(tmp_path, part)
    run.run(experiment)
    records = read(experiment)
    assert {record["box_name"] for record in records} == {"all"}
    assert records[0]["box_xyz"] == Box.of_array(part["labels"].shape, START_XYZ).corners


def test_shuffled_labels_score_worse(tmp_path, layers):
    shuffled = np.random.default_rng(0).permutation(layers["labels"].ravel()).reshape(layers["labels"].shape)
    experiment = experiment_with(tmp_path, {**layers, "labels": shuffled})
    run.run(experiment)
    neurons = read(experiment)[-1]
    assert neurons["segmentation"] == "neurons"
    assert neurons["adapted_rand_error"] > 0.5
    assert neurons["voi_split"] > 1
    assert neurons["voi_merge"] > 1


def test_an_empty_segmentation_has_coverage_0_and_no_score_over_voxels_labelled_by_both(tmp_path, layers):
    experiment = experiment_with(tmp_path, {**layers, "neurons": np.zeros_like(layers["labels"])})
    run.run(experiment)
    both, all_labelled = read(experiment)[2:]
    assert both["coverage"] == all_labelled["coverage"] == 0
    assert both["voxels"] == 0
    assert both["voi_split"] is both["adapted_rand_error"] is None
    assert all_labelled["recall"] == 1  # one object of all
    assert all_labelled["precision"] < 0.5


def test_without_labels_the_list_is_empty(tmp_path, layers):
    experiment = experiment_with(tmp_path, {})
    values = {
        "name": "tiny",
        "image": {"source": {"kind": "phantom"}},
        "network": {"weights": "some/where"},
    }
    (tmp_path / "config.yaml").write_text(config.dump(config.parse(values)))
    run.run(Experiment(experiment.folder))
    assert read(experiment) == []


@pytest.mark.parametrize(
    ("corners", "sentence"),
    [
        ([[10, -20, 5], [26, 0, 30]], "far is x 10..26 y -20..0 z 5..30, but the labels cover only .* z 5..29"),
        ([[10, -20, 5], [12, -18, 7]], "0 everywhere"),
    ],
)
def test_an_impossible_box_is_one_sentence_and_leaves_no_scores(tmp_path, layers, corners, sentence):
    layers["labels"][:2, :2, :2] = 0
    experiment = experiment_with(tmp_path, layers, boxes=[{"name": "far", "box_xyz": corners}])
    write_json(experiment.metrics, [])
    with pytest.raises(FloodlineError, match=sentence):
        run.run(experiment)
    assert not experiment.metrics.exists()
