"""What is measured of each section, tile by tile, and along the axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft
from scipy import ndimage

ALIGNED_SIDE = 256
"""The shift between two sections is looked for in the middle of a tile, so many voxels wide."""

FARTHEST = 4
"""... and up to one such part of that width."""

WORTH = 0.8
"""A shift is none unless it leaves less than this part of the difference (1 - correlation) of two sections: structures
that run at a slant look shifted by a fraction of a voxel from each section to the next."""


def measure(sections: np.ndarray, previous: np.ndarray | None, fill: int | None) -> Iterator[dict[str, Any]]:
    """What is measured of each section of a tile.

    Args:
        sections: (z, y, x) unsigned integers.
        previous: the section before the first one, (y, x); None where there is none.
        fill: grey value that was not imaged; such voxels count nowhere.

    Yields:
        For each section: imaged (the part of the voxels that is not fill), mean, stddev, lowest, highest, at_bottom and
        at_top (parts of the voxels with the lowest and highest value of the type), sharpness (standard deviation of the
        Laplacian, over that of the section), correlation (Pearson's, with the section before), shift_x, shift_y (where
        the section fits the one before best, voxels), aligned (the correlation there). What cannot be told is NaN.
    """
    bottom, top = 0, np.iinfo(sections.dtype).max
    before = previous
    for section in sections:
        imaged = section if fill is None else section[section != fill]
        row: dict[str, Any] = {"imaged": imaged.size / section.size}
        if imaged.size:
            row |= {
                "mean": float(imaged.mean()),
                "stddev": float(imaged.std()),
                "lowest": int(imaged.min()),
                "highest": int(imaged.max()),
                "at_bottom": float(np.mean(imaged == bottom)),
                "at_top": float(np.mean(imaged == top)),
            }
            if row["stddev"] > 0:
                (values,) = _level(fill, section)
                row["sharpness"] = float(ndimage.laplace(values).std() / row["stddev"])
                if before is not None:
                    row |= _compared(*_level(fill, before, section))
        yield row
        before = section


def _level(fill: int | None, *sections: np.ndarray) -> list[np.ndarray]:
    """Sections as float32; where one of them is fill, each has the mean of the rest, which then counts for nothing."""
    levelled = [section.astype(np.float32) for section in sections]
    if fill is not None:
        empty = np.logical_or.reduce([section == fill for section in sections])
        for values in levelled:
            values[empty] = values[~empty].mean() if not empty.all() else 0
    return levelled


def _compared(before: np.ndarray, values: np.ndarray) -> dict[str, float]:
    if before.min() == before.max() or values.min() == values.max():
        return {}
    correlation = pearson(before, values)
    shift_y, shift_x = best_shift(_middle(before), _middle(values))
    aligned = _at_shift(before, values, shift_y, shift_x)
    if 1 - aligned > WORTH * (1 - correlation):
        shift_y, shift_x, aligned = 0, 0, correlation
    return {"correlation": correlation, "shift_x": shift_x, "shift_y": shift_y, "aligned": aligned}


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two arrays of one shape; NaN if one is constant."""
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    size = float(np.sqrt((a * a).sum(dtype=np.float64) * (b * b).sum(dtype=np.float64)))
    return float((a * b).sum(dtype=np.float64) / size) if size > 0 else float("nan")


def _middle(section: np.ndarray) -> np.ndarray:
    y, x = ((size - min(size, ALIGNED_SIDE)) // 2 for size in section.shape)
    return section[y : y + ALIGNED_SIDE, x : x + ALIGNED_SIDE]


def best_shift(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """By how many voxels (y, x) `b` lies farther than `a`, both (y, x) float32.

    The peak of their cross-correlation, taken through Fourier transforms with edges faded out, and then of the
    correlation of what overlaps, one voxel around it.
    """
    fade = np.outer(*(np.hanning(size + 2)[1:-1] for size in a.shape)).astype(np.float32)
    spectra = [scipy.fft.rfft2((values - values.mean()) * fade) for values in (a, b)]
    product = scipy.fft.irfft2(np.conj(spectra[0]) * spectra[1], a.shape)
    reach = [max(1, size // FARTHEST) for size in a.shape]
    near = np.roll(product, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    y, x = (int(place) - r for place, r in zip(np.unravel_index(near.argmax(), near.shape), reach, strict=True))
    around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return max(around, key=lambda shift: (_at_shift(a, b, *shift), -abs(shift[0]) - abs(shift[1])))


def _at_shift(a: np.ndarray, b: np.ndarray, y: int, x: int) -> float:
    """Correlation of what overlaps when `b` is moved back by so many voxels; -1 where nothing can be told."""
    height, width = a.shape
    of_a = a[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    of_b = b[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    found = pearson(of_a, of_b) if of_a.size else float("nan")
    return found if np.isfinite(found) else -1.0


def sums_along(sections: np.ndarray, fill: int | None) -> dict[str, np.ndarray]:
    """Voxels, their sum and the sum of their squares at each place of each axis: (3, size) by axis."""
    counted = np.ones(sections.shape, bool) if fill is None else sections != fill
    values = np.where(counted, sections, 0).astype(np.float64)
    result = {}
    for axis, name in enumerate("zyx"):
        others = tuple(other for other in range(3) if other != axis)
        result[name] = np.stack([array.sum(others) for array in (counted.astype(np.float64), values, values * values)])
    return result
