"""Grey values on their way in: every step but CLAHE is a table from the source's grey values to new ones.

A section's table depends on the whole section, not on the block that is being written, so blocks show no seams.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.volumes.histograms import cumulative, matching_table, percentile, read_reference


def result_type(wanted: config.Normalisation, dtype: np.dtype) -> np.dtype:
    """Type of the layer, from that of the source."""
    return np.dtype(np.uint8) if wanted.to_8_bits else dtype


def needs_counts(wanted: config.Normalisation) -> bool:
    """Whether the grey values of the whole image must be counted first."""
    return wanted.to_8_bits is not None or wanted.match is not None


def kept_fill(wanted: config.Normalisation, dtype: np.dtype) -> int | None:
    """The grey value that the fill has in the layer, whose type is `dtype`."""
    return None if wanted.fill is None else min(wanted.fill, np.iinfo(dtype).max)


class Recipe:
    """Makes the tables of sections.

    Args:
        wanted: the steps.
        dtype: type of the source, uint8 or uint16.
        counts: (levels of the source,) how often each grey value occurs in the whole image, the fill left out; needed
            where `needs_counts` says so.

    Raises:
        FloodlineError: there are 8 bits already, or the image is constant, or the reference is no histogram.
    """

    def __init__(self, wanted: config.Normalisation, dtype: np.dtype, counts: np.ndarray | None) -> None:
        self.wanted, self.levels, self.dtype = wanted, np.iinfo(dtype).max + 1, result_type(wanted, dtype)
        table = np.arange(self.levels)
        self.common: dict[str, np.ndarray] = {}
        """Tables after each step that is the same for all sections."""
        if wanted.invert:
            table = self.common["inverted"] = table[::-1]
        if wanted.to_8_bits is not None:
            if dtype == np.uint8:
                raise FloodlineError("image.normalise.to_8_bits is for 16 bits, but the image source has 8 already.")
            assert counts is not None
            table = self.common["8 bits"] = _scaled(table, _through(table, counts), wanted.to_8_bits)
        self.reference: np.ndarray | None = None
        self.after_common = table
        if wanted.match is not None:
            assert counts is not None
            result_levels = np.iinfo(self.dtype).max + 1
            of_volume = _through(table, counts, result_levels)
            self.reference = (
                cumulative(of_volume)
                if wanted.match.reference is None
                else read_reference(Path(wanted.match.reference), result_levels, "image.normalise.match.reference")
            )
            if wanted.match.by == "volume":
                self.common["matched"] = matching_table(of_volume, self.reference)[table]

    def steps(self, counts: np.ndarray | None) -> dict[str, np.ndarray]:
        """What each grey value of the source has become after each step, by the step's name.

        Args:
            counts: (levels,) of the section, the fill left out.
        """
        steps = dict(self.common)
        if self.wanted.match is not None and self.wanted.match.by == "section":
            assert counts is not None
            assert self.reference is not None
            own = _through(self.after_common, counts, len(self.reference))
            # A section of a single grey value shows nothing, and the reference would only make it white.
            by_match = matching_table(own, self.reference) if np.count_nonzero(own) > 1 else np.arange(len(own))
            steps["matched"] = by_match[self.after_common]
        return {name: self._with_fill(table) for name, table in steps.items()}

    def table(self, counts: np.ndarray | None) -> np.ndarray | None:
        """The table of a section, of all steps together; None where grey values stay."""
        steps = self.steps(counts)
        return list(steps.values())[-1].astype(self.dtype) if steps else None

    def _with_fill(self, table: np.ndarray) -> np.ndarray:
        if self.wanted.fill is None or self.wanted.fill >= self.levels:
            return table
        result = table.copy()
        result[self.wanted.fill] = kept_fill(self.wanted, self.dtype)
        return result


def _through(table: np.ndarray, counts: np.ndarray, levels: int | None = None) -> np.ndarray:
    """Counts of the grey values that a table gives, from those of the grey values that it takes."""
    result = np.zeros(levels or len(counts), np.int64)
    np.add.at(result, table, counts)
    return result


def _scaled(table: np.ndarray, counts: np.ndarray, wanted: config.Percentiles) -> np.ndarray:
    if counts.sum() == 0:
        raise FloodlineError("every voxel of the image is fill (image.normalise.fill): nothing is left to scale.")
    low, high = percentile(counts, wanted.low), percentile(counts, wanted.high)
    if low == high:
        raise FloodlineError(
            f"image.normalise.to_8_bits: the percentiles {wanted.low:g} and {wanted.high:g} of the image are both "
            f"{low}: nothing is left between them."
        )
    return np.rint((np.clip(table, low, high) - low) * (255 / (high - low))).astype(np.int64)


def counts_by_section(array: np.ndarray, levels: int, fill: int | None) -> np.ndarray:
    """How often each grey value occurs in each z-slice of an array (z, y, x), the fill left out: (z, levels) uint32."""
    result = np.stack([np.bincount(section.ravel(), minlength=levels) for section in array]).astype(np.uint32)
    if fill is not None and fill < levels:
        result[:, fill] = 0
    return result


def applied(tables: np.ndarray | None, array: np.ndarray) -> np.ndarray:
    """Each z-slice of an array (z, y, x) through its table: `tables` is (z, levels), or (1, levels) for all of them."""
    if tables is None:
        return array
    result = np.empty(array.shape, tables.dtype)
    for z, section in enumerate(array):
        np.take(tables[min(z, len(tables) - 1)], section, out=result[z], mode="clip")
    return result
