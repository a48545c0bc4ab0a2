"""Balanced sites: as many from each partition, in random order.

The definition is that of google/ffn's `build_coordinates`, with an upper limit on the sites of a partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from floodline.labels.partitions import EXCLUDED

Slabs = Callable[[], Iterator[np.ndarray]]
"""Gives the slabs of a volume of partitions, in order along its first axis, each time it is called."""


def balanced_sites(slabs: Slabs, limit: int | None, rng: np.random.Generator) -> tuple[np.ndarray, dict[int, int]]:
    """Voxels of each partition, equally many of each, all shuffled together.

    From each partition as many voxels are drawn as the largest has, or `limit` if that is less: without replacement
    while they last; a smaller partition is repeated in the same random order.

    Returns:
        (n, 3) int64: x, y, z of the sites, counted from the first voxel of the first slab.
        The voxels of each partition that occurs, 255 aside.
    """
    counts = sum((np.bincount(slab.ravel(), minlength=256) for slab in slabs()), np.zeros(256, np.int64))
    available = {value: int(counts[value]) for value in range(EXCLUDED) if counts[value]}
    if not available:
        return np.zeros((0, 3), np.int64), {}
    wanted = max(available.values()) if limit is None else min(limit, max(available.values()))
    sites_xyz = {value: np.empty((wanted, 3), np.int64) for value in available}
    # Each voxel of a partition has a number there, from 0, in the order of the array; drawn numbers are looked up in
    # rising order, so that every slab is passed once.
    drawn = {value: _draw(count, wanted, rng) for value, count in available.items()}
    rising = {value: np.argsort(numbers, kind="stable") for value, numbers in drawn.items()}
    passed = dict.fromkeys(available, 0)
    first_z = 0
    for slab in slabs():
        flat = slab.ravel()
        for value, numbers in drawn.items():
            places = np.flatnonzero(flat == value)
            first, last = np.searchsorted(numbers, [passed[value], passed[value] + len(places)], sorter=rising[value])
            here = rising[value][first:last]
            z, y, x = np.unravel_index(places[numbers[here] - passed[value]], slab.shape)
            sites_xyz[value][here] = np.stack([x, y, z + first_z], axis=1)
            passed[value] += len(places)
        first_z += len(slab)
    return rng.permutation(np.concatenate(list(sites_xyz.values()))), available


def _draw(available: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` of the numbers below `available`, each as often as any other or once less, in random order."""
    if wanted < available:
        return rng.choice(available, wanted, replace=False)
    return np.resize(rng.permutation(available), wanted)
