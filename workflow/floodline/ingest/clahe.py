"""Contrast-limited adaptive histogram equalisation, block by block, without seams.

The slice is divided into regions; the histogram of each, clipped, makes a table of grey values, and every voxel takes
the mean of the tables of the four regions around it, weighted by its distance from their middles (K. Zuiderveld,
Graphics Gems IV, 1994). Regions lie where the whole slice's are, and a block reads those around it, so the result does
not depend on the blocks. The places of regions and weights are scikit-image's; what it does beyond that with the lowest
and highest grey value of the whole slice is left out, for no block knows these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from floodline import config
from floodline.geometry import Box

BINS = {"uint8": 256, "uint16": 4096}


@dataclass(frozen=True)
class _Axis:
    """Regions along an axis of the slice, for the voxels `start` to `stop` (from the slice's own 0) of a block."""

    start: int
    stop: int
    size: int
    kernel: int

    @property
    def regions(self) -> int:
        return -(-self.size // self.kernel)

    @property
    def cells(self) -> np.ndarray:
        """For each voxel of the block: the number of the region whose middle is the next one behind it."""
        return (np.arange(self.start, self.stop) + self.kernel // 2) // self.kernel

    @property
    def weights(self) -> np.ndarray:
        """For each voxel of the block: the share of that region, the rest being the one's before it."""
        places = np.arange(self.start, self.stop) + self.kernel // 2
        return (places % self.kernel / self.kernel).astype(np.float32)

    @property
    def first(self) -> int:
        """The first region that the block needs."""
        return self.clamped(int(self.cells[0]) - 1)

    @property
    def last(self) -> int:
        return self.clamped(int(self.cells[-1]))

    def clamped(self, region: int) -> int:
        return min(max(region, 0), self.regions - 1)

    @property
    def places(self) -> np.ndarray:
        """Voxels of the slice that these regions hold; the last region goes on as a mirror image."""
        beyond = np.arange(self.first * self.kernel, (self.last + 1) * self.kernel)
        period = max(1, 2 * (self.size - 1))
        folded = beyond % period
        return np.minimum(folded, period - folded) if self.size > 1 else np.zeros_like(beyond)


def reads(block: Box, whole: Box, clahe: config.Clahe) -> Box:
    """What must be read for a block of a volume: the block, and the regions around it."""
    x, y = _axes(block, whole, clahe)
    inner = [(axis.places.min(), axis.places.max() + 1) for axis in (x, y)]
    start = [min(a, axis.start) for (a, _), axis in zip(inner, (x, y), strict=True)]
    stop = [max(b, axis.stop) for (_, b), axis in zip(inner, (x, y), strict=True)]
    x0, y0, _ = whole.start_xyz
    return Box(
        (x0 + int(start[0]), y0 + int(start[1]), block.start_xyz[2]),
        (x0 + int(stop[0]), y0 + int(stop[1]), block.stop_xyz[2]),
    )


def _axes(block: Box, whole: Box, clahe: config.Clahe) -> tuple[_Axis, _Axis]:
    x, y = (
        _Axis(
            block.start_xyz[i] - whole.start_xyz[i],
            block.stop_xyz[i] - whole.start_xyz[i],
            whole.size_xyz[i],
            clahe.kernel_size_xy[i],
        )
        for i in range(2)
    )
    return x, y


def equalised(
    read: Callable[[Box], np.ndarray], block: Box, whole: Box, clahe: config.Clahe, fill: int | None = None
) -> np.ndarray:
    """The block (z, y, x) of the equalised volume, in the type of the volume (uint8 or uint16).

    Args:
        read: reads a box of the volume.
        block: the part that is wanted.
        whole: the box of the volume: its slices are what is equalised.
        fill: grey value of voxels that count in no histogram and stay.
    """
    around = reads(block, whole, clahe)
    voxels = read(around)
    x, y = _axes(block, whole, clahe)
    offset_x, offset_y = (around.start_xyz[i] - whole.start_xyz[i] for i in range(2))
    own = block.slices_zyx(around.start_xyz)[1:]
    result = np.empty(block.shape_zyx, voxels.dtype)
    for z, section in enumerate(voxels):
        regions = section[np.ix_(y.places - offset_y, x.places - offset_x)]
        result[z] = _interpolated(section[own], _tables(regions, x, y, clahe, fill), x, y)
    if fill is not None:
        inner = voxels[(slice(None), *own)]
        result[inner == fill] = fill
    return result


def _tables(section: np.ndarray, x: _Axis, y: _Axis, clahe: config.Clahe, fill: int | None) -> np.ndarray:
    """The table of each region: (rows of regions, columns of regions, bins) float32."""
    bins = BINS[section.dtype.name]
    top = np.iinfo(section.dtype).max
    rows, columns = y.last - y.first + 1, x.last - x.first + 1
    numbers = np.repeat(np.arange(rows), y.kernel)[:, None] * columns + np.repeat(np.arange(columns), x.kernel)
    binned = section // ((top + 1) // bins)
    places = numbers * bins + binned
    counted = places.ravel() if fill is None else places[section != fill]
    counts = np.bincount(counted, minlength=rows * columns * bins).reshape(-1, bins).astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    limit = np.maximum(1, clahe.clip_limit * total * (BINS["uint8"] / bins))
    clipped = np.minimum(counts, limit)
    clipped += (total - clipped.sum(axis=1, keepdims=True)) / bins
    tables = np.minimum(clipped.cumsum(axis=1) * (top / np.maximum(total, 1)), top).astype(np.float32)
    # There is no contrast to limit in a region of one grey value: it stays.
    flat = np.count_nonzero(counts, axis=1) <= 1
    tables[flat] = np.linspace(0, top, bins, dtype=np.float32)
    return tables.reshape(rows, columns, bins)


def _interpolated(section: np.ndarray, tables: np.ndarray, x: _Axis, y: _Axis) -> np.ndarray:
    """Each voxel of the block's slice through the tables of the four regions around it."""
    bins = tables.shape[2]
    binned = section // ((np.iinfo(section.dtype).max + 1) // bins)
    result = np.empty(section.shape, np.float32)
    for cell_y, rows in _runs(y.cells):
        down = y.weights[rows, None]
        upper, lower = (y.clamped(cell_y - 1) - y.first, y.clamped(cell_y) - y.first)
        for cell_x, columns in _runs(x.cells):
            across = x.weights[columns]
            left, right = (x.clamped(cell_x - 1) - x.first, x.clamped(cell_x) - x.first)
            part = binned[rows, columns]
            above = (1 - across) * tables[upper, left][part] + across * tables[upper, right][part]
            below = (1 - across) * tables[lower, left][part] + across * tables[lower, right][part]
            result[rows, columns] = (1 - down) * above + down * below
    return np.rint(result).astype(section.dtype)


def _runs(cells: np.ndarray) -> list[tuple[int, slice]]:
    """Stretches of equal numbers in a rising sequence."""
    starts = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(cells)]
    return [(int(cells[a]), slice(a, b)) for a, b in pairwise(starts)]
