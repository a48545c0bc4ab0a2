"""Inference survives: killed at any moment and started again, it writes the bytes of a run that nothing interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_floods

from floodline.experiment import Experiment
from floodline.inference.parameters import parameters_of
from floodline.inference.subvolume import FORWARD, REVERSE
from floodline.manifest import hash_of, read_block

KEYS: dict[str, Any] = {
    "checkpoint_seconds": 0.01,
    "consensus": "split",
    "consensus_min_size": 20,
    "seeds": [{"policy": "grid", "step": 12, "offsets": [8]}, {"policy": "peaks"}],
}


class Nursery:
    """The program that floods in children, which it kills."""

    def __init__(self) -> None:
        # One thread, so that sums are added up in the same order in every child.
        environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("nursery.py")],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def flood(
        self, experiment: Experiment, kill_after: float | None = None, largest_file: int | None = None
    ) -> dict[str, Any]:
        order = {"folder": str(experiment.folder), "kill_after": kill_after, "largest_file": largest_file}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    program = Nursery()
    yield program
    program.end()


@pytest.fixture(scope="module")
def undisturbed(children, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """The blocks of a run that nothing interrupts, and how long it takes."""
    experiment = small_floods.make(tmp_path_factory.mktemp("undisturbed"), 2, **KEYS)
    end = children.flood(experiment)
    assert end["status"] == 0, end
    return blocks_of(experiment), end["seconds"]


def folder_of_blocks(experiment: Experiment) -> Path:
    return experiment.block(experiment.subvolumes[0]).parent


def blocks_of(experiment: Experiment) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder_of_blocks(experiment).glob("*.block")}


def assert_whole(experiment: Experiment, expected: dict[str, bytes]) -> None:
    assert blocks_of(experiment) == expected
    assert experiment.manifest("inference").is_file()
    names = {path.name for path in folder_of_blocks(experiment).iterdir()}
    assert names == {*expected, *(name.replace(".block", ".times.json") for name in expected)}, "nothing is left over"


def calls_in(state: dict[str, np.ndarray]) -> int:
    """Network calls that a checkpoint holds."""
    return dict(zip(state["count_names"].tolist(), state["counts"].tolist(), strict=True)).get("network_calls", 0)


def kept(experiment: Experiment) -> list[tuple[int, int]]:
    """How far each sub-volume's kept work reaches: blocks and passes that are done, then network calls."""
    progress = []
    for box in experiment.subvolumes:
        path = experiment.block(box)
        done = [suffix for suffix in (FORWARD, REVERSE) if path.with_suffix(suffix).is_file()]
        if path.is_file():
            progress.append((3, 0))
        else:
            under_way = hash_of([parameters_of(experiment), REVERSE if done else FORWARD])
            state = read_block(path.with_suffix(".checkpoint"), under_way)
            progress.append((len(done), calls_in(state) if state else 0))
    return progress


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_moments_it_ends_with_the_same_bytes(children, undisturbed, tmp_path, seed):
    expected, seconds = undisturbed
    experiment = small_floods.make(tmp_path, 2, **KEYS)
    rng = np.random.default_rng(seed)
    kills, reached = 0, [(0, 0)] * len(experiment.subvolumes)
    for _ in range(20):
        end = children.flood(experiment, kill_after=float(rng.uniform(0.1, 0.6) * seconds))
        if end["status"] == 0 and kills:
            break
        if end["status"] == 0:
            # The machine was busier when the time was taken: begin again, and kill sooner.
            shutil.rmtree(experiment.inference)
            seconds /= 2
            continue
        assert end["status"] == -signal.SIGKILL, end
        kills += 1
        before, reached = reached, kept(experiment)
        assert all(later >= earlier for earlier, later in zip(before, reached, strict=True)), "nothing kept is lost"
    assert kills > 0
    assert children.flood(experiment)["status"] == 0
    assert_whole(experiment, expected)


def infer(experiment: Experiment) -> subprocess.Popen[str]:
    """The command, with two workers of one thread each."""
    program = [Path(sys.executable).with_name("floodline"), "infer", experiment.folder, "--workers", "2"]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("killed", ["leader", "worker"])
def test_of_several_processes_any_one_may_be_killed(undisturbed, tmp_path, killed):
    expected, _ = undisturbed
    experiment = small_floods.make(tmp_path, 2, **KEYS)
    job = infer(experiment)
    deadline = time.monotonic() + 120
    while not list(folder_of_blocks(experiment).glob("*.checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.01)
    if killed == "leader":
        job.kill()
    else:
        children = subprocess.run(["pgrep", "-f", "-P", str(job.pid), "spawn_main"], capture_output=True, text=True)
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    said, _ = job.communicate(timeout=120)
    if killed == "worker":
        assert "\nfloodline: a worker process ended in the middle of its work (signal 9" in said
    assert "Traceback" not in said
    # At once: what a killed leader's workers still do must not harm the next run.
    said, _ = infer(experiment).communicate(timeout=240)
    assert "Traceback" not in said
    assert_whole(experiment, expected)


@pytest.mark.parametrize("largest_file", [0, 300, 20_000, 70_000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(children, undisturbed, tmp_path, largest_file):
    expected, _ = undisturbed
    experiment = small_floods.make(tmp_path, 2, **KEYS)
    end = children.flood(experiment, largest_file=largest_file)
    assert end["status"] == 1, end
    assert end["said"].startswith("cannot write ")
    assert "\n" not in end["said"]
    assert not experiment.manifest("inference").is_file()
    folder = folder_of_blocks(experiment)
    parameters = parameters_of(experiment)
    for path in folder.iterdir() if folder.is_dir() else []:
        assert path.suffix != ".partial"
        if path.suffix == ".block":
            assert read_block(path, parameters) is not None
    assert children.flood(experiment)["status"] == 0
    assert_whole(experiment, expected)
