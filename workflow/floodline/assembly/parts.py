"""Counting supervoxels that are not connected, box by box, with no more in memory than the faces of boxes."""

from __future__ import annotations

import cc3d
import numpy as np

from floodline.geometry import Box, Triple
from floodline.segmentation.union_find import unite


class Parts:
    """Counts the 6-connected parts of every supervoxel while the volume goes by in boxes of `geometry.blocks`."""

    def __init__(self) -> None:
        self._supervoxel: list[np.ndarray] = []
        self._voxels: list[np.ndarray] = []
        self._count = 0
        self._same: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
        self._waiting: dict[tuple[int, Triple], tuple[np.ndarray, np.ndarray]] = {}

    def add(self, box: Box, supervoxels: np.ndarray) -> None:
        """Take the next box (z, y, x); its neighbours below it were taken before."""
        # Of an array that is not contiguous, cc3d 4.1 returns wrong components now and then.
        supervoxels = np.ascontiguousarray(supervoxels)
        local, count = cc3d.connected_components(supervoxels, connectivity=6, return_N=True)
        of_part = np.zeros(count + 1, np.uint64)
        of_part[local] = supervoxels
        self._supervoxel.append(of_part[1:])
        self._voxels.append(np.bincount(local.ravel(), minlength=count + 1)[1:])
        parts = local.astype(np.int64) + self._count
        self._count += count
        for axis_zyx in range(3):
            axis_xyz = 2 - axis_zyx
            faces = [(np.take(supervoxels, at, axis_zyx), np.take(parts, at, axis_zyx) - 1) for at in (0, -1)]
            self._connect(self._waiting.pop((axis_xyz, box.start_xyz), None), faces[0])
            corner = list(box.start_xyz)
            corner[axis_xyz] = box.stop_xyz[axis_xyz]
            self._waiting[axis_xyz, (corner[0], corner[1], corner[2])] = faces[1]

    def _connect(self, below: tuple[np.ndarray, np.ndarray] | None, above: tuple[np.ndarray, np.ndarray]) -> None:
        """Parts of one supervoxel that touch across a face are one."""
        if below is not None:
            touch = (below[0] == above[0]) & (above[0] > 0)
            self._same.append(np.unique(np.stack([below[1][touch], above[1][touch]], axis=1), axis=0))

    def counts(self) -> dict[str, int]:
        """Supervoxels, those in several parts, and the voxels outside of each one's largest part."""
        root = np.arange(self._count)
        joined, roots = unite(np.concatenate(self._same))
        root[joined] = roots
        supervoxel = np.concatenate([np.zeros(0, np.uint64), *self._supervoxel])
        parts, part = np.unique(root, return_inverse=True)
        voxels = np.bincount(part, np.concatenate([np.zeros(0, np.int64), *self._voxels]), len(parts)).astype(np.int64)
        supervoxels, owner, parts_of = np.unique(supervoxel[parts], return_inverse=True, return_counts=True)
        largest = np.zeros(len(supervoxels), np.int64)
        np.maximum.at(largest, owner, voxels)
        return {
            "objects": len(supervoxels),
            "labelled_voxels": int(voxels.sum()),
            "objects_in_several_parts": int((parts_of > 1).sum()),
            "voxels_outside_largest_parts": int(voxels.sum() - largest.sum()),
        }
