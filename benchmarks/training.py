"""Training, measured: what the data cost beside the bare step, what each precision gives, and two ranks against one.

    .venv/bin/python benchmarks/training.py [--published] [--seconds 10]

Everything is a ratio within one run, of turns that alternate, so that a noisy machine hits both sides alike. Where
others compute as well, believe the ratios of processor time: what the data cost then is not hidden by any idle core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np

from floodline.config import Network, Training
from floodline.ffn.network import initial_weights
from floodline.parallel import LAUNCHER_ENVIRONMENT, Ranks, training_ranks
from floodline.training.batches import Batches, Place, ahead, draw_patch
from floodline.training.metrics import Counts
from floodline.training.movement import Geometry
from floodline.training.trainer import Trainer
from floodline.training.volume import TrainingVolume, Volumes

SMALL = Network(depth=5, features=16, fov_xyz=(13, 13, 13), deltas_xyz=(4, 4, 4))
TURNS = 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true", help="the published network, in place of the demo's")
    parser.add_argument("--seconds", type=float, default=10.0, help="processor seconds of each measurement")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    network = Network() if arguments.published else SMALL
    if arguments.rank:
        one_rank(network, arguments.seconds)
        return
    print(f"depth {network.depth}, {network.features} features, field of view {network.fov_xyz}, batch 4")
    data_and_precision(network, arguments.seconds)
    two_ranks(arguments)


def data_and_precision(network: Network, seconds: float) -> None:
    """The whole of training against the bare step, in both precisions; all four take turns."""
    with ThreadPoolExecutor(1) as executor:
        loops: dict[str, Callable[[], object]] = {}
        for precision in ("float32", "bfloat16"):
            training = Training(batch_size=4, precision=precision)
            trainer = Trainer(initial_weights(network, np.random.default_rng(1)), network, training, Ranks())
            batches = batches_of(network, training, executor)
            loops[f"{precision} bare"] = partial(trainer.step, batches.gather(), 1e-3)
            loops[f"{precision} whole"] = partial(whole, trainer, batches)
        turns = take_turns(loops, seconds)
        executor.shutdown(cancel_futures=True)
    print("                  FOV/s by the clock    by processor time of one core")
    for name, rates in turns.items():
        wall, cpu = 4 * np.median(rates, axis=0)
        print(f"{name:16s} {wall:19.2f} {cpu:24.2f}")
    for name, one, other in (
        ("float32: whole / bare", "float32 whole", "float32 bare"),
        ("bfloat16: whole / bare", "bfloat16 whole", "bfloat16 bare"),
        ("bfloat16 / float32, bare", "bfloat16 bare", "float32 bare"),
    ):
        wall, cpu = np.median(turns[one] / turns[other], axis=0)
        print(f"{name:26s} {wall:9.3f} {cpu:24.3f}")


def batches_of(network: Network, training: Training, executor: ThreadPoolExecutor) -> Batches:
    """Batches as training has them, of a volume of random blobs."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 50, (8, 8, 8)), np.ones((16, 16, 16), np.uint64)).astype(np.uint64)
    image = rng.integers(0, 255, labels.shape, np.uint8)
    geometry = Geometry(network, training)
    radius = max(geometry.canvas) // 2
    sites = rng.integers(radius, labels.shape[0] - radius, (10_000, 3))
    volumes = Volumes([TrainingVolume(image, labels, sites, 128.0, 33.0)], {}, Path())
    counts = Counts()
    places = [
        Place(
            ahead(repeat(partial(draw_patch, volumes, geometry, training, np.random.default_rng(place))), executor),
            partial(executor.submit, counts.add),
        )
        for place in range(training.batch_size)
    ]
    return Batches(places, geometry)


def whole(trainer: Trainer, batches: Batches) -> None:
    batches.scatter(trainer.step(batches.gather(), 1e-3).logits)


def take_turns(loops: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Steps a second of each loop in each of its turns: (turns, 2), by the clock and by processor time."""
    for loop in loops.values():
        for _ in range(3):
            loop()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for _ in range(TURNS):
        for name, loop in loops.items():
            steps, began, used = 0, time.monotonic(), time.process_time()
            while time.process_time() < used + seconds / TURNS:
                loop()
                steps += 1
            rates[name].append((steps / (time.monotonic() - began), steps / (time.process_time() - used)))
    return {name: np.array(values) for name, values in rates.items()}


# --- ranks -----------------------------------------------------------------------------------------------------------


def two_ranks(arguments: argparse.Namespace) -> None:
    """One rank of one thread, two of them, and two trainings that know nothing of each other take turns.

    All are started as the pipeline starts them. What two trainings side by side lose, cores that share something lose;
    what two ranks lose beside that, they lose by waiting for each other.
    """
    rates: dict[str, list[float]] = {"one rank": [], "two ranks": [], "two trainings": []}
    for _ in range(2):
        rates["one rank"] += launched([1], arguments)
        rates["two ranks"] += launched([2], arguments)
        rates["two trainings"] += launched([1, 1], arguments)
    one, two, apart = (float(np.mean(rates[name])) for name in rates)
    print(f"of one thread each: one rank {one:.2f} FOV/s, each of two {two:.2f}: {two / one:.3f}")
    print(f"each of two trainings side by side {apart:.2f}: {apart / one:.3f}; two ranks / these {two / apart:.3f}")


def launched(jobs: list[int], arguments: argparse.Namespace) -> list[float]:
    """Start jobs of so many ranks at once: the rate of a rank in each."""
    with tempfile.TemporaryFile("w+") as errors:
        environment = {**os.environ, **LAUNCHER_ENVIRONMENT, "TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1"}
        environment["TF_NUM_INTRAOP_THREADS"] = "1"
        started = []
        for ranks in jobs:
            command = [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks), sys.executable, __file__]
            command += ["--rank", "--seconds", str(arguments.seconds)] + ["--published"] * arguments.published
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True))
        outputs = [job.communicate()[0] for job in started]
        errors.seek(0)
        if any(job.returncode for job in started):
            raise SystemExit(errors.read())
    return [float(json.loads(output.splitlines()[-1])["fovs_per_second"]) for output in outputs]


def one_rank(network: Network, seconds: float) -> None:
    """Train as one of the ranks of a launcher; the first prints the mean rate of a rank."""
    ranks = training_ranks()
    training = Training(batch_size=4)
    trainer = Trainer(initial_weights(network, np.random.default_rng(1)), network, training, ranks)
    with ThreadPoolExecutor(1) as executor:
        batches = batches_of(network, training, executor)
        for _ in range(3):
            whole(trainer, batches)
        began = time.monotonic()
        whole(trainer, batches)
        steps = int(ranks.sum(np.array([max(1.0, seconds / (time.monotonic() - began))]))[0] / ranks.size)
        began = time.monotonic()
        for _ in range(steps):
            whole(trainer, batches)
        rate = steps / (time.monotonic() - began)
        executor.shutdown(cancel_futures=True)
    if ranks.rank == 0:
        print(json.dumps({"fovs_per_second": 4 * rate}))


if __name__ == "__main__":
    main()
