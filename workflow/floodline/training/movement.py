"""The canvas of an example, and the field of view that moves over it while the network learns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from floodline.config import Network, Training
from floodline.geometry import Triple, to_zyx
from floodline.training.examples import Example

SEED, PAD, MOVE = np.float32(0.95), np.float32(0.05), np.float32(0.9)
"""Probabilities of the seed voxel, of what is not yet known, and from which on the field of view moves there."""


def logit(probability: Any) -> Any:
    """Logit of probabilities, a number or an array of them."""
    return np.log(probability / (1 - probability))


def fov_zyx(network: Network) -> Triple:
    return to_zyx(network.fov_xyz)


def canvas_zyx(network: Network, training: Training) -> Triple:
    """Size of an example: the field of view and all its moves."""
    z, y, x = (
        fov + 2 * delta * training.fov_moves
        for fov, delta in zip(to_zyx(network.fov_xyz), to_zyx(network.deltas_xyz), strict=True)
    )
    return z, y, x


def offsets(network: Network, training: Training) -> np.ndarray:
    """Places that the field of view may move to: (n, 3), z, y, x from the centre, the grid of moves without 0."""
    steps = range(-training.fov_moves, training.fov_moves + 1)
    axes = [sorted({step * delta for step in steps}) for delta in to_zyx(network.deltas_xyz)]
    return np.array([offset for offset in product(*axes) if any(offset)], np.int64).reshape(-1, 3)


class Patch:
    """An example with its canvas: what the network has predicted of the object so far.

    Attributes:
        canvas: float32 logits, z, y, x; it starts unknown everywhere but at the centre.
    """

    def __init__(self, example: Example, fov: Triple) -> None:
        self.example = example
        self.fov = fov
        self.canvas = np.full(example.target.shape, logit(PAD), np.float32)
        z, y, x = (size // 2 for size in self.canvas.shape)
        self.centre: Triple = (z, y, x)
        self.canvas[self.centre] = logit(SEED)

    def views(self, order: np.ndarray) -> Iterator[tuple[slice, slice, slice]]:
        """Fields of view to train on, the centre first, then those places of `order` (offsets, (n, 3)) that the
        network by then holds to be in the object (the published policy `fixed`).

        Between two of them, `write` must have been called with the network's answer.
        """
        yield self._view((0, 0, 0))
        threshold = logit(MOVE)
        for dz, dy, dx in order:
            if self.canvas[self.centre[0] + dz, self.centre[1] + dy, self.centre[2] + dx] >= threshold:
                yield self._view((dz, dy, dx))

    def _view(self, offset: Triple) -> tuple[slice, slice, slice]:
        z, y, x = (
            slice(c + o - f // 2, c + o + f // 2 + 1) for c, o, f in zip(self.centre, offset, self.fov, strict=True)
        )
        return z, y, x
