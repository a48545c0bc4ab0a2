"""Volumes of another voxel size, brought to the one that the network is trained at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from floodline.geometry import Box, Triple, triple

Read = Callable[[Box], np.ndarray]
"""Reads the voxels of a box, z, y, x."""


@dataclass(frozen=True)
class Scale:
    """A change of the voxel size. Places are counted from the first corner of a box.

    Attributes:
        factors_xyz: old voxels along a new one.
    """

    factors_xyz: tuple[float, float, float]

    @classmethod
    def between(cls, old_nm_xyz: Sequence[float], new_nm_xyz: Sequence[float]) -> Scale:
        x, y, z = (new / old for old, new in zip(old_nm_xyz, new_nm_xyz, strict=True))
        return cls((x, y, z))

    @property
    def changes_nothing(self) -> bool:
        return self.factors_xyz == (1.0, 1.0, 1.0)

    def size(self, old_xyz: Sequence[int]) -> Triple:
        """Whole new voxels along each axis of a box."""
        return triple(floor(size / factor) for size, factor in zip(old_xyz, self.factors_xyz, strict=True))

    def places(self, old_xyz: np.ndarray) -> np.ndarray:
        """The new voxels that hold the middles of old ones, (n, 3) int64."""
        return np.floor((old_xyz + 0.5) / self.factors_xyz).astype(np.int64)

    def interpolated(self, read: Read, box: Box, part: Box) -> np.ndarray:
        """Grey values of a part, linear between the middles of old voxels.

        Args:
            read: reads old voxels inside `box`.
            part: what is wanted, in new voxels from the corner of `box`.
        """
        if self.changes_nothing:
            return read(part.shifted(box.start_xyz))
        old, values = self._around(read, box, part)
        kind = values.dtype
        for axis, middles in enumerate(old):
            below = np.clip(np.floor(middles).astype(np.int64), 0, values.shape[axis] - 1)
            above = np.minimum(below + 1, values.shape[axis] - 1)
            share = np.clip(middles - below, 0, 1).reshape([-1 if k == axis else 1 for k in range(3)])
            values = values.take(below, axis) * (1 - share) + values.take(above, axis) * share
        return np.rint(values).astype(kind)

    def nearest(self, read: Read, box: Box, part: Box) -> np.ndarray:
        """Labels of a part: those of the old voxels that hold the middles of the new ones."""
        if self.changes_nothing:
            return read(part.shifted(box.start_xyz))
        old, values = self._around(read, box, part)
        nearest = [
            np.clip(np.floor(m + 0.5).astype(np.int64), 0, n - 1) for m, n in zip(old, values.shape, strict=True)
        ]
        return values[np.ix_(*nearest)]

    def _around(self, read: Read, box: Box, part: Box) -> tuple[list[np.ndarray], np.ndarray]:
        """The middles of the new voxels of each axis (z, y, x), in old ones, and the old voxels around them."""
        bounds = zip(part.start_xyz, part.stop_xyz, self.factors_xyz, box.size_xyz, strict=True)
        ranges = [
            (max(0, floor((a + 0.5) * f - 0.5)), min(size, ceil((b - 0.5) * f - 0.5) + 1)) for a, b, f, size in bounds
        ]
        needed = Box(triple(a for a, _ in ranges), triple(b for _, b in ranges))
        middles = [
            (np.arange(a, b) + 0.5) * f - 0.5 - start
            for a, b, f, start in zip(part.start_xyz, part.stop_xyz, self.factors_xyz, needed.start_xyz, strict=True)
        ]
        return middles[::-1], read(needed.shifted(box.start_xyz))
