"""Balanced sites: as many from each partition, in random order.

The definition is that of google/ffn's `build_coordinates`, with an upper limit on the sites of a partition. The volume
is passed block by block, first to count and then to look the drawn voxels up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.labels.partitions import EXCLUDED
from floodline.steps import Arrays, Steps

PartitionsOf = Callable[[Experiment, Box], np.ndarray]
"""Gives the partitions of a block, z, y, x; it must be picklable."""


@dataclass(frozen=True)
class Drawn:
    """Sites in one block, before anyone knows where they are.

    Attributes:
        rows: their rows among all sites.
        values: the partition of each.
        numbers: each is the so many-th voxel of its partition in the block, in the order of the array, from 0.
    """

    rows: np.ndarray
    values: np.ndarray
    numbers: np.ndarray


def balanced_sites(
    todo: Steps[Experiment],
    name: str,
    cut: Mapping[str, Box],
    partitions_of: PartitionsOf,
    limit: int | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[int, int]]:
    """Voxels of each partition, equally many of each, all shuffled together.

    From each partition as many voxels are drawn as the largest has, or `limit` if that is less: without replacement
    while they last; a smaller partition is repeated in the same random order.

    Args:
        name: of what is sought, for the steps.
        cut: the blocks of the volume, by name.

    Returns:
        (n, 3) int64: x, y, z of the sites, in the coordinates of the blocks.
        The voxels of each partition that occurs, 255 aside.
    """
    counted = todo.do(f"counts of {name}", {key: partial(_count, block, partitions_of) for key, block in cut.items()})
    counts = np.array([result["counts"] for result in counted]).reshape(-1, 256)
    drawn = dict(zip(cut, draw(counts, limit, rng), strict=True))
    finds = {
        key: partial(_find, cut[key], partitions_of, here.values, here.numbers)
        for key, here in drawn.items()
        if len(here.rows)
    }
    sites_xyz = np.zeros((sum(len(here.rows) for here in drawn.values()), 3), np.int64)
    for key, found in zip(finds, todo.do(name, finds), strict=True):
        sites_xyz[drawn[key].rows] = found["sites_xyz"]
    total = counts.sum(axis=0)
    return sites_xyz, {value: int(total[value]) for value in range(EXCLUDED) if total[value]}


def _count(block: Box, partitions_of: PartitionsOf, experiment: Experiment) -> Arrays:
    return {"counts": count(partitions_of(experiment, block))}


def _find(
    block: Box, partitions_of: PartitionsOf, values: np.ndarray, numbers: np.ndarray, experiment: Experiment
) -> Arrays:
    return {"sites_xyz": locate(partitions_of(experiment, block), values, numbers) + np.array(block.start_xyz)}


def count(partitions: np.ndarray) -> np.ndarray:
    """Voxels of each partition, (256,) int64."""
    return np.bincount(partitions.ravel(), minlength=256)


def draw(counts: np.ndarray, limit: int | None, rng: np.random.Generator) -> list[Drawn]:
    """Draw the sites by their numbers.

    Args:
        counts: (blocks, 256) voxels of each partition in each block.

    Returns:
        The sites in each block.
    """
    total = counts.sum(axis=0)
    available = [value for value in range(EXCLUDED) if total[value]]
    wanted = max((int(total[value]) for value in available), default=0)
    wanted = wanted if limit is None else min(limit, wanted)
    numbers = np.concatenate([np.zeros(0, np.int64), *(_draw(int(total[value]), wanted, rng) for value in available)])
    values = np.repeat(np.array(available, np.uint8), wanted)
    shuffled = rng.permutation(len(numbers))
    numbers, values = numbers[shuffled], values[shuffled]
    stops = counts.cumsum(axis=0)
    of_block = np.zeros(len(numbers), np.int64)
    for value in available:
        here = values == value
        of_block[here] = np.searchsorted(stops[:, value], numbers[here], side="right")
    numbers = numbers - (stops - counts)[of_block, values]
    order = np.argsort(of_block, kind="stable")
    parts = np.split(order, np.searchsorted(of_block[order], np.arange(1, len(counts))))
    return [Drawn(rows, values[rows], numbers[rows]) for rows in parts]


def _draw(available: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` of the numbers below `available`, each as often as any other or once less, in random order."""
    if wanted < available:
        return rng.choice(available, wanted, replace=False)
    return np.resize(rng.permutation(available), wanted)


def locate(partitions: np.ndarray, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Where in a block the drawn voxels are: (n, 3) int64, x, y, z, counted from its first voxel."""
    flat = partitions.ravel()
    places = np.empty(len(values), np.int64)
    for value in np.unique(values):
        here = values == value
        places[here] = np.flatnonzero(flat == value)[numbers[here]]
    return np.stack(np.unravel_index(places, partitions.shape)[::-1], axis=1)
