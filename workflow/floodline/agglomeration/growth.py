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
