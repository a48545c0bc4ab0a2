"""Segments in unsegmented space: every unsegmented voxel takes the nearest segment within a distance.

Between two segments on either side of a membrane the border comes to lie in the membrane's middle. Which segment is
nearest depends on what lies within the distance and on nothing else, so a box that is read with `halo_zyx` around it
gets what the whole volume would give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.ndimage import distance_transform_edt

from floodline.geometry import Triple, triple


def spacing_zyx(voxel_size_nm_xyz: Sequence[float]) -> tuple[float, float, float]:
    """Size of a voxel along z, y, x in units of its shortest side: the unit of every distance here."""
    x, y, z = (size / min(voxel_size_nm_xyz) for size in voxel_size_nm_xyz)
    return z, y, x


def halo_zyx(reach: float, spacing: Sequence[float]) -> Triple:
    """Voxels around a box that its grown segments depend on."""
    return triple(ceil(reach / size) for size in spacing)


@dataclass(frozen=True)
class Grown:
    """Segments after growth; arrays are z, y, x."""

    labels: np.ndarray
    distance: np.ndarray
    """float64: from the voxel to the nearest voxel of its segment; 0 inside."""
    source: np.ndarray
    """int64: that nearest voxel, as an index into the flattened array."""


def grow(labels: np.ndarray, reach: float, spacing: Sequence[float]) -> Grown:
    """Let segments grow into label 0 by at most `reach`.

    Args:
        labels: z, y, x; 0 is unsegmented.
        reach: largest distance, in voxels of the finest axis.
        spacing: size of a voxel along z, y, x in those units.
    """
    here = np.arange(labels.size).reshape(labels.shape)
    if reach == 0 or not labels.any():
        return Grown(labels, np.zeros(labels.shape), here)
    distance, nearest = distance_transform_edt(labels == 0, sampling=spacing, return_indices=True)
    source = np.where(distance <= reach, np.ravel_multi_index(tuple(nearest), labels.shape), here)
    distance[distance > reach] = 0
    return Grown(labels.ravel()[source], distance, source)


DARKNESS = 5.0
"""Of two voxels on a way, the one that is a standard deviation darker costs so many powers of e more."""

DARKEST = 2.5
"""Darker voxels than this, in standard deviations below the image's mean, cost no more."""

UNREACHED = np.int64(2**62)


def grow_along(
    labels: np.ndarray, image: np.ndarray, mean: float, stddev: float, steps: int, spacing: Sequence[float]
) -> np.ndarray:
    """Let segments grow into label 0 along the image: a voxel takes the segment that reaches it on the brightest way.

    A way goes from voxel to voxel over faces, in at most so many steps. Each of its voxels costs the distance to the
    one before times exp(`DARKNESS` * how dark it is): ways keep to cytoplasm, and segments meet inside membranes. Of
    equally cheap ways that of the smallest label counts. What a voxel takes depends on nothing that is more steps away,
    so a box that is read with so many voxels around it gets what the whole volume would give it.

    Args:
        labels: z, y, x; 0 is unsegmented.
        image: grey values, same shape.
        mean, stddev: of the image.
        steps: of the longest way.
        spacing: size of a voxel along z, y, x in units of its shortest side.

    Returns:
        The new labels.
    """
    ids, rank = np.unique(labels, return_inverse=True)
    darkness = np.minimum((mean - image.astype(np.float64)) / stddev, DARKEST)
    price = np.pad(np.exp(DARKNESS * darkness), 1)
    # The cost of the cheapest way so far in the upper half, the rank of its label in the lower: one minimum finds both.
    best = np.pad(np.where(labels > 0, rank.reshape(labels.shape), UNREACHED), 1, constant_values=UNREACHED)
    shape, best = best.shape, best.ravel()
    inside = np.zeros(shape, bool)
    inside[1:-1, 1:-1, 1:-1] = labels == 0
    empty = np.flatnonzero(inside)
    strides = (shape[1] * shape[2], shape[2], 1)
    costs = [np.maximum(np.rint(16 * price.ravel()[empty] * size), 1).astype(np.int64) << 32 for size in spacing]
    for _ in range(steps):
        found = best[empty]
        for stride, cost in zip(strides, costs, strict=True):
            for neighbour in (best[empty - stride], best[empty + stride]):
                np.minimum(found, np.where(neighbour < UNREACHED, neighbour + cost, UNREACHED), out=found)
        if np.array_equal(found, best[empty]):
            break
        best[empty] = found
    best = best.reshape(shape)[1:-1, 1:-1, 1:-1]
    return np.where(best < UNREACHED, ids[np.where(best < UNREACHED, best & 0xFFFFFFFF, 0)], 0).astype(labels.dtype)
