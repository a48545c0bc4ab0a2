"""How overlapping sub-volumes lie: which are neighbours, where they overlap, and which voxels each is to write."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple


@dataclass(frozen=True)
class Overlap:
    """The common voxels of two neighbours, `lower` and `upper` along one axis."""

    lower: int
    upper: int
    axis_xyz: int
    box: Box


class Grid:
    """Sub-volumes on a rectilinear grid, as `geometry.tile` lays them out.

    The *core* of a sub-volume is what remains when each overlap is cut in the middle: cores fill the volume and are
    disjoint.
    """

    def __init__(self, boxes: Sequence[Box]) -> None:
        self.boxes = list(boxes)
        self._starts = [sorted({box.start_xyz[axis] for box in self.boxes}) for axis in range(3)]
        self._stops = [sorted({box.stop_xyz[axis] for box in self.boxes}) for axis in range(3)]
        self._index = {self._place(box): index for index, box in enumerate(self.boxes)}
        if any(
            len(starts) != len(stops) for starts, stops in zip(self._starts, self._stops, strict=True)
        ) or self._index.keys() != set(product(*(range(len(starts)) for starts in self._starts))):
            raise ValueError("the sub-volumes do not form a grid")

    def _place(self, box: Box) -> Triple:
        x, y, z = (bisect_left(starts, start) for starts, start in zip(self._starts, box.start_xyz, strict=True))
        return x, y, z

    @cached_property
    def overlaps(self) -> list[Overlap]:
        """The overlaps of all neighbours along x, y and z.

        Neighbours across an edge or a corner need none of their own: what they share lies in the sub-volumes between
        them as well.

        Raises:
            FloodlineError: two neighbours share no voxel, so nothing tells which of their objects are one.
        """
        overlaps = []
        for lower, box in enumerate(self.boxes):
            for axis in range(3):
                above = list(self._place(box))
                above[axis] += 1
                upper = self._index.get((above[0], above[1], above[2]))
                if upper is None:
                    continue
                common = box.intersection(self.boxes[upper])
                if common.is_empty:
                    raise FloodlineError(
                        f"the sub-volumes {box} and {self.boxes[upper]} share no voxel, so their objects cannot be "
                        "joined: set inference.overlap_xyz to at least 1 along each axis that is cut."
                    )
                overlaps.append(Overlap(lower, upper, axis, common))
        return overlaps

    def core(self, index: int) -> Box:
        """The part of the volume that lies deepest inside this sub-volume."""
        place = self._place(self.boxes[index])
        ranges = [cuts[at : at + 2] for cuts, at in zip(self._cuts, place, strict=True)]
        (x0, x1), (y0, y1), (z0, z1) = ranges
        return Box((x0, y0, z0), (x1, y1, z1))

    @cached_property
    def _cuts(self) -> list[list[int]]:
        return [
            [starts[0], *((stop + start) // 2 for stop, start in zip(stops, starts[1:], strict=False)), stops[-1]]
            for starts, stops in zip(self._starts, self._stops, strict=True)
        ]

    def touching(self, box: Box) -> list[int]:
        """Sub-volumes that have voxels in a box, in their order."""
        ranges = [
            range(bisect_right(stops, start), bisect_left(starts, stop))
            for starts, stops, start, stop in zip(self._starts, self._stops, box.start_xyz, box.stop_xyz, strict=True)
        ]
        x, y, z = ranges
        return sorted(self._index[place] for place in product(x, y, z))

    def outside_core(self, index: int, box: Box) -> np.ndarray:
        """How far the voxels of a box lie outside a sub-volume's core: city-block distance, z, y, x; 0 inside."""
        core = self.core(index)
        distances = []
        for axis in (2, 1, 0):
            at = np.arange(box.start_xyz[axis], box.stop_xyz[axis], dtype=np.int32)
            distances.append(np.maximum(np.maximum(core.start_xyz[axis] - at, at - core.stop_xyz[axis] + 1), 0))
        z, y, x = np.ix_(*distances)
        return z + y + x
