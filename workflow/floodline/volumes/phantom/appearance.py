"""Appearance of the generated volume: what a FIB-SEM at about 8 nm shows of an anatomy. Arrays are z, y, x."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from floodline.geometry import triple
from floodline.volumes.phantom.anatomy import Anatomy
from floodline.volumes.phantom.noise import smooth_noise

MEAN, STDDEV = 130.0, 33.0
"""Of the finished image; about those of FIB-25."""
CYTOPLASM, MEMBRANE, MITOCHONDRION = 165.0, 60.0, 105.0
"""Grey values before blur and noise."""
VOXELS_OF_A_SYNAPSE = 40_000
"""There is a cloud of vesicles in so many voxels."""


def render(anatomy: Anatomy, seed: int) -> np.ndarray:
    """The image of an anatomy, uint8; the same for the same anatomy and seed."""
    from scipy import ndimage

    rng = np.random.default_rng([seed, *anatomy.labels.shape, 1])
    image = _cytoplasm(anatomy, rng)
    _draw_organelles(image, anatomy, rng)
    synapses = _draw_vesicles(image, anatomy, rng)
    # Two membranes and the cleft between them are one dark line here; it is thicker and darker at a synapse.
    membrane = np.exp(-(((anatomy.depth - 0.5) / (1.7 + 1.2 * synapses)) ** 2))
    image += membrane * (MEMBRANE - 25 * synapses - image)
    image = ndimage.gaussian_filter(image, 0.8)
    image += 8 * rng.standard_normal(image.shape, dtype=np.float32)
    image = (image - image.mean()) / image.std() * STDDEV + MEAN
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _cytoplasm(anatomy: Anatomy, rng: Generator) -> np.ndarray:
    """Grainy, uneven, and a little different from neurite to neurite; one in ten is dark. float32."""
    from scipy import ndimage

    shape = triple(anatomy.labels.shape)
    number = int(anatomy.neurites.max()) + 1
    brightness = rng.normal(CYTOPLASM, 8, number) - 30 * (rng.random(number) < 0.1)
    image = brightness.astype(np.float32)[anatomy.neurites]
    image += 5 * smooth_noise(shape, 20, rng)
    image += 110 * ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.5)
    return image


def _draw_organelles(image: np.ndarray, anatomy: Anatomy, rng: Generator) -> None:
    """Endoplasmic reticulum, microtubules, and mitochondria with cristae and a dark outer membrane."""
    import edt

    shape = triple(anatomy.labels.shape)
    sheets = np.abs(smooth_noise(shape, 13, rng)) < 0.1
    image[sheets & (smooth_noise(shape, 25, rng) > 0.5) & (anatomy.depth > 5)] -= 35
    image[anatomy.microtubules & (anatomy.depth > 3)] -= 60
    inside = edt.edt(anatomy.mitochondria & (anatomy.depth > 2), parallel=1)
    cristae = np.sin(9 * smooth_noise(shape, 18, rng) + 0.5 * np.arange(shape[2], dtype=np.float32))
    np.copyto(image, MITOCHONDRION + 14 * cristae - 35 * (inside <= 1.5), where=inside > 0)


def _draw_vesicles(image: np.ndarray, anatomy: Anatomy, rng: Generator) -> np.ndarray:
    """Clouds of vesicles; returns how much (0 to 1) each voxel belongs to the synapses that they gather at."""
    shape = anatomy.labels.shape
    room = (anatomy.depth > 4) & ~anatomy.mitochondria
    shade = np.zeros(shape, np.float32)
    synapses = np.zeros(shape, np.float32)
    centres = np.argwhere(room & (anatomy.depth < 9))
    for centre in rng.permutation(centres)[: image.size // VOXELS_OF_A_SYNAPSE]:
        cloud = np.rint(centre + 6 * rng.standard_normal((int(rng.integers(20, 90)), 3))).astype(int)
        cloud = cloud[np.all((cloud >= 3) & (cloud < np.array(shape) - 3), axis=1)]
        own = anatomy.neurites[tuple(cloud.T)] == anatomy.neurites[tuple(centre)]
        for point in cloud[own & room[tuple(cloud.T)]]:
            part = tuple(slice(p - 3, p + 4) for p in point)
            np.minimum(shade[part], VESICLE, out=shade[part])
        _mark_synapse(synapses, anatomy, centre)
    image += shade
    return synapses


def _mark_synapse(synapses: np.ndarray, anatomy: Anatomy, centre: np.ndarray) -> None:
    """A fading ball around the neurite's membrane that is nearest to `centre`."""
    part = _window(centre, 12, synapses.shape)
    own = anatomy.neurites[part] == anatomy.neurites[tuple(centre)]
    membrane = np.argwhere(own & (anatomy.depth[part] < 2)) + [axis.start for axis in part]
    wall = membrane[((membrane - centre) ** 2).sum(axis=1).argmin()]
    part = _window(wall, 10, synapses.shape)
    squares = sum((axis - w) ** 2 for axis, w in zip(np.ogrid[part], wall, strict=True))
    synapses[part] = np.maximum(synapses[part], np.exp(-squares / 24))


def _window(centre: np.ndarray, radius: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(c - radius, 0), min(c + radius + 1, size)) for c, size in zip(centre, shape, strict=True))


def _vesicle() -> np.ndarray:
    """The shade of a vesicle: a dark shell 5 voxels across."""
    z, y, x = np.ogrid[-3:4, -3:4, -3:4]
    distance = np.sqrt(z * z + y * y + x * x)
    return (-70 * np.exp(-(((distance - 2) / 0.7) ** 2))).astype(np.float32)


VESICLE = _vesicle()
