"""Histograms of grey values: references, statistics, and tables that give one distribution to another."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import numpy as np

from floodline.errors import FloodlineError


def read_reference(path: Path, levels: int, key: str) -> np.ndarray:
    """Cumulative fractions of a reference histogram, (levels,) float64.

    The file holds counts (or fractions) of the grey values, or a rising sequence that ends with 1, which is taken as
    cumulative already.

    Args:
        path: a .npy or .json file.
        levels: how many grey values there are.
        key: of the configuration that names the file, for the sentence.

    Raises:
        FloodlineError: the file is missing, or is not such a list.
    """
    try:
        numbers = np.load(path, allow_pickle=False) if path.suffix == ".npy" else json.loads(path.read_text())
        values = np.asarray(numbers, dtype=np.float64)
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist: {key} names it.") from None
    except (ValueError, TypeError, OSError) as error:
        raise FloodlineError(f"{path} cannot be read as a histogram: {' '.join(str(error).split())}.") from None
    if values.shape != (levels,) or not np.isfinite(values).all() or values.min() < 0 or values.max() == 0:
        raise FloodlineError(f"{path} is no histogram of the image: {levels} numbers, none negative, are needed.")
    if (np.diff(values) >= 0).all() and np.isclose(values[-1], 1):
        return values
    return cumulative(values)


def cumulative(counts: np.ndarray) -> np.ndarray:
    """Fractions of the voxels with each grey value or a lower one."""
    return counts.cumsum() / counts.sum()


def matching_table(counts: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The grey value that each grey value becomes, so that the distribution `counts` becomes the reference's.

    A grey value whose cumulative fraction is f becomes the lowest one whose cumulative fraction in the reference is at
    least f. So the order of grey values is never reversed.

    Args:
        counts: (levels,) how often each grey value occurs, not all 0.
        reference: (levels of the result,) cumulative fractions.
    """
    # Fractions that are equal but for rounding are equal.
    return np.minimum(np.searchsorted(reference, cumulative(counts) - 1e-9), len(reference) - 1)


def percentile(counts: np.ndarray, percent: float) -> int:
    """The lowest grey value that occurs and that at least so many per cent of the voxels do not exceed."""
    return int(np.searchsorted(cumulative(counts), max(percent / 100 - 1e-9, 1e-18)))


def mean_and_stddev(counts: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the values 0, 1, 2, ... that occur as often as the histogram says."""
    whole = [int(count) for count in counts]
    # Python's integers do not overflow, so the sums are exact for a volume of any size.
    total = sum(whole)
    first = sum(value * count for value, count in enumerate(whole))
    second = sum(value * value * count for value, count in enumerate(whole))
    return first / total, sqrt(second * total - first * first) / total
