"""Anatomy of the generated volume: neurites that fill space, and what lies inside them.

Neurites are tubes around tortuous centre lines that grow, from thick to thin, into the space that is still free. Every
voxel then belongs to the tube whose surface is nearest (a Voronoi diagram with additive weights), and a smooth random
deformation takes the roundness away. Points and directions are z, y, x; lengths are voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from floodline.geometry import Triple, triple
from floodline.volumes.phantom.noise import LARGEST, smooth_noise
from floodline.volumes.phantom.space import Space, Tube

THINNEST = 4.5
"""Smallest radius of a tube; its neurite is somewhat thicker, because it claims free space around it."""
SHORTEST = 40.0
"""Shorter neurites do not grow."""
BENDS = ((2.5, 32.0), (0.4, 9.0))
"""The deformation: sums of noise of this strength and wavelength, weak enough to fold nothing."""
MARGIN = int(np.ceil(LARGEST * sum(strength for strength, _ in BENDS)))
"""Grown around the volume and cut off, so that its faces look like its inside."""
CORE = 2.0
"""What is deeper than this in a neurite is its core; space goes to the nearest core."""
SMALLEST_CORE = 200
"""Voxels; smaller cores are no neurites, and their space goes to the others."""
MEMBRANE = 1.0
"""Voxels no deeper than this carry no label."""


@dataclass(frozen=True)
class Calibre:
    """A class of neurites."""

    filled: float
    """Share of the space inside tubes from which on no more of them start."""
    radius: tuple[float, float]
    wander: float
    """How much a step's direction varies."""
    branching: float
    """Branches in a hundred voxels."""


CALIBRES = (
    Calibre(filled=0.35, radius=(13.0, 17.0), wander=0.25, branching=1.2),
    Calibre(filled=0.62, radius=(8.5, 12.0), wander=0.3, branching=1.0),
    Calibre(filled=1.0, radius=(5.5, 8.5), wander=0.3, branching=0.6),
)


@dataclass(frozen=True)
class Anatomy:
    """What lies in the volume; arrays are z, y, x."""

    neurites: np.ndarray
    """Whose territory a voxel is, from 1. int32."""
    labels: np.ndarray
    """The same without the membranes, which are 0; each label is connected over faces. int32."""
    depth: np.ndarray
    """Distance to the nearest voxel of another neurite. float32."""
    mitochondria: np.ndarray
    """True inside."""
    microtubules: np.ndarray
    """True on their centre lines."""


def grow(shape_zyx: Triple, seed: int) -> Anatomy:
    """The anatomy of a volume; the same for the same shape and seed."""
    rng = np.random.default_rng([seed, *shape_zyx])
    space = Space(triple(size + 2 * MARGIN for size in shape_zyx))
    mitochondria, microtubules = np.zeros(space.shape_zyx, bool), np.zeros(space.shape_zyx, bool)
    label = 0
    for calibre in CALIBRES:
        thinnest, thickest = calibre.radius
        for place in rng.permutation(space.places(thinnest)):
            if space.free_at(place) <= thinnest:
                continue
            tubes = _neurite(space, place, calibre, rng)
            if sum(tube.length for tube in tubes) < SHORTEST:
                continue
            label += 1
            for tube in tubes:
                space.claim(tube, label, reach=thickest + 4)
                _draw_mitochondria(space, mitochondria, tube, rng)
                _draw_microtubules(space, microtubules, tube, rng)
            if space.share_taken() >= calibre.filled:
                break
    where = _deformed(shape_zyx, rng)
    return _settled(space.owner[where], mitochondria[where], microtubules[where])


def _neurite(space: Space, start: np.ndarray, calibre: Calibre, rng: Generator) -> list[Tube]:
    """A neurite through `start`: the trunk, which runs both ways along the longest free line, and its branches."""
    radius = min(rng.uniform(*calibre.radius), float(space.free_at(start)) - 0.5)
    directions = _unit(rng.standard_normal((64, 3)))
    line = np.arange(-4, 5)[:, None, None] * radius * directions
    direction = directions[space.free_at(start + line).sum(axis=0).argmax()]
    trunk = [_walk(space, start, sign * direction, radius, calibre.wander, rng) for sign in (1, -1)]
    branches = []
    for tube in trunk:
        # Points of a tube are a third of its radius apart.
        for at in np.flatnonzero(rng.random(len(tube.points)) < calibre.branching / 100 * tube.radii / 3):
            side = _unit(rng.standard_normal(3))
            thickness = max(THINNEST, tube.radii[at] * rng.uniform(0.4, 0.75))
            branches.append(_walk(space, tube.points[at], side, thickness, calibre.wander + 0.1, rng))
    return trunk + branches


def _walk(space: Space, start: np.ndarray, direction: np.ndarray, radius: float, wander: float, rng: Generator) -> Tube:
    """A tube that goes on, with momentum, where there is room, until it leaves the space or finds none."""
    points, radii = [start.astype(float)], [radius]
    swelling = 0.0
    while space.holds(points[-1]) and len(points) < 1000:
        step = radii[-1] / 3
        ways = _unit(direction + wander * rng.standard_normal((12, 3)))
        room = np.minimum(space.free_at(points[-1] + ways * (radius + step)), 1.5 * radius) / radius
        direction = ways[(room + 0.5 * ways @ direction).argmax()]
        point = points[-1] + step * direction
        swelling = 0.9 * swelling + 0.1 * rng.standard_normal()
        thickness = min(radius * np.exp(swelling), radii[-1] + 0.7, float(space.free_at(point)) - 0.5)
        if thickness < max(THINNEST, 0.5 * radius):
            break
        points.append(point)
        radii.append(thickness)
    return Tube(np.array(points), np.array(radii))


def _draw_mitochondria(space: Space, canvas: np.ndarray, tube: Tube, rng: Generator) -> None:
    """Sausages beside the centre line of a tube, where it is thick enough for them."""
    at = int(rng.integers(2, 20))
    while at < len(tube.points) - 8:
        length = int(rng.integers(8, 24))
        points, room = tube.points[at : at + length], tube.radii[at : at + length].min()
        if room >= 6:
            thickness = min(room * rng.uniform(0.5, 0.65), 9.0)
            offset = _unit(rng.standard_normal(3)) * rng.uniform(0, room - thickness - 1)
            rounded = np.sqrt(np.sin(np.linspace(0.5, np.pi - 0.5, len(points))))
            space.draw(canvas, Tube(points + offset, thickness * rounded))
        at += length + int(rng.integers(5, 30))


def _draw_microtubules(space: Space, canvas: np.ndarray, tube: Tube, rng: Generator) -> None:
    """Thin lines along a tube; the thicker it is, the more."""
    knots = np.arange(len(tube.points))
    fine = np.arange(0, len(knots) - 1, 0.2)
    for _ in range(rng.integers(1, 2 + int(tube.radii[0] / 3))):
        line = tube.points + _unit(rng.standard_normal(3)) * rng.uniform(0, 0.6) * tube.radii[:, None]
        points = np.stack([np.interp(fine, knots, line[:, axis]) for axis in range(3)], axis=-1)
        indices = np.rint(points).astype(int)
        indices = indices[np.all((indices >= 0) & (indices < space.shape_zyx), axis=1)]
        canvas[tuple(indices.T)] = True


def _deformed(shape_zyx: Triple, rng: Generator) -> tuple[np.ndarray, ...]:
    """For every voxel of the volume, the indices (z, y, x) in the grown space that the deformation brings there."""
    grids = np.ogrid[tuple(slice(MARGIN, MARGIN + size) for size in shape_zyx)]
    shifts = [sum(strength * smooth_noise(shape_zyx, length, rng) for strength, length in BENDS) for _ in grids]
    return tuple(np.rint(grid + shift).astype(np.int32) for grid, shift in zip(grids, shifts, strict=True))


def _settled(owner: np.ndarray, mitochondria: np.ndarray, microtubules: np.ndarray) -> Anatomy:
    """The anatomy as it can be seen: shreds go to their neighbours, and what hung together by a thread is two."""
    import cc3d
    import edt
    import fastremap
    from scipy import ndimage

    cores = cc3d.connected_components(np.where(edt.edt(owner, parallel=1) > CORE, owner, 0), connectivity=6)
    cores, _ = fastremap.renumber(cc3d.dust(cores, threshold=SMALLEST_CORE, connectivity=6, in_place=True))
    nearest = ndimage.distance_transform_edt(cores == 0, return_distances=False, return_indices=True)
    neurites = cores[tuple(nearest)].astype(np.int32)
    depth = edt.edt(neurites, parallel=1)
    pieces = cc3d.connected_components(np.where(depth > MEMBRANE, neurites, 0), connectivity=6)
    has_core = np.zeros(int(pieces.max()) + 1, bool)
    has_core[pieces[cores > 0]] = True
    return Anatomy(neurites, np.where(has_core[pieces], neurites, 0), depth, mitochondria, microtubules)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
