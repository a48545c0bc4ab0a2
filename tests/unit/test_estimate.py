"""The estimate: arithmetic on what the configuration, the profile and the measured rates say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodline import config as configuration
from floodline import estimate
from floodline.errors import FloodlineError
from floodline.estimate import Given, Stage
from floodline.experiment import Experiment
from floodline.ffn import rate
from floodline.ffn.precision import of_inference
from floodline.geometry import Box, tile
from floodline.manifest import write_block, write_json, write_text

RATES = {"inference": 10.0, "training": 4.0}


def experiment_of(folder: Path, **values: object) -> Experiment:
    """An experiment of which nothing is there but its configuration."""
    source = {"kind": "phantom", "size_xyz": [400, 300, 200]}
    tree = {"name": "one", "image": {"source": source}, "labels": {"source": source}, "training": {}, **values}
    write_text(folder / "config.yaml", configuration.dump(configuration.parse(tree)))
    return Experiment(folder)


def tuned(folder: Path, experiment: Experiment, runtime: str = "tensorflow") -> None:
    way = {"runtime": runtime, "precision": of_inference(experiment.config.inference)}
    network = experiment.config.network.without_weights()
    write_json(folder / "tune.json", {"fov_per_second": RATES, "cores": 2, "network": network, **way})


def stage(experiment: Experiment, rule: str, calls: float = 0.001) -> Stage:
    return next(one for one in estimate.stages(experiment, RATES, calls) if one.rule == rule)


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_ranks_work_in_rounds():
    ten = Stage("flood", jobs=3, tasks=10, core_seconds=3600.0, read=0, written=0)
    line = estimate.line(ten, Given(nodes=2, ranks=4, cores=2.0, minutes=None, queue="", limits=""))
    # Three rounds of half an hour each.
    assert line.seconds == pytest.approx(3 * 1800 + estimate.STARTING_SECONDS)
    assert line.node_hours == pytest.approx(3 * 2 * line.seconds / 3600)
    assert line.jobs == 3


def test_smaller_first_views_count_by_their_voxels(tmp_path):
    first = {"fov_xyz": [11, 33, 33], "deltas_xyz": [5, 8, 8], "fovs": 600}
    experiment = experiment_of(tmp_path, training={"fovs": 1000, "batch_size": 4, "first_views": [first]})
    assert stage(experiment, "train_network").tasks == (600 / 3 + 400) / 4


def test_what_exceeds_the_wall_time_is_submitted_again():
    long = Stage("flood", jobs=2, tasks=1, core_seconds=5 * 3600.0, read=0, written=0)
    line = estimate.line(long, Given(nodes=1, ranks=1, cores=1.0, minutes=120, queue="", limits=""))
    # Of two hours five minutes are left at the end: three times for five hours.
    assert line.jobs == 2 * 3


@given(st.data())
def test_sub_volumes_are_counted_as_they_are_cut(tmp_path_factory, data):
    overlap = data.draw(st.tuples(*[st.integers(1, 20)] * 3))
    size = [data.draw(st.integers(max(o + 1, 33), 150)) for o in overlap]
    shards = data.draw(st.integers(1, 9))
    experiment = experiment_of(
        tmp_path_factory.mktemp("counted"),
        inference={"subvolume_size_xyz": size, "overlap_xyz": overlap, "shards": shards},
    )
    boxes = tile(Box.sized((0, 0, 0), (400, 300, 200)), size, overlap)
    flood = stage(experiment, "flood")
    assert flood.tasks == -(-len(boxes) // min(shards, len(boxes)))
    assert flood.read == sum(box.voxels for box in boxes)
    assert flood.core_seconds == pytest.approx(0.001 * boxes[0].voxels / RATES["inference"])


def test_blocks_take_the_bytes_that_are_told(tmp_path):
    experiment = experiment_of(tmp_path, inference={"subvolume_size_xyz": [400, 300, 200]})
    shape = (200, 300, 400)
    arrays = {"segmentation": np.zeros(shape, np.int32), "qprob": np.zeros(shape, np.uint8)}
    write_block(tmp_path / "block", "parameters", arrays)
    assert stage(experiment, "flood").written == pytest.approx((tmp_path / "block").stat().st_size, rel=0.001)


def test_training_is_divided_between_the_ranks(tmp_path):
    train = stage(experiment_of(tmp_path, training={"fovs": 1000, "batch_size": 4}), "train_network")
    line = estimate.line(train, Given(nodes=1, ranks=5, cores=1.0, minutes=None, queue="", limits=""))
    assert line.seconds == pytest.approx(1000 / (5 * RATES["training"]) + estimate.STARTING_SECONDS)


def test_calls_are_those_of_the_sub_volumes_that_are_there(tmp_path):
    experiment = experiment_of(tmp_path)
    published, _ = estimate.calls_per_voxel(experiment)
    assert published == pytest.approx(estimate.CALLS["efficient"] / 8**3)
    for number, calls in enumerate([30, 50]):
        arrays = {"segmentation": np.zeros((10, 10, 10), np.int32), "count_names": np.array(["network_calls"])}
        write_block(experiment.inference / "blocks" / f"{number}.block", "x", {**arrays, "counts": np.array([calls])})
    assert estimate.calls_per_voxel(experiment) == (0.04, "as in the sub-volumes that are flooded already")


def test_a_consensus_takes_two_passes_and_blocks_hold_the_calls_of_both(tmp_path):
    experiment = experiment_of(tmp_path, inference={"consensus": "split"})
    published, _ = estimate.calls_per_voxel(experiment)
    assert published == pytest.approx(2 * estimate.CALLS["efficient"] / 8**3)
    arrays = {"segmentation": np.zeros((10, 10, 10), np.int32), "count_names": np.array(["network_calls"])}
    write_block(experiment.inference / "blocks" / "0.block", "x", {**arrays, "counts": np.array([30])})
    calls, _ = estimate.calls_per_voxel(experiment)
    in_a_subvolume = 0.03 * 256 * 256 * 200
    assert stage(experiment, "flood", calls).core_seconds == pytest.approx(in_a_subvolume / RATES["inference"])


def test_every_rank_makes_the_steps_of_a_training_that_is_given_in_steps(tmp_path):
    train = stage(experiment_of(tmp_path, training={"steps": 1000, "batch_size": 4}), "train_network")
    line = estimate.line(train, Given(nodes=1, ranks=5, cores=1.0, minutes=None, queue="", limits=""))
    assert line.seconds == pytest.approx(1000 * 4 / RATES["training"] + estimate.STARTING_SECONDS)


def test_labels_are_ingested_for_scores_alone_too(tmp_path):
    experiment = experiment_of(tmp_path, training=None, network={"weights": "none"})
    rules = [one.rule for one in estimate.stages(experiment, RATES, 0.001)]
    assert "ingest_labels" in rules and "metrics" in rules and "partitions" not in rules


def test_a_rate_of_another_runtime_is_not_taken(tmp_path, monkeypatch):
    experiment = experiment_of(tmp_path)
    monkeypatch.setattr(rate, "inference", lambda config: 12.0)
    monkeypatch.setattr(estimate.os, "sched_getaffinity", lambda _: range(4))
    tuned(tmp_path, experiment)
    assert estimate.rates_of(experiment) == {"inference": 5.0, "training": 2.0}
    tuned(tmp_path, experiment, "openvino")
    assert estimate.rates_of(experiment) == {"inference": 3.0, "training": 2.0}


def test_a_profile_says_how_many_cores_a_rank_has():
    asked = {"mpi": "aprun", "tasks": 4096, "nodes": 128, "node_cores": 64, "runtime": 180, "workers": 2}
    assert Given.of(asked) == Given(128, 4096, 2.0, 180, "", "")
    assert Given.of({"mpi": "", "tasks": 1, "workers": 3, "node_cores": 6}).ranks == 3


def test_the_trainings_of_a_study_are_counted_by_their_workers(tmp_path):
    experiment = experiment_of(
        tmp_path,
        training={"fovs": 1000, "batch_size": 4},
        study={"figure": "scaling", "matrix": [{"workers": [1, 8]}, {"training.fovs": [500]}], "seeds": [1, 2, 3]},
    )
    found = [one for one in estimate.stages(experiment, RATES, 0.001) if one.rule == "study_cell"]
    assert [(one.workers, one.jobs, one.tasks) for one in found] == [(1, 3, 250), (8, 3, 250), (1, 3, 125)]
    profile = {"study_cell": {"mpi": "srun", "tasks_a_node": 4, "nodes": 0, "node_cores": 32}}
    assert [(one.given(profile).nodes, one.given(profile).cores) for one in found[:2]] == [(1, 32.0), (2, 8.0)]
    rules = {one.rule for one in estimate.stages(experiment, RATES, 0.001)}
    assert rules == {"ingest_image", "ingest_labels", "partitions", "coordinates", "study_cell"}


# --- the command -----------------------------------------------------------------------------------------------------


def test_every_stage_is_printed(tmp_path, capsys):
    experiment = experiment_of(tmp_path)
    tuned(tmp_path, experiment)
    estimate.run(experiment, {})
    printed = capsys.readouterr().out
    for rule in ("ingest_image", "partitions", "train_network", "flood", "supervoxels", "region_graph", "neurons"):
        assert f"\n{rule} " in printed
    assert "Disk needed: " in printed


def test_what_the_queue_does_not_take_is_refused(tmp_path, capsys):
    experiment = experiment_of(tmp_path)
    asked = {"nodes": 64, "runtime": 60, "queue": "default", "limits": "128-255: 30m-3h", "tasks": 64, "mpi": "aprun"}
    tuned(tmp_path, experiment)
    with pytest.raises(FloodlineError, match="flood: queue default takes jobs of 128-255 nodes, not of 64"):
        estimate.run(experiment, {"flood": asked})
    assert "node-hours" in capsys.readouterr().out


def test_a_stage_of_one_process_must_end_in_one_job(tmp_path):
    source = {"kind": "phantom", "size_xyz": [4000, 3000, 2000]}
    experiment = experiment_of(tmp_path, image={"source": source}, labels={"source": source})
    tuned(tmp_path, experiment)
    with pytest.raises(FloodlineError, match=r"meshes: one process needs 22.2 h, and its job ends after 1 h"):
        estimate.run(experiment, {"meshes": {"runtime": 60}})


def test_a_rate_of_another_network_is_refused(tmp_path):
    experiment = experiment_of(tmp_path)
    tuned(tmp_path, experiment)
    experiment = experiment_of(tmp_path, network={"depth": 3})
    with pytest.raises(FloodlineError, match="was measured with another network"):
        estimate.run(experiment, {})
