"""Contrast: what the network's input is normalised with, and histogram matching to a reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.manifest import read_json


def reference_of(experiment: Experiment) -> np.ndarray | None:
    """Cumulative fractions of the reference histogram, one for each grey value; None if none is configured.

    The file holds counts (or fractions) of the grey values, or a rising sequence that ends with 1, which is taken as
    cumulative already.

    Raises:
        FloodlineError: the file is missing, or is not such a list.
    """
    wanted = experiment.config.inference.reference_histogram
    if wanted is None:
        return None
    path = Path(wanted)
    try:
        numbers = np.load(path, allow_pickle=False) if path.suffix == ".npy" else json.loads(path.read_text())
        values = np.asarray(numbers, dtype=np.float64)
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist: inference.reference_histogram names it.") from None
    except (ValueError, TypeError, OSError) as error:
        raise FloodlineError(f"{path} cannot be read as a histogram: {' '.join(str(error).split())}.") from None
    levels = np.iinfo(read_json(experiment.manifest("image"))["dtype"]).max + 1
    if values.shape != (levels,) or not np.isfinite(values).all() or values.min() < 0 or values.max() == 0:
        raise FloodlineError(f"{path} is no histogram of the image: {levels} numbers, none negative, are needed.")
    if (np.diff(values) >= 0).all() and np.isclose(values[-1], 1):
        return values
    return values.cumsum() / values.sum()


def normalisation_of(experiment: Experiment, reference: np.ndarray | None) -> tuple[float, float]:
    """Mean and standard deviation: as configured, else of what the images are matched to, else as measured."""
    mean, stddev = experiment.normalisation()
    if reference is None:
        return mean, stddev
    wanted = experiment.config.inference
    fractions, levels = np.diff(reference, prepend=0), np.arange(len(reference))
    of_reference = float(fractions @ levels)
    spread = float(np.sqrt(fractions @ (levels - of_reference) ** 2))
    return (
        of_reference if wanted.image_mean is None else mean,
        (spread or 1.0) if wanted.image_stddev is None else stddev,
    )


def matched(image: np.ndarray, reference: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
    """Give every z-slice the reference's distribution of grey values, by a table that never reverses their order.

    A grey value whose cumulative fraction in the slice is f becomes the lowest one whose cumulative fraction in the
    reference is at least f.

    Args:
        image: unsigned integers, z, y, x.
        reference: cumulative fractions, one for each grey value.
        left_out: voxels (boolean) that do not count in a slice's distribution, but are changed all the same.
    """
    result = np.empty_like(image)
    for z, slice_ in enumerate(image):
        counted = slice_ if left_out is None else slice_[~left_out[z]]
        if counted.size == 0:
            result[z] = slice_
            continue
        fractions = np.bincount(counted.ravel(), minlength=len(reference)).cumsum() / counted.size
        # Fractions that are equal but for rounding are equal.
        table = np.searchsorted(reference, fractions - 1e-9)
        result[z] = np.minimum(table, len(reference) - 1).astype(image.dtype)[slice_]
    return result
