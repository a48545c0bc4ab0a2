"""Boxes, axis order and grids of sub-volumes.

Everything a person reads or writes is x, y, z in voxels of mip 0; every array in memory is z, y, x.
This module alone converts between the two. Boxes are half-open and live in the coordinates of the source volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import cast

Triple = tuple[int, int, int]


def triple(values: Iterable[int]) -> Triple:
    """Three plain integers, from anything that holds three."""
    a, b, c = (int(value) for value in values)
    return a, b, c


def to_zyx(xyz: Sequence[int]) -> Triple:
    """x, y, z to z, y, x."""
    return triple(reversed(xyz))


def to_xyz(zyx: Sequence[int]) -> Triple:
    """z, y, x to x, y, z."""
    return triple(reversed(zyx))


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box of voxels: `start_xyz` belongs to it, `stop_xyz` does not."""

    start_xyz: Triple
    stop_xyz: Triple

    @classmethod
    def of(cls, corners: Sequence[Sequence[int]]) -> Box:
        """From [[x0, y0, z0], [x1, y1, z1]], as the configuration writes it."""
        start, stop = corners
        return cls(triple(start), triple(stop))

    @classmethod
    def sized(cls, start_xyz: Sequence[int], size_xyz: Sequence[int]) -> Box:
        """From a corner and a size."""
        return cls(triple(start_xyz), triple(a + b for a, b in zip(start_xyz, size_xyz, strict=True)))

    @classmethod
    def of_array(cls, shape_zyx: Sequence[int], start_xyz: Sequence[int] = (0, 0, 0)) -> Box:
        """The box that an array of this shape fills when its first voxel lies at `start_xyz`."""
        return cls.sized(start_xyz, to_xyz(shape_zyx))

    @property
    def size_xyz(self) -> Triple:
        return triple(b - a for a, b in zip(self.start_xyz, self.stop_xyz, strict=True))

    @property
    def shape_zyx(self) -> Triple:
        return to_zyx(self.size_xyz)

    @property
    def voxels(self) -> int:
        x, y, z = (max(0, size) for size in self.size_xyz)
        return x * y * z

    @property
    def is_empty(self) -> bool:
        return self.voxels == 0

    @property
    def corners(self) -> list[list[int]]:
        """[[x0, y0, z0], [x1, y1, z1]], for files that people read."""
        return [list(self.start_xyz), list(self.stop_xyz)]

    @property
    def name(self) -> str:
        """`x0-x1_y0-y1_z0-z1`: names files, and is what Neuroglancer calls its chunks."""
        return "_".join(f"{a}-{b}" for a, b in zip(self.start_xyz, self.stop_xyz, strict=True))

    def __str__(self) -> str:
        return " ".join(f"{axis} {a}..{b}" for axis, a, b in zip("xyz", self.start_xyz, self.stop_xyz, strict=True))

    def slices_zyx(self, origin_xyz: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Index of this box in an array whose first voxel lies at `origin_xyz`."""
        x, y, z = (slice(a - o, b - o) for a, b, o in zip(self.start_xyz, self.stop_xyz, origin_xyz, strict=True))
        return z, y, x

    def intersection(self, other: Box) -> Box:
        """The common part; may be empty."""
        return Box(
            triple(map(max, self.start_xyz, other.start_xyz)),
            triple(map(min, self.stop_xyz, other.stop_xyz)),
        )

    def contains(self, other: Box) -> bool:
        return self.intersection(other) == other

    def contains_point(self, point_xyz: Sequence[int]) -> bool:
        return all(a <= p < b for a, p, b in zip(self.start_xyz, point_xyz, self.stop_xyz, strict=True))

    def shifted(self, offset_xyz: Sequence[int]) -> Box:
        return Box(
            triple(a + o for a, o in zip(self.start_xyz, offset_xyz, strict=True)),
            triple(b + o for b, o in zip(self.stop_xyz, offset_xyz, strict=True)),
        )

    def grown(self, margin_xyz: Sequence[int]) -> Box:
        """Larger by the margin on every side; a negative margin shrinks."""
        return Box(
            triple(a - m for a, m in zip(self.start_xyz, margin_xyz, strict=True)),
            triple(b + m for b, m in zip(self.stop_xyz, margin_xyz, strict=True)),
        )


def _intervals(start: int, stop: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Intervals of one axis: stride size - overlap, the last one shifted back so that all have full size."""
    size = min(size, stop - start)
    stride = size - overlap
    count = 1 if size >= stop - start else ceil((stop - start - overlap) / stride)
    starts = [min(start + i * stride, stop - size) for i in range(count)]
    return [(a, a + size) for a in starts]


def tile(outer: Box, size_xyz: Sequence[int], overlap_xyz: Sequence[int] = (0, 0, 0)) -> list[Box]:
    """Boxes of equal size that cover `outer`, neighbours sharing at least `overlap_xyz` voxels; x runs fastest.

    The last box of an axis is shifted back to full size, so that no sub-volume is too thin for a field of view;
    an axis shorter than the size gets one box of its own length.

    Raises:
        ValueError: the overlap is not smaller than the size.
    """
    if any(o < 0 or o >= s for s, o in zip(size_xyz, overlap_xyz, strict=True)):
        raise ValueError(
            f"the overlap {list(overlap_xyz)} must be at least 0 and smaller than the size {list(size_xyz)}"
        )
    axes = [_intervals(*args) for args in zip(outer.start_xyz, outer.stop_xyz, size_xyz, overlap_xyz, strict=True)]
    boxes = []
    for interval_z, interval_y, interval_x in product(axes[2], axes[1], axes[0]):
        corners = zip(interval_x, interval_y, interval_z, strict=True)
        boxes.append(Box(*cast(tuple[Triple, Triple], tuple(corners))))
    return boxes


def blocks(outer: Box, size_xyz: Sequence[int]) -> list[Box]:
    """Boxes aligned to `outer`'s start that cover it without overlap, the last of an axis clipped; x runs fastest."""
    ranges = [range(a, b, s) for a, b, s in zip(outer.start_xyz, outer.stop_xyz, size_xyz, strict=True)]
    return [Box.sized((x, y, z), size_xyz).intersection(outer) for z, y, x in product(ranges[2], ranges[1], ranges[0])]
