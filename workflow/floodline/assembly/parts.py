"""Counting supervoxels that are not connected, box by box, with no more in memory than the faces of boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np

from floodline.geometry import Box, Triple
from floodline.segmentation.union_find import unite


@dataclass(frozen=True)
class BoxParts:
    """The 6-connected parts of the supervoxels of one box, numbered from 1; 0 is unsegmented."""

    supervoxel: np.ndarray
    """(parts,): whose part each is."""
    voxels: np.ndarray
    """(parts,)."""
    below: tuple[np.ndarray, np.ndarray, np.ndarray]
    """The parts on the box's lower faces across z, y, x."""
    above: tuple[np.ndarray, np.ndarray, np.ndarray]
    """The same of the upper faces."""

    @classmethod
    def of(cls, supervoxels: np.ndarray) -> BoxParts:
        """Of a box's supervoxels, z, y, x."""
        # Of an array that is not contiguous, cc3d 4.1 returns wrong components now and then.
        supervoxels = np.ascontiguousarray(supervoxels)
        parts, count = cc3d.connected_components(supervoxels, connectivity=6, return_N=True)
        supervoxel = np.zeros(count + 1, np.uint64)
        supervoxel[parts] = supervoxels
        voxels = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        below, above = ((parts[at], parts[:, at], parts[:, :, at]) for at in (0, -1))
        return cls(supervoxel[1:], voxels, below, above)

    def arrays(self) -> dict[str, np.ndarray]:
        """As they lie in a file."""
        below = {f"below_{axis}": face for axis, face in zip("zyx", self.below, strict=True)}
        above = {f"above_{axis}": face for axis, face in zip("zyx", self.above, strict=True)}
        return {"supervoxel": self.supervoxel, "voxels": self.voxels, **below, **above}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> BoxParts:
        below, above = ((arrays[f"{name}_z"], arrays[f"{name}_y"], arrays[f"{name}_x"]) for name in ("below", "above"))
        return cls(arrays["supervoxel"], arrays["voxels"], below, above)


class Parts:
    """Counts the parts of every supervoxel while the volume goes by in boxes of `geometry.blocks`."""

    def __init__(self) -> None:
        self._supervoxel: list[np.ndarray] = [np.zeros(0, np.uint64)]
        self._voxels: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._count = 0
        self._same: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
        self._waiting: dict[tuple[int, Triple], tuple[np.ndarray, np.ndarray]] = {}

    def add(self, box: Box, parts: BoxParts) -> None:
        """Take the next box; its neighbours below it were taken before."""
        supervoxel = np.append(np.uint64(0), parts.supervoxel)
        for axis_zyx in range(3):
            axis_xyz = 2 - axis_zyx
            below, above = (
                (supervoxel[face], face.astype(np.int64) - 1 + self._count)
                for face in (parts.below[axis_zyx], parts.above[axis_zyx])
            )
            self._connect(self._waiting.pop((axis_xyz, box.start_xyz), None), below)
            corner = list(box.start_xyz)
            corner[axis_xyz] = box.stop_xyz[axis_xyz]
            self._waiting[axis_xyz, (corner[0], corner[1], corner[2])] = above
        self._supervoxel.append(parts.supervoxel)
        self._voxels.append(parts.voxels)
        self._count += len(parts.supervoxel)

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
        supervoxel = np.concatenate(self._supervoxel)
        parts, part = np.unique(root, return_inverse=True)
        voxels = np.bincount(part, np.concatenate(self._voxels), len(parts)).astype(np.int64)
        supervoxels, owner, parts_of = np.unique(supervoxel[parts], return_inverse=True, return_counts=True)
        largest = np.zeros(len(supervoxels), np.int64)
        np.maximum.at(largest, owner, voxels)
        return {
            "objects": len(supervoxels),
            "labelled_voxels": int(voxels.sum()),
            "objects_in_several_parts": int((parts_of > 1).sum()),
            "voxels_outside_largest_parts": int(voxels.sum() - largest.sum()),
        }
