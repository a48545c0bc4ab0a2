"""Smooth noise."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from floodline.geometry import Triple

LARGEST = 2.7
"""No value of the noise is larger than this, nor smaller than its negative."""


def smooth_noise(shape_zyx: Triple, wavelength: float, rng: Generator) -> np.ndarray:
    """Noise of mean 0 and standard deviation about 1 that varies over about `wavelength` voxels, float32.

    Random values on a coarse grid, interpolated along one axis after the other ("value noise").
    """
    origin = rng.random(3)
    knots = [int(size / wavelength) + 3 for size in shape_zyx]
    noise = rng.uniform(-LARGEST, LARGEST, knots).astype(np.float32)
    for axis, size in enumerate(shape_zyx):
        position = np.arange(size) / wavelength + origin[axis]
        knot = position.astype(int)
        t = (position - knot).astype(np.float32).reshape([-1 if axis == i else 1 for i in range(3)])
        t = t * t * (3 - 2 * t)
        noise = noise.take(knot, axis) * (1 - t) + noise.take(knot + 1, axis) * t
    return noise
