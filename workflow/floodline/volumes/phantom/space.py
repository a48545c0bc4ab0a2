"""The space in which the neurites of the generated volume grow. Points are z, y, x; lengths are voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floodline.geometry import Triple

FAR = 30.0
"""Distance that stands for all larger ones."""
GRID = 4
"""Spacing of the points at which the space is surveyed."""


@dataclass(frozen=True)
class Tube:
    """A piece of a neurite: points of its centre line (n, 3) and its radius at each (n,)."""

    points: np.ndarray
    radii: np.ndarray

    @property
    def length(self) -> float:
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())


class Space:
    """For every voxel the distance to the nearest tube's surface, and the label of that tube's neurite."""

    def __init__(self, shape_zyx: Triple) -> None:
        self.shape_zyx = shape_zyx
        self.distance = np.full(shape_zyx, FAR, np.float32)
        self.owner = np.zeros(shape_zyx, np.int32)

    def free_at(self, points: np.ndarray) -> np.ndarray:
        """Distance from each point (..., 3) to the nearest tube; points outside see what the nearest face sees."""
        indices = np.clip(np.rint(points).astype(int), 0, np.array(self.shape_zyx) - 1)
        return self.distance[indices[..., 0], indices[..., 1], indices[..., 2]]

    def places(self, radius: float) -> np.ndarray:
        """Points (n, 3) of the survey that have room for a ball of this radius."""
        return GRID * np.argwhere(self.distance[::GRID, ::GRID, ::GRID] > radius)

    def share_taken(self) -> float:
        """Share of the space inside tubes."""
        return float(np.mean(self.distance[::GRID, ::GRID, ::GRID] <= 0))

    def holds(self, point: np.ndarray) -> bool:
        return bool(np.all(point >= 0) and np.all(point < self.shape_zyx))

    def around(self, point: np.ndarray, reach: float) -> tuple[tuple[slice, ...], np.ndarray]:
        """The part of the space within `reach` of a point, and the distance of its voxels to the point."""
        low = np.maximum(np.floor(point - reach).astype(int), 0)
        high = np.maximum(np.minimum(np.ceil(point + reach).astype(int) + 1, self.shape_zyx), low)
        z, y, x = ((np.arange(a, b) - p).astype(np.float32) ** 2 for a, b, p in zip(low, high, point, strict=True))
        distance = np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])
        return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), distance

    def claim(self, tube: Tube, label: int, reach: float) -> None:
        """Give a tube the voxels that it is nearest to, up to `reach` from its surface."""
        for point, radius in zip(tube.points, tube.radii, strict=True):
            part, distance = self.around(point, radius + reach)
            distance -= radius
            nearer = distance < np.minimum(self.distance[part], reach)
            self.distance[part][nearer] = distance[nearer]
            self.owner[part][nearer] = label

    def draw(self, canvas: np.ndarray, tube: Tube) -> None:
        """Set a canvas of the space's shape to True inside a tube."""
        for point, radius in zip(tube.points, tube.radii, strict=True):
            part, distance = self.around(point, radius)
            canvas[part] |= distance <= radius
