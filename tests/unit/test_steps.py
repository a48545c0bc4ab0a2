"""The box-by-box stages: the same bytes whoever does which task when, and after any interruption."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import deque
from functools import partial
from pathlib import Path

import cc3d
import numpy as np
import pytest
import stages_on_ranks
from floods import make_experiment, write_floods
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floodline import pool
from floodline.agglomeration import graph, neurons
from floodline.allocation import OutOfTime
from floodline.assembly import run as assembly
from floodline.errors import FloodlineError
from floodline.evaluation import scan
from floodline.experiment import Experiment
from floodline.labels import coordinates, held_out, partitions
from floodline.manifest import read_block, write_json
from floodline.parallel import LAUNCHER_ENVIRONMENT
from floodline.steps import Steps, do
from floodline.volumes.layer import Layer


@pytest.fixture(scope="module")
def given_files(tmp_path_factory) -> Path:
    """An experiment of many small boxes with labels and a flooded block store."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(5)
    coarse = np.kron(rng.integers(0, 4, (4, 5, 6)), np.ones((6, 5, 4), int)).astype(np.uint32)
    whole = cc3d.connected_components(coarse, connectivity=6).astype(np.uint64)
    experiment = make_experiment(
        folder,
        rng.integers(0, 255, whole.shape).astype(np.uint8),
        (14, 15, 13),
        (4, 3, 5),
        labels={"source": {"kind": "phantom"}},
        sites={"min_size": 30, "lom_radius_xyz": [2, 2, 2], "held_out_xyz": [[[0, 0, 17], [24, 25, 24]]]},
        agglomeration={"grow": {"voxels": 2.0}},
        evaluation={"bootstrap_samples": 0, "worst": 0},
    )
    flooded = {}
    for box in experiment.subvolumes:
        here = whole[box.slices_zyx()] * (rng.random(box.shape_zyx) > 0.1)
        flooded[box] = cc3d.connected_components(np.ascontiguousarray(here), connectivity=6)
    write_floods(experiment, flooded)
    layer = Layer.create(
        experiment.layer("labels"),
        box=experiment.image_box,
        dtype="uint64",
        voxel_size_nm_xyz=(8, 8, 8),
        chunk_size_xyz=(8, 8, 8),
        kind="segmentation",
    )
    layer.write(experiment.image_box, whole)
    about = {"box_xyz": experiment.image_box.corners, "voxel_size_nm_xyz": [8, 8, 8]}
    write_json(experiment.manifest("labels"), {**about, "boxes_xyz": [about["box_xyz"]]})
    return folder


@pytest.fixture(autouse=True)
def small_boxes(monkeypatch):
    monkeypatch.setattr(partitions, "BLOCK_XYZ", (9, 10, 11))
    for stage in (coordinates, held_out):
        monkeypatch.setattr(stage, "BLOCK_XYZ", stages_on_ranks.SLABS_XYZ)
    monkeypatch.setattr(graph, "BOX_SIZE_XYZ", (9, 10, 11))
    monkeypatch.setattr(scan, "BLOCK_XYZ", (9, 10, 11))
    for stage in (assembly, neurons):
        monkeypatch.setattr(stage, "WRITTEN_AT_ONCE", 8)


def results(folder: Path) -> dict[str, bytes]:
    """Every file that the stages leave; CloudVolume's `provenance` holds the time."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "provenance"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def expected(given_files, tmp_path_factory) -> dict[str, bytes]:
    """What one process makes with boxes larger than the volume."""
    folder = tmp_path_factory.mktemp("expected") / "one"
    shutil.copytree(given_files, folder)
    stages_on_ranks.run(folder)
    return results(folder)


# --- the law ---------------------------------------------------------------------------------------------------------


class Shuffled:
    """Workers that take and report tasks in an order that is drawn, and an allocation that ends after some tasks."""

    def __init__(self, crew: pool.Crew, data: st.DataObject, allocations: list[int]) -> None:
        self.workers = [pool._Worker(crew) for _ in range(data.draw(st.integers(1, 4)))]
        self.data, self.left = data, deque(allocations)

    def hand_out(self, tasks):
        tasks = list(tasks)
        for number in self.data.draw(st.permutations(range(len(tasks)))):
            if self.left and self.left[0] == 0:
                raise OutOfTime
            yield self.data.draw(st.sampled_from(self.workers)).do(tasks[number])
            if self.left:
                self.left[0] -= 1


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_order_any_workers_and_any_interruption_give_the_same_bytes(given_files, expected, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("shuffled") / "one"
    shutil.copytree(given_files, folder)

    def shuffled(crew, lead, workers):
        allocations = data.draw(st.lists(st.integers(0, 40), max_size=3))
        while True:
            team = Shuffled(crew, data, allocations[:1])
            try:
                lead(team.hand_out)
                return
            except OutOfTime:
                allocations.pop(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "run", shuffled)
        stages_on_ranks.run(folder)
    assert results(folder) == expected


def test_processes_of_this_machine_give_the_same_bytes(given_files, expected, tmp_path):
    shutil.copytree(given_files, tmp_path / "one")
    stages_on_ranks.run(tmp_path / "one", workers=2)
    assert results(tmp_path / "one") == expected


def test_ranks_of_a_launcher_give_the_same_bytes(given_files, expected, tmp_path):
    shutil.copytree(given_files, tmp_path / "one")
    command = [Path(sys.executable).parent / "mpirun", "-n", "3", sys.executable, stages_on_ranks.__file__]
    run = subprocess.run(
        [*command, tmp_path / "one"], env={**os.environ, **LAUNCHER_ENVIRONMENT}, text=True, capture_output=True
    )
    assert run.returncode == 0, run.stderr
    assert results(tmp_path / "one") == expected


# --- what is kept ----------------------------------------------------------------------------------------------------


def square(number: int, done: list[int]) -> dict[str, np.ndarray]:
    done.append(number)
    return {"square": np.array(number**2)}


def squares(folder: Path, parameters: str, done: list[int], most: int = 100) -> list[int]:
    """A stage of ten tasks, of which so many are done before the allocation ends."""
    found: list[int] = []

    def lead(hand_out):
        def limited(tasks):
            for count, result in enumerate(hand_out(tasks)):
                if count == most:
                    raise OutOfTime
                yield result

        with Steps(folder, parameters, limited) as todo:
            makes = {str(number): partial(square, number) for number in range(10)}
            found.extend(int(one["square"]) for one in todo.do("squares", makes))

    pool.run(pool.Crew(lambda: done, do), lead)
    return found


def test_what_was_done_before_an_interruption_is_not_done_again(tmp_path):
    done: list[int] = []
    with pytest.raises(OutOfTime):
        squares(tmp_path / "kept", "a", done, most=6)
    before = list(done)
    assert 6 <= len(before) < 10
    assert squares(tmp_path / "kept", "a", done) == [number**2 for number in range(10)]
    assert sorted(done) == list(range(10))
    assert not (tmp_path / "kept").exists()


def test_what_was_kept_of_other_parameters_is_forgotten(tmp_path):
    done: list[int] = []
    with pytest.raises(OutOfTime):
        squares(tmp_path / "kept", "a", done, most=6)
    done.clear()
    squares(tmp_path / "kept", "b", done)
    assert sorted(done) == list(range(10))


def test_a_damaged_result_is_made_again(tmp_path):
    done: list[int] = []
    with pytest.raises(OutOfTime):
        squares(tmp_path / "kept", "a", done, most=6)
    path = tmp_path / "kept" / "squares" / "3"
    assert read_block(path) is not None
    path.write_bytes(path.read_bytes()[:-1])
    assert squares(tmp_path / "kept", "a", done) == [number**2 for number in range(10)]
    assert done.count(3) == 2 and len(done) == 11


def test_a_failing_box_is_one_sentence_and_the_others_are_kept(given_files, tmp_path):
    shutil.copytree(given_files, tmp_path / "one")
    experiment = Experiment(tmp_path / "one")
    assembly.run(experiment)
    (chunk,) = experiment.layer("supervoxels").glob("*/16-24_24-25_16-24")
    content = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(FloodlineError, match="lacks chunks of"):
        graph.run(experiment)
    assert list((experiment.unfinished("graph") / "measure").iterdir())
    chunk.write_bytes(content)
    graph.run(experiment)
    assert not experiment.unfinished("graph").exists()
