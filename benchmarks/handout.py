"""The hand-out of sub-volumes, simulated: which share of the ranks' time is spent waiting for the last one.

    .venv/bin/python benchmarks/handout.py /where/published_segmentation.h5 [--largest 65536]

The lengths of the sub-volumes are those of a recorded run: google/ffn's published result on FIB-25 says how many calls
of the network each object took. An object's calls are spread evenly over its voxels, so every box of the volume has a
number of calls. A job's sub-volumes are drawn from all such boxes, and handed out by the pool itself, whose workers are
here replaced by ones that take no time but advance a clock.

"known" is the order of a second run, longest first by the times of the first; "unknown" is the order of a first run,
where all sub-volumes have one size and nothing tells which are long.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from floodline.pool import Report, Team

SIDES = (62, 125)
"""Sides of the boxes, voxels: small ones differ more from each other."""

PER_RANK = (4, 8, 16, 32)
KNL_RANKS = 32
"""Ranks of a node of Theta."""


class Clocked(Team):
    """Workers for which a task is the time that it takes."""

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self.free.extend(range(ranks))
        self.ends: list[tuple[float, int]] = []
        self.now = 0.0

    def give(self, worker: int, task: float) -> None:
        heapq.heappush(self.ends, (self.now + task, worker))

    def reports(self) -> Iterator[tuple[int, Report]]:
        self.now, worker = heapq.heappop(self.ends)
        yield worker, Report("done", None)


def idle_share(lengths: np.ndarray, ranks: int) -> float:
    """Which part of the time of all ranks, until the last one ends, is spent without a task."""
    team = Clocked(ranks)
    for _ in team.hand_out(lengths.tolist()):
        pass
    return 1 - float(lengths.sum()) / (team.now * ranks)


def recorded_calls(published: Path, side: int) -> np.ndarray:
    """Calls of the network in boxes of a side, at every eighth of a side."""
    with h5py.File(published) as file:
        segmentation, origins = file["segmentation"][()], file["origins"][()]
    calls = np.bincount(origins[:, 0], origins[:, 4], 256)
    calls[0] = 0
    density = (calls / np.maximum(np.bincount(segmentation.ravel(), minlength=256), 1))[segmentation]
    total = np.pad(density, ((1, 0),) * 3).cumsum(0).cumsum(1).cumsum(2)
    step = side // 8
    for axis in range(3):
        total = _window(total, side, step, axis)
    return total.ravel()


def _window(sums: np.ndarray, side: int, step: int, axis: int) -> np.ndarray:
    """Differences of cumulative sums over a side, at every step."""
    starts = np.arange(0, sums.shape[axis] - side, step)
    return np.take(sums, starts + side, axis) - np.take(sums, starts, axis)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("published", type=Path, help="published_segmentation.h5")
    parser.add_argument("--largest", type=int, default=2048 * KNL_RANKS, help="ranks of the largest job")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print("side  boxes  spread  ranks  a rank  known: idle  unknown: idle")
    for side in SIDES:
        recorded = recorded_calls(arguments.published, side)
        spread = recorded.std() / recorded.mean()
        sizes = [ranks for ranks in (64, 4096, 2048 * KNL_RANKS) if ranks <= arguments.largest]
        for ranks in sizes:
            for per_rank in PER_RANK:
                lengths = rng.choice(recorded, ranks * per_rank)
                known, unknown = idle_share(np.sort(lengths)[::-1], ranks), idle_share(lengths, ranks)
                print(
                    f"{side:4d}  {len(recorded):5d}  {spread:6.2f}  {ranks:5d}  {per_rank:6d}"
                    f"  {100 * known:9.1f} %  {100 * unknown:11.1f} %",
                    flush=True,
                )


if __name__ == "__main__":
    main()
