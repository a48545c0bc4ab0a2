"""Contrast: what the network's input is normalised with, and histogram matching to a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.volumes.histograms import matching_table, read_reference


def reference_of(experiment: Experiment) -> np.ndarray | None:
    """Cumulative fractions of the reference histogram, one for each grey value; None if none is configured.

    Raises:
        FloodlineError: the file is missing, or is no histogram.
    """
    wanted = experiment.config.inference.reference_histogram
    if wanted is None:
        return None
    levels = np.iinfo(read_json(experiment.manifest("image"))["dtype"]).max + 1
    return read_reference(Path(wanted), levels, "inference.reference_histogram")


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


def as_the_network_sees(
    experiment: Experiment, image: np.ndarray, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, float, float]:
    """The image (unsigned integers, z, y, x), matched if a reference is configured; and mean and standard deviation."""
    reference = reference_of(experiment)
    if reference is not None:
        image = matched(image, reference, left_out)
    return image, *normalisation_of(experiment, reference)


def matched(image: np.ndarray, reference: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
    """Give every z-slice the reference's distribution of grey values, by a table that never reverses their order.

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
        counts = np.bincount(counted.ravel(), minlength=len(reference))
        result[z] = matching_table(counts, reference).astype(image.dtype)[slice_]
    return result
