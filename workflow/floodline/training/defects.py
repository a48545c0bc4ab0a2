"""Artificial defects of examples: uneven contrast, and sections that are missing, displaced or out of focus."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from floodline.config import Defects

NONE = Defects()


def worsen(image: np.ndarray, defects: Defects, rng: np.random.Generator) -> np.ndarray:
    """An image with the configured defects.

    Args:
        image: normalised float32 (z, y, x); sections are z-slices. It is not changed.
        rng: decides where the defects are. What is switched off draws nothing from it.
    """
    if defects == NONE:
        return image
    image = image.copy()
    for section in _drawn(len(image), defects.misaligned_sections, rng):
        shift_yx = rng.integers(-defects.max_displacement, defects.max_displacement + 1, 2)
        image[section] = displaced(image[section], shift_yx)
    for section in _drawn(len(image), defects.blurred_sections, rng):
        image[section] = gaussian_filter(image[section], rng.uniform(0, defects.max_blur), mode="nearest")
    if defects.contrast:
        image *= np.float32(rng.uniform(1 - defects.contrast, 1 + defects.contrast))
    if defects.brightness:
        image += np.float32(rng.uniform(-defects.brightness, defects.brightness))
    image[_drawn(len(image), defects.missing_sections, rng)] = 0
    return image


def _drawn(sections: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    return np.flatnonzero(rng.random(sections) < probability) if probability else np.zeros(0, np.intp)


def displaced(section: np.ndarray, shift_yx: np.ndarray) -> np.ndarray:
    """A section (y, x) moved by whole voxels; what has no voxel to come from repeats the border."""
    rows, columns = (
        np.clip(np.arange(size) - shift, 0, size - 1) for size, shift in zip(section.shape, shift_yx, strict=True)
    )
    return section[np.ix_(rows, columns)]
