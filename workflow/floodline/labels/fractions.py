"""How much of the box around a voxel belongs to the voxel's own object, counted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from scipy.ndimage import find_objects

from floodline.geometry import Box, blocks
from floodline.segmentation.relabel import compact

TILE_XYZ = (64, 64, 64)
"""Objects are cut into tiles: larger ones would hold more emptiness, smaller ones more margin."""


def own_label_counts(labels: np.ndarray, radius_zyx: Sequence[int], removed: np.ndarray) -> np.ndarray:
    """For each voxel the number of voxels of its own label in the box of side 2 * radius + 1 centred at it.

    Args:
        labels: (z, y, x) integers; 0 is background.
        radius_zyx: radius of the box, at least 0 on each axis.
        removed: labels that count as background.

    Returns:
        (z - 2 rz, y - 2 ry, x - 2 rx) uint32: only voxels whose whole box lies in the array; background has 0.
    """
    numbers, ids = compact(labels)
    kept = ~np.isin(ids, removed)
    inner = numbers[tuple(slice(r, size - r) for r, size in zip(radius_zyx, labels.shape, strict=True))]
    counts = np.zeros(inner.shape, np.uint32)
    for tile in blocks(Box.of_array(inner.shape), TILE_XYZ):
        core = tile.slices_zyx()
        padded = tuple(slice(s.start, s.stop + 2 * r) for s, r in zip(core, radius_zyx, strict=True))
        _count_in_tile(numbers[padded], inner[core], kept, radius_zyx, counts[core])
    return counts


def _count_in_tile(
    padded: np.ndarray, core: np.ndarray, kept: np.ndarray, radius_zyx: Sequence[int], counts: np.ndarray
) -> None:
    """Fill `counts` (shape of `core`); `padded` is `core` with the radius around it."""
    for number, extent in enumerate(find_objects(core), start=1):
        if extent is None or not kept[number]:
            continue
        around = tuple(slice(s.start, s.stop + 2 * r) for s, r in zip(extent, radius_zyx, strict=True))
        sums = box_sums(padded[around] == number, radius_zyx)
        counts[extent] += sums * (core[extent] == number)


def box_sums(mask: np.ndarray, radius_zyx: Sequence[int]) -> np.ndarray:
    """Number of true voxels in each box of side 2 * radius + 1 that lies in the array (z, y, x)."""
    widths = [2 * radius + 1 for radius in radius_zyx]
    sums, window = mask.view(np.uint8), 1
    # The axis that shrinks most comes first, so that the later passes have less to do.
    for axis in sorted(range(3), key=lambda axis: mask.shape[axis] / widths[axis]):
        window *= widths[axis]
        sums = _window_sums(np.ascontiguousarray(sums, np.min_scalar_type(window)), widths[axis], axis)
    return sums


def _window_sums(values: np.ndarray, width: int, axis: int) -> np.ndarray:
    """Sums of `width` (odd) neighbours along an axis, from sums of 1, 2, 4, ... neighbours, each made by one addition.

    The array is added to shifted copies of itself as one long line, which is what the processor does fastest. What
    wraps around the end of a row lands in places that the returned view leaves out.
    """
    step = values.strides[axis] // values.itemsize
    length = values.size - (width - 1) * step
    powers, size = values.reshape(-1), 1
    sums, covered = powers[:length], 1
    while 2 * size <= width:
        powers = powers[: -size * step] + powers[size * step :]
        size *= 2
        if width & size:
            sums = sums + powers[covered * step :][:length]
            covered += size
    shape = [n - (width - 1) * (k == axis) for k, n in enumerate(values.shape)]
    return np.lib.stride_tricks.as_strided(sums, shape, values.strides, writeable=False)


def partition_of_count(thresholds: Sequence[float], radius_zyx: Sequence[int]) -> np.ndarray:
    """Partition of each possible count: 0 for none, else i + 1 for the first threshold t_i that the fraction is below.

    Returns:
        (voxels of the box + 1,) uint8; fractions that reach the last threshold get `len(thresholds) + 1`.
    """
    window = prod(2 * radius + 1 for radius in radius_zyx)
    partitions = 1 + np.digitize(np.arange(window + 1) / window, thresholds)
    partitions[0] = 0
    return partitions.astype(np.uint8)
