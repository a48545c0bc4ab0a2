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
from preloaded import Preloaded
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

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
    "sites": {"min_size": 100, "held_out_xyz": [[[33, 0, 0], [48, 48, 48]]]},
    "training": {
        "held_out_patches": 12,
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


@pytest.fixture(scope="module")
def floodline():
    """Runs a command: what it said; its exit status must be as expected. One rank starts at once."""
    preloaded = Preloaded(environment())

    def run(*arguments: str | Path, ranks: int = 1, status: int = 0, **more) -> str:
        if ranks == 1:
            found, said = preloaded(*arguments, **more)
        else:
            done = subprocess.run(
                command(*arguments, ranks=ranks), env=environment(**more), capture_output=True, text=True
            )
            found, said = done.returncode, done.stdout + done.stderr
        assert found == status, said
        return said

    yield run
    preloaded.end()


@pytest.fixture(scope="module")
def sites(floodline, tmp_path_factory) -> Path:
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
def uninterrupted(floodline, sites) -> Path:
    folder = Path(shutil.copytree(sites, sites.with_name("uninterrupted")))
    floodline("train", folder)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (Experiment(folder).training / "log.csv").open() as file:
        return list(csv.DictReader(file))


SCORES = ("accuracy", "precision", "recall", "specificity", "f1", "patch_loss")


def test_two_ranks_do_what_one_does_with_twice_the_batch(floodline, folder, sites, tmp_path):
    alone = Path(shutil.copytree(sites, tmp_path / "alone"))
    configure(alone, training={"batch_size": 8})
    floodline("train", alone)
    floodline("train", folder, ranks=2)
    one, two = (weights.load(Experiment(path).model) for path in (alone, folder))
    start = first_weights(folder)
    for name, values in one.items():
        # 12 steps of Adam at 0.01 move a weight by a tenth; what the order of sums changes is far less.
        assert np.abs(two[name] - values).max() < 1e-3, name
        assert np.abs(values - start[name]).max() > 1e-2, name
    metrics = json.loads((folder / "training/main/metrics.json").read_text())
    assert (metrics["ranks"], metrics["fovs"], metrics["steps"]) == (2, 96, 12)
    ours, theirs = rows(folder), rows(alone)
    for name in ("loss", *SCORES, *(f"held_out_{name}" for name in SCORES)):
        values = [[float(row[name] or "nan") for row in table] for table in (ours, theirs)]
        assert not np.isnan(values).all(), name
        # Scores are shares of voxels, some of which lie near the threshold.
        assert values[0] == pytest.approx(values[1], rel=1e-3, abs=0 if name == "loss" else 0.01, nan_ok=True), name


def first_weights(folder: Path) -> weights.Weights:
    from floodline.ffn.network import initial_weights

    experiment = Experiment(folder)
    return initial_weights(experiment.config.network, experiment.rng("initial weights"))


def test_ranks_find_the_sites_that_one_finds(floodline, folder, sites):
    shutil.rmtree(folder / "coordinates")
    floodline("labels", folder, ranks=2)
    for path in (sites / "coordinates").iterdir():
        assert (folder / "coordinates" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_same_configuration_gives_the_same_bytes(floodline, folder, uninterrupted):
    floodline("train", folder)
    for name in ("model/weights.npz", "model/card.json"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name


@pytest.mark.parametrize(
    ("training", "at"),
    [
        ({}, 32),  # a checkpoint
        ({"batch_size": 3}, 24),  # in the middle of a row of the log
        ({"batch_size": 3, "movement": "max_predictions", "fov_moves": 2}, 24),
        ({"batch_size": 5, "movement": "none"}, 35),  # another checkpoint
        ({"batch_size": 3, "first_views": [{"fov_xyz": [7, 7, 7], "deltas_xyz": [1, 1, 1], "fovs": 30}]}, 24),
        ({"batch_size": 3, "first_views": [{"fov_xyz": [7, 7, 7], "deltas_xyz": [1, 1, 1], "fovs": 6}]}, 6),
    ],
)
def test_a_run_out_of_time_goes_on_as_if_nothing_had_happened(floodline, folder, sites, tmp_path, training, at):
    whole = Path(shutil.copytree(sites, tmp_path / "whole"))
    for path in (whole, folder):
        configure(path, training=training)
    floodline("train", whole)
    said = floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time())})
    assert "time limit is near" in said
    assert not (folder / "model/card.json").exists()
    said = floodline("train", folder)
    assert f"resumed after {at} fields of view" in said
    assert (folder / "model/weights.npz").read_bytes() == (whole / "model/weights.npz").read_bytes()
    for column in rows(whole)[0].keys() - {"fovs_per_second"}:
        assert [row[column] for row in rows(folder)] == [row[column] for row in rows(whole)]
    assert not list((folder / "training/main/under_way").iterdir())


def test_ranks_out_of_time_go_on_as_if_nothing_had_happened(floodline, folder, sites, tmp_path):
    whole = Path(shutil.copytree(sites, tmp_path / "whole"))
    for path in (whole, folder):
        configure(path, training={"batch_size": 1})
    floodline("train", whole, ranks=2)
    floodline("train", folder, ranks=2, status=EXIT_STATUS, **{END: str(time.time())})
    assert len(list((folder / "training/main/under_way").iterdir())) == 2
    assert "resumed after 16 fields of view" in floodline("train", folder, ranks=2)
    assert (folder / "model/weights.npz").read_bytes() == (whole / "model/weights.npz").read_bytes()


def test_how_often_the_state_is_kept_changes_nothing(floodline, folder, uninterrupted):
    configure(folder, training={"checkpoint_fovs": 8})
    floodline("train", folder)
    assert (folder / "model/weights.npz").read_bytes() == (uninterrupted / "model/weights.npz").read_bytes()


def test_the_state_is_kept_between_checkpoints_when_it_is_old(folder, monkeypatch):
    from floodline.training import run
    from floodline.training.checkpoints import Checkpoint

    kept = []
    write = Checkpoint.write

    def observed(self, values):
        kept.append(int(values["progress"][0]))
        write(self, values)

    monkeypatch.setattr(Checkpoint, "write", observed)
    configure(folder, training={"checkpoint_fovs": 1000})
    run.run(Experiment(folder))
    assert kept == [96]
    kept.clear()
    monkeypatch.setattr(run, "SECONDS_BETWEEN_STATES", 0)
    shutil.rmtree(folder / "training")
    run.run(Experiment(folder))
    assert kept[0] == 32 and kept[-1] == 96


def test_long_steps_are_followed_by_looks_at_the_time(folder, monkeypatch):
    """So a job ends in time whatever a step takes."""
    from floodline import allocation
    from floodline.training import run
    from floodline.training.trainer import Trainer

    step, looks = Trainer.step, []

    def slow(self, batch, rate):
        time.sleep(0.2)
        return step(self, batch, rate)

    def is_ending() -> bool:
        looks.append(True)
        return False

    monkeypatch.setattr(Trainer, "step", slow)
    monkeypatch.setattr(run, "SECONDS_BETWEEN_LOOKS", 0.5)
    monkeypatch.setattr(allocation, "is_ending", is_ending)
    configure(folder, training={"fovs": 96, "checkpoint_fovs": 1000, "held_out_patches": 0})
    run.run(Experiment(folder))
    # After eight steps, and then after one or two each time.
    assert 8 <= len(looks) <= 16


def test_the_arithmetic_of_the_first_processor_holds_to_the_end(folder, monkeypatch):
    """One that is quick at bfloat16 begins; one that is not goes on."""
    from floodline import allocation
    from floodline.ffn import precision
    from floodline.training import run

    configure(folder, training={"precision": "auto"})
    with monkeypatch.context() as first:
        first.setattr(precision, "processor_features", lambda: {"avx512_bf16"})
        first.setattr(allocation, "is_ending", lambda: True)
        with pytest.raises(allocation.OutOfTime):
            run.run(Experiment(folder))
    monkeypatch.setattr(precision, "processor_features", set)
    run.run(Experiment(folder))
    assert json.loads((folder / "model/card.json").read_text())["made"]["precision"] == "bfloat16"
    assert json.loads((folder / "training/main/metrics.json").read_text())["precision"] == "bfloat16"


def test_examples_that_were_lost_begin_anew(floodline, folder):
    floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time())})
    (file,) = (folder / "training/main/under_way").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    said = floodline("train", folder)
    assert f"{file} is damaged: its examples begin anew" in said
    assert "resumed after 32 fields of view" in said
    assert [row["fovs"] for row in rows(folder)][-1] == "96.0"


def test_a_killed_run_goes_on_as_if_nothing_had_happened(floodline, folder, uninterrupted):
    checkpoint = Experiment(folder).training / "checkpoint.block"
    floodline("train", folder, status=-signal.SIGKILL, kill_after=checkpoint)
    assert not (folder / "model").exists()
    assert "resumed after" in floodline("train", folder)
    assert (folder / "model/weights.npz").read_bytes() == (uninterrupted / "model/weights.npz").read_bytes()
    assert (folder / "model/card.json").read_bytes() == (uninterrupted / "model/card.json").read_bytes()
    assert scalars(folder) == scalars(uninterrupted)


def test_the_card_says_what_the_weights_are_and_what_made_them(uninterrupted):
    experiment, card = Experiment(uninterrupted), json.loads((uninterrupted / "model/card.json").read_text())
    values, last = weights.load(uninterrupted / "model"), rows(uninterrupted)[-1]
    assert card["parameters"] == sum(array.size for array in values.values())
    assert card["network"]["fov_xyz"] == list(experiment.config.network.fov_xyz)
    assert card["licence"] is None
    assert (card["made"]["steps"], card["made"]["precision"]) == (24, "float32")
    assert card["made"]["trained"]["held_out_f1"] == pytest.approx(float(last["held_out_f1"]))
    assert card["training"]["learning_rate"]["base"] == experiment.config.training.learning_rate.base
    assert card["data"]["normalisation"] == dict(zip(("mean", "stddev"), experiment.normalisation(), strict=True))
    assert list(card["data"]["hashes"]) == [experiment.config.name]
    assert {"floodline", "numpy", "horovod"} <= set(card["software"])


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, without what depends on the clock."""
    events = EventAccumulator(str(Experiment(folder).training / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if tag != "training/fovs_per_second"
    }


def test_the_log_and_tensorboard_have_every_metric_in_every_row(uninterrupted):
    shown = scalars(uninterrupted)
    table = rows(uninterrupted)
    assert [int(float(row["fovs"])) for row in table] == [16, 32, 48, 64, 80, 96]
    assert shown.keys() == {
        *(f"eval/{name}" for name in SCORES),
        *(f"held_out/{name}" for name in SCORES),
        *("training/loss", "training/learning_rate", "training/gradient_norm"),
    }
    for tag, values in shown.items():
        kind, name = tag.split("/")
        column = f"held_out_{name}" if kind == "held_out" else name
        # Held-out patches are scored at checkpoints.
        assert [step for step, _ in values] == ([32, 64, 96] if kind == "held_out" else [16, 32, 48, 64, 80, 96])
        assert [value for _, value in values] == pytest.approx([float(row[column]) for row in table if row[column]])
    assert all(float(row["fovs_per_second"]) > 0 for row in table)


def test_held_out_scores_do_not_depend_on_the_number_of_ranks(folder):
    from floodline.config import Training
    from floodline.parallel import Ranks
    from floodline.training.held_out import HeldOut
    from floodline.training.movement import Geometry

    experiment = Experiment(folder)
    training = Training(held_out_patches=12)
    geometry = Geometry(experiment.config.network, training)

    def shares(size: int) -> np.ndarray:
        parts = [HeldOut.read(experiment, training, geometry, Ranks(rank, size)) for rank in range(size)]
        assert sum(len(part.makers) for part in parts) == 12
        return sum(part.count(lambda image, seed: 3 * image + seed).sums for part in parts)

    alone = shares(1)
    assert shares(3) == pytest.approx(alone)
    assert alone[-1] == 12
    assert 0 < alone[0] < alone[:4].sum()


def test_only_voxels_of_the_held_out_box_are_scored_and_its_sites_lie_in_it(folder):
    from floodline.ffn.sites import read_coordinates
    from floodline.parallel import Ranks
    from floodline.training.held_out import HeldOut
    from floodline.training.movement import Geometry

    experiment = Experiment(folder)
    training = experiment.config.training
    sites_xyz = read_coordinates(experiment.coordinates, ["held_out-00000-of-00001.tfrecord.gz"])
    assert len(sites_xyz) > 100
    assert (sites_xyz >= [33, 0, 0]).all()
    held_out = HeldOut.read(experiment, training, Geometry(experiment.config.network, training), Ranks())
    for make, site in zip(held_out.makers, sites_xyz, strict=False):
        counted = make().example.counted
        first = max(0, 33 - (site[0] - 6))  # examples have 13 voxels a side
        assert counted[:, :, first:].all()
        assert not counted[:, :, :first].any()


@pytest.mark.parametrize("kind", ["adam", "momentum"])
def test_ranks_hold_the_same_weights_after_50_steps_and_those_of_one_rank_with_all_batches(kind):
    launcher = [str(BIN / "mpirun"), "-n", "2", sys.executable, str(Path(__file__).with_name("rank_program.py")), kind]
    done = subprocess.run(launcher, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    states = [words[1] for words in said if words[0] == "state"]
    difference, moved = (float(words[1]) for name in ("difference", "moved") for words in said if words[0] == name)
    assert len(states) == 2
    assert states[0] == states[1]
    assert moved > 0.01
    assert difference < 1e-3 * moved


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
    deadline = time.monotonic() + 600
    while not log.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    ranks = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    killed = time.monotonic()
    output, _ = job.communicate(timeout=300)
    assert time.monotonic() - killed < 30
    assert job.returncode != 0, output
    # The launcher's words, for the rank has none left; a rank that lost it may say so, but not as a bug of floodline.
    assert "signal 9 (Killed)" in output
    assert "Traceback" not in output
    assert not (folder / "model").exists()


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_a_rank_that_fails_ends_the_job_with_its_own_message(folder, tmp_path, launcher):
    """The second rank finds its sites damaged, while the first waits for it."""
    # Its message holds the word by which a lost connection is known.
    damaged = Path(shutil.copytree(folder, tmp_path / "horovod"))
    next((damaged / "coordinates").glob("coordinates*")).write_bytes(b"no sites")
    (folder / "training").mkdir()
    (damaged / "training").symlink_to(folder / "training")
    script = tmp_path / "rank.sh"
    rank = "${OMPI_COMM_WORLD_RANK:-$HOROVOD_RANK}"
    script.write_text(f'if [ "{rank}" = 1 ]; then cd {damaged}; else cd {folder}; fi\nexec floodline train $PWD\n')
    start = {"mpirun": ["mpirun", "-n", "2"], "horovodrun": ["horovodrun", "--gloo", "-np", "2"]}[launcher]
    done = subprocess.run([*start, "bash", str(script)], env=environment(), capture_output=True, text=True, timeout=600)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"floodline: rank 1 of 2: the sites in {damaged / 'coordinates'} cannot be read" in said
    # horovodrun puts the rank before what a rank says, and has a traceback of its own to show.
    of_ranks = [line for line in said.splitlines() if launcher == "mpirun" or line.startswith("[")]
    assert not any("Traceback" in line for line in of_ranks)
    assert not (folder / "model").exists()


def test_horovodrun_starts_it_too(folder):
    configure(folder, training={"fovs": 32, "held_out_patches": 0})
    start = ["horovodrun", "--gloo", "-np", "2", "floodline", "train", str(folder)]
    done = subprocess.run(start, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((folder / "training/main/metrics.json").read_text())["ranks"] == 2


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_checkpoint_whose_flood_is_best_becomes_the_model(floodline, folder, uninterrupted, ranks):
    selection = {"box_xyz": [[33, 0, 0], [48, 30, 30]], "checkpoints": 2}
    # So low a threshold that even this network floods something.
    inference = {"flood": {"move_threshold": 0.06, "segment_threshold": 0.06, "min_segment_size": 1}}
    configure(folder, training={"selection": selection, "batch_size": 4 // ranks}, inference=inference)
    floodline("train", folder, ranks=ranks)
    records = json.loads((folder / "training/main/metrics.json").read_text())["checkpoints"]
    assert [record["fovs"] for record in records] == [64, 96]
    assert [record["network_calls"] > 0 for record in records] == [True, True]
    best = min(records, key=lambda record: record["adapted_rand_error"])
    assert [record["chosen"] for record in records] == [record is best for record in records]
    card = json.loads((folder / "model/card.json").read_text())
    assert card["made"]["flood"]["adapted_rand_error"] == best["adapted_rand_error"]
    assert card["made"]["trained"]["fovs"] == best["fovs"]
    chosen, last = (weights.load(path / "model") for path in (folder, uninterrupted))
    same = all(np.allclose(chosen[name], last[name], atol=1e-4) for name in last)
    assert same == (best["fovs"] == 96)


def test_a_choice_that_is_asked_for_after_the_training_is_made_of_what_is_left(floodline, uninterrupted, tmp_path):
    folder = Path(shutil.copytree(uninterrupted, tmp_path / "x"))
    configure(folder, training={"selection": {"box_xyz": [[33, 0, 0], [48, 30, 30]]}})
    assert "resumed after 96 fields of view" in floodline("train", folder)
    records = json.loads((folder / "training/main/metrics.json").read_text())["checkpoints"]
    assert [(record["fovs"], record["chosen"]) for record in records] == [(96, True)]
    assert (folder / "model/weights.npz").read_bytes() == (uninterrupted / "model/weights.npz").read_bytes()


def test_a_choice_that_is_asked_for_after_a_fine_tuning_knows_what_it_began_with(floodline, folder, uninterrupted):
    network = {"weights": str(uninterrupted / "model")}
    fine_tuning = {"fovs": 8, "checkpoint_fovs": 8, "learning_rate": {"base": 1e-9}}
    configure(folder, network=network, training=fine_tuning)
    floodline("train", folder)
    selection = {"box_xyz": [[33, 0, 0], [48, 30, 30]]}
    configure(folder, network=network, training={**fine_tuning, "selection": selection})
    assert "resumed after 8 fields of view" in floodline("train", folder)
    records = json.loads((folder / "training/main/metrics.json").read_text())["checkpoints"]
    assert [(record["fovs"], record["chosen"]) for record in records] == [(0, True), (8, False)]
    before, after = (weights.load(path / "model") for path in (uninterrupted, folder))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_where_no_checkpoint_floods_anything_the_last_one_becomes_the_model(floodline, folder, uninterrupted):
    selection = {"box_xyz": [[33, 0, 0], [48, 30, 30]], "checkpoints": 3}
    configure(folder, training={"selection": selection}, inference={"flood": {"min_segment_size": 100_000}})
    said = floodline("train", folder)
    assert "no checkpoint floods anything in training.selection.box_xyz" in said
    records = json.loads((folder / "training/main/metrics.json").read_text())["checkpoints"]
    assert [(record["fovs"], record["chosen"]) for record in records] == [(32, False), (64, False), (96, True)]
    assert (folder / "model/weights.npz").read_bytes() == (uninterrupted / "model/weights.npz").read_bytes()


def test_a_training_that_cannot_begin_leaves_the_model_of_the_one_before(floodline, uninterrupted, tmp_path):
    folder = Path(shutil.copytree(uninterrupted, tmp_path / "x"))
    configure(folder, training={"selection": {"box_xyz": [[40, 0, 0], [60, 30, 30]]}})
    assert "training.selection" in floodline("train", folder, status=1)
    assert (folder / "model/card.json").read_bytes() == (uninterrupted / "model/card.json").read_bytes()


def test_ranks_that_do_not_find_each_other_are_one_sentence(floodline, folder):
    """As srun starts them where it does not speak the language of this MPI."""
    said = floodline("train", folder, status=1, SLURM_STEP_NUM_TASKS="2")
    assert "floodline: the launcher started 2 workers, but MPI does not connect them" in said
    assert not (folder / "training").exists()


@pytest.mark.parametrize(
    ("box_xyz", "sentence"),
    [
        ([[40, 0, 0], [60, 30, 30]], "it must lie in the image, x 0..48"),
        ([[40, 0, 0], [48, 30, 30]], r"it must hold network.fov_xyz \[9, 9, 9\]"),
        ([[20, 0, 0], [48, 30, 30]], "which is trained on"),
    ],
)
def test_an_impossible_box_for_the_choice_is_one_sentence_before_training(folder, box_xyz, sentence):
    from floodline.config import Selection
    from floodline.errors import FloodlineError
    from floodline.training import selection

    with pytest.raises(FloodlineError, match=sentence):
        selection.check(Experiment(folder), Selection(box_xyz=box_xyz))


def test_a_box_for_the_choice_without_labels_is_one_sentence(folder):
    from floodline.config import Selection
    from floodline.errors import FloodlineError
    from floodline.manifest import read_json, write_json
    from floodline.training import selection

    manifest = Experiment(folder).manifest("labels")
    write_json(manifest, {**read_json(manifest), "boxes_xyz": [[[0, 0, 0], [30, 30, 30]]]})
    with pytest.raises(FloodlineError, match="where nothing is labelled"):
        selection.check(Experiment(folder), Selection(box_xyz=[[33, 0, 0], [48, 30, 30]]))


def test_the_mean_of_the_weights_becomes_the_model_where_it_is_wished(folder):
    from floodline.config import Training
    from floodline.parallel import Ranks
    from floodline.training.batches import Batch
    from floodline.training.trainer import Trainer

    network = Experiment(folder).config.network
    trainer = Trainer(first_weights(folder), network, Training(precision="float32", average_decay=0.5), Ranks())
    rng = np.random.default_rng(1)
    batch = Batch(*(rng.random((2, 9, 9, 9)).astype(np.float32) for _ in range(3)))
    mean = trainer.values()["weights"].astype(np.float64)
    for step in range(1, 13):
        trainer.step(batch, 0.01)
        left = min(0.5, (1 + step) / (10 + step))
        mean = left * mean + (1 - left) * trainer.values()["weights"]
    flat = np.concatenate([array.ravel() for array in trainer.weights().values()])
    assert flat == pytest.approx(mean, abs=1e-5)
    assert np.abs(flat - trainer.values()["weights"]).max() > 1e-3


def test_of_floods_with_equal_rand_error_that_of_the_lower_voi_comes_first():
    from floodline.training.selection import _rank

    def record(error, split, merge):
        return {"adapted_rand_error": error, "voi_split": split, "voi_merge": merge}

    first, second, third, last = record(0.1, 9, 9), record(0.2, 1, 2), record(0.2, 3, 1), record(None, None, None)
    assert sorted([last, third, second, first], key=_rank) == [first, second, third, last]


def test_the_last_checkpoints_are_tried_and_what_fine_tuning_began_with(tmp_path):
    from floodline.training.checkpoints import Candidates

    candidates = Candidates(tmp_path, "parameters", 2)
    for fovs in (0, 4, 8, 12):
        candidates.add(fovs, 1.0, {"kernel": np.zeros(1, np.float32)})
    assert candidates.lengths() == candidates.latest() == [0, 8, 12]
    # Fewer are wished for once the training is over.
    assert Candidates(tmp_path, "parameters", 1).latest() == [0, 12]


FIRST_VIEWS = {
    "first_views": [
        {"fov_xyz": [5, 5, 5], "deltas_xyz": [1, 1, 1], "fovs": 24},
        {"fov_xyz": [7, 7, 7], "deltas_xyz": [2, 2, 2], "fovs": 24},
    ],
    "initial_weights": "identity",
}


def test_training_begins_with_smaller_fields_of_view(folder, monkeypatch):
    from floodline.training import run
    from floodline.training.trainer import Trainer

    sizes = []
    step = Trainer.step

    def observed(self, batch, rate):
        sizes.append(batch.image.shape)
        return step(self, batch, rate)

    monkeypatch.setattr(Trainer, "step", observed)
    configure(folder, training=FIRST_VIEWS)
    run.run(Experiment(folder))
    assert sizes == [(4, 5, 5, 5)] * 6 + [(4, 7, 7, 7)] * 6 + [(4, 9, 9, 9)] * 12
    # A checkpoint every 32, and where the size changes.
    assert [float(row["fovs"]) for row in rows(folder) if row["held_out_f1"]] == [24, 48, 80, 96]


def test_a_run_that_ends_among_the_first_views_goes_on_as_if_nothing_had_happened(floodline, folder, tmp_path):
    configure(folder, training=FIRST_VIEWS)
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    floodline("train", whole)
    floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time())})
    assert "resumed after 24 fields of view" in floodline("train", folder)
    assert (folder / "model/weights.npz").read_bytes() == (whole / "model/weights.npz").read_bytes()


@pytest.mark.parametrize(
    ("defects", "named"),
    [
        ({"missing_sections": 0.1, "contrast": 0.2}, ["contrast", "missing sections"]),
        (
            {"brightness": 1.0, "misaligned_sections": 0.1, "blurred_sections": 0.1},
            ["brightness", "misaligned sections", "blurred sections"],
        ),
    ],
)
def test_defects_are_shown_as_pictures(floodline, folder, defects, named):
    configure(folder, training={"fovs": 4, "defects": defects})
    floodline("train", folder)
    shown = json.loads((folder / "training/main/augmentation/pictures.json").read_text())
    assert list(shown.values()) == ["as it is", "permuted and reflected", *named]
    pictures = [(folder / "training/main/augmentation" / name).read_bytes() for name in shown]
    assert len(set(pictures)) == len(shown)


def test_weights_go_out_to_the_published_layout_and_come_back(floodline, uninterrupted, tmp_path):
    from floodline.ffn.network import InferenceNetwork

    floodline("export-weights", uninterrupted, tmp_path / "model.ckpt")
    ours, theirs = weights.load(uninterrupted / "model"), weights.load(tmp_path / "model.ckpt")
    network = Experiment(uninterrupted).config.network
    image, seed = np.random.default_rng(1).normal(size=(2, 1, 9, 9, 9)).astype(np.float32)
    logits = [InferenceNetwork(values, network, "float32")(image, seed) for values in (ours, theirs)]
    assert np.array_equal(*logits)
    assert ours.keys() == theirs.keys()


def test_fine_tuning_starts_from_the_weights_that_are_named(floodline, folder, uninterrupted):
    model = str(uninterrupted / "model")
    training = {"fovs": 8, "checkpoint_fovs": 8, "summary_fovs": 4, "learning_rate": {"base": 1e-9}}
    configure(folder, network={"weights": model, "licence": "CC0-1.0"}, training=training)
    floodline("train", folder)
    before, after = (weights.load(path / "model") for path in (uninterrupted, folder))
    assert all(np.allclose(before[name], after[name], atol=1e-7) for name in before)
    card = json.loads((folder / "model/card.json").read_text())
    assert card["made"]["started_from"] == {"weights": model}
    assert card["licence"] == "CC0-1.0"
    # The first row is of these weights: what they scored when their training ended.
    first, last = rows(folder)[0], rows(uninterrupted)[-1]
    assert (first["fovs"], first["loss"]) == ("0.0", "")
    # The second has no held-out scores.
    assert [bool(row["loss"]) for row in rows(folder)] == [False, True, True]
    assert [bool(row["held_out_f1"]) for row in rows(folder)] == [True, False, True]
    assert first["held_out_patch_loss"] == last["held_out_patch_loss"]


def test_fine_tuning_that_makes_nothing_better_leaves_the_weights_as_they_were(floodline, folder, uninterrupted):
    model = str(uninterrupted / "model")
    inference = {"flood": {"move_threshold": 0.06, "segment_threshold": 0.06, "min_segment_size": 1}}
    training = {
        "fovs": 12,
        "checkpoint_fovs": 4,
        "learning_rate": {"base": 1e-9},
        "selection": {"box_xyz": [[33, 0, 0], [48, 30, 30]], "checkpoints": 1},
    }
    configure(folder, network={"weights": model}, training=training, inference=inference)
    floodline("train", folder)
    records = json.loads((folder / "training/main/metrics.json").read_text())["checkpoints"]
    assert [(record["fovs"], record["chosen"]) for record in records] == [(0, True), (12, False)]
    before, after = (weights.load(path / "model") for path in (uninterrupted, folder))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_damaged_checkpoint_is_not_taken(floodline, folder, uninterrupted):
    floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time())})
    path = Experiment(folder).training / "checkpoint.block"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    assert "is damaged: the training starts again" in floodline("train", folder)
    assert (folder / "model/weights.npz").read_bytes() == (uninterrupted / "model/weights.npz").read_bytes()


def test_a_checkpoint_of_another_training_is_not_taken(floodline, folder):
    floodline("train", folder, status=EXIT_STATUS, **{END: str(time.time())})
    configure(folder, training={"learning_rate": {"base": 0.02}})
    said = floodline("train", folder)
    assert "resumed" not in said
    assert "is of a training with other data, keys, arithmetic or number of workers: this one starts anew" in said


def test_weights_of_another_depth_are_refused_and_nothing_is_written(floodline, folder, uninterrupted):
    for training in (None, CONFIGURATION["training"]):
        values = {**CONFIGURATION, "training": training}
        values["network"] = {**CONFIGURATION["network"], "depth": 3, "weights": str(uninterrupted / "model")}
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
        said = floodline("train", folder, status=1)
        assert "the weights are of a network of depth 2 with 4 features, but network.depth is 3" in said
        assert "Traceback" not in said
        assert not (folder / "model").exists()


def test_a_divergence_says_what_to_do(floodline, folder):
    configure(folder, training={"learning_rate": {"base": 1e30}})
    assert "training diverged" in floodline("train", folder, status=1)
    assert not (folder / "model/card.json").exists()


def test_a_box_without_room_for_an_example_is_named(floodline, folder):
    configure(folder, sites={"box_xyz": [[0, 0, 0], [48, 48, 12]]})
    assert "has room for an example of [13, 13, 13] voxels" in floodline("train", folder, status=1)


def test_the_configuration_of_these_tests_is_valid():
    assert configuration.parse(CONFIGURATION).training is not None


@pytest.mark.slow
def test_fine_tuning_the_published_weights_is_one_key(floodline, fib25, tmp_path):
    """They score high on a box of FIB-25 that this training holds out, after a step that is too small to matter."""
    folder, published = tmp_path / "x", str(fib25 / "ffn_weights/model.ckpt-27465036")
    place = [[0, 0, 0], [110, 110, 110]]
    values = {
        "name": "x",
        "image": {
            "source": {"kind": "stack", "path": f"{fib25}/grayscale_maps/*.png"},
            "voxel_size_nm_xyz": [10, 10, 10],
            "crop_xyz": place,
        },
        "labels": {
            "source": {"kind": "hdf5", "path": f"{fib25}/groundtruth.h5", "dataset": "stack"},
            "body_table": {"path": f"{fib25}/groundtruth.h5", "dataset": "transforms"},
            "box_xyz": [[0, 0, 0], [250, 250, 150]],
        },
        "network": {"weights": published},
        "sites": {"box_xyz": [[0, 0, 0], [60, 110, 110]], "held_out_xyz": [[[60, 0, 0], [110, 110, 110]]]},
        "training": {"fovs": 2, "batch_size": 2, "held_out_patches": 8, "learning_rate": {"base": 1e-6}},
        "inference": {"subvolume_size_xyz": [110, 110, 110], "image_mean": 128, "image_stddev": 33},
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    for command in ("ingest", "labels", "train"):
        floodline(command, folder)
    row = rows(folder)[-1]
    # Of the eight patches; weights that were not read score an F1 of 0.
    assert float(row["held_out_accuracy"]) > 0.8
    assert float(row["held_out_f1"]) > 0.7
    floodline("export-weights", folder, tmp_path / "model.ckpt")
    before, after = weights.load(published), weights.load(tmp_path / "model.ckpt")
    assert before.keys() == after.keys()
    assert 0 < max(np.abs(before[name] - after[name]).max() for name in before) < 1e-4
