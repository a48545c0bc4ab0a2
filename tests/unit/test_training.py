"""Training: the same whatever the number of ranks and of interruptions; whole or absent; clear when it cannot go on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from floodline import config as configuration
from floodline.allocation import END, EXIT_STATUS
from floodline.experiment import Experiment
from floodline.ffn import weights
from floodline.parallel import LAUNCHER_ENVIRONMENT

BIN = Path(sys.executable).parent
CONFIGURATION = {
    "name": "x",
    "seed": 3,
    "image": {"source": {"kind": "phantom", "size_xyz": [48, 48, 48]}},
    "labels": {"source": {"kind": "phantom", "size_xyz": [48, 48, 48]}},
    "storage": {"mips": 0},
    "network": {"depth": 2, "features": 4, "fov_xyz": [9, 9, 9], "deltas_xyz": [2, 2, 2]},
    "sites": {"min_size": 100},
    "training": {
        "fovs": 96,
        "batch_size": 4,
        "learning_rate": {"base": 0.01, "scaling": "none"},
        "precision": "float32",
        "checkpoint_fovs": 32,
        "summary_fovs": 16,
    },
    "inference": {"subvolume_size_xyz": [48, 48, 48]},
}


def command(*arguments: str | Path, ranks: int = 1) -> list[str]:
    launcher = [str(BIN / "mpirun"), "-n", str(ranks)] if ranks > 1 else []
    return [*launcher, str(BIN / "floodline"), *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    # One thread each: how many threads add up a gradient decides the last bits of it.
    return {**os.environ, **LAUNCHER_ENVIRONMENT, "PATH": f"{BIN}:{os.environ['PATH']}",
            "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1", **more}  # fmt: skip


def floodline(*arguments: str | Path, ranks: int = 1, status: int = 0, **more: str) -> str:
    """What the command said; its exit status must be as expected."""
    done = subprocess.run(
        command(*arguments, ranks=ranks), env=environment(**more), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> Path:
    """An experiment's folder with everything that training reads."""
    folder = tmp_path_factory.mktemp("training") / "x"
    configure(folder)
    floodline("ingest", folder)
    floodline("labels", folder)
    return folder


def configure(folder: Path, **changes) -> None:
    """Write the configuration, with other values of its blocks."""
    values = {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value
              for key, value in CONFIGURATION.items()}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def folder(sites, tmp_path) -> Path:
    return Path(shutil.copytree(sites, tmp_path / "x"))


@pytest.fixture(scope="module")
def uninterrupted(sites) -> Path:
    folder = Path(shutil.copytree(sites, sites.with_name("uninterrupted")))
    floodline("train", folder)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (Experiment(folder).training / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_ranks_do_what_one_does_with_twice_the_batch(folder, sites, tmp_path):
    alone = Path(shutil.copytree(sites, tmp_path / "alone"))
    configure(alone, training={"batch_size": 8})
    floodline("train", alone)
    floodline("train", folder, ranks=2)
    one, two = (weights.load(Experiment(path).model) for path in (alone, folder))
    start = floodline_initial(folder)
    for name, values in one.items():
        # 12 steps of Adam at 0.01 move a weight by a tenth; what the order of sums changes is far less.
        assert np.abs(two[name] - values).max() < 1e-3, name
        assert np.abs(values - start[name]).max() > 1e-2, name
    metrics = json.loads((folder / "training/main/metrics.json").read_text())
    assert (metrics["ranks"], metrics["fovs"], metrics["steps"]) == (2, 96, 12)
    assert float(rows(folder)[-1]["loss"]) == pytest.approx(float(rows(alone)[-1]["loss"]), rel=1e-3)


def floodline_initial(folder: Path) -> weights.Weights:
    from floodline.ffn.network import initial_weights

    experiment = Experiment(folder)
    return initial_weights(experiment.config.network, experiment.rng("initial weights"))


def test_the_same_configuration_gives_the_same_bytes(folder, uninterrupted):
    floodline("train", folder)
    for name in ("model/weights.npz", "model/card.json"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name


def test_a_run_out_of_time_goes_on_as_if_nothing_had_happened(folder, uninterrupted):
    said = floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time() + 1)})
    assert "time limit is near" in said
    assert not (folder / "model/card.json").exists()
    said = floodline("train", folder)
    assert "resumed after 32 fields of view" in said
    assert (folder / "model/weights.npz").read_bytes() == (uninterrupted / "model/weights.npz").read_bytes()
    assert [row["fovs"] for row in rows(folder)] == [row["fovs"] for row in rows(uninterrupted)]
    assert [row["loss"] for row in rows(folder)] == [row["loss"] for row in rows(uninterrupted)]


def test_a_killed_rank_ends_the_job(folder):
    configure(folder, training={"fovs": 10_000_000})
    job = subprocess.Popen(
        command("train", folder, ranks=2),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = Experiment(folder).training / "log.csv"
    deadline = time.monotonic() + 120
    while not log.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    ranks = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    output, _ = job.communicate(timeout=60)
    assert job.returncode != 0, output
    assert not (folder / "model").exists()


def test_a_damaged_checkpoint_is_not_taken(folder, uninterrupted):
    floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time() + 1)})
    path = Experiment(folder).training / "checkpoint.block"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    assert "is damaged: the training starts again" in floodline("train", folder)
    assert (folder / "model/weights.npz").read_bytes() == (uninterrupted / "model/weights.npz").read_bytes()


def test_a_checkpoint_of_another_training_is_not_taken(folder):
    floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time() + 1)})
    configure(folder, training={"learning_rate": {"base": 0.02}})
    assert "resumed" not in floodline("train", folder)


def test_weights_of_another_depth_are_refused_and_nothing_is_written(folder, uninterrupted):
    for training in (None, CONFIGURATION["training"]):
        values = {**CONFIGURATION, "training": training}
        values["network"] = {**CONFIGURATION["network"], "depth": 3, "weights": str(uninterrupted / "model")}
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
        said = floodline("train", folder, status=1)
        assert "the weights are of a network of depth 2 with 4 features, but network.depth is 3" in said
        assert "Traceback" not in said
        assert not (folder / "model").exists()


def test_a_divergence_says_what_to_do(folder):
    configure(folder, training={"learning_rate": {"base": 1e30}})
    assert "training diverged" in floodline("train", folder, status=1)
    assert not (folder / "model/card.json").exists()


def test_a_box_without_room_for_an_example_is_named(folder):
    configure(folder, sites={"min_size": 100, "box_xyz": [[0, 0, 0], [48, 48, 12]]})
    assert "has room for an example of 13 voxels" in floodline("train", folder, status=1)


def test_the_configuration_of_these_tests_is_valid():
    assert configuration.parse(CONFIGURATION).training is not None
