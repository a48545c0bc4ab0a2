"""The canvas of an example, and the field of view that moves over it while the network learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from floodline.config import FieldOfView, Training
from floodline.ffn.movement import Frontier
from floodline.ffn.network import UNKNOWN
from floodline.geometry import Triple, to_zyx
from floodline.training.examples import Example

SEED, MOVE = np.float32(0.95), np.float32(0.9)
"""Probabilities of the seed voxel, and from which on the field of view moves there."""

Window = tuple[slice, slice, slice]


def logit(probability: Any) -> Any:
    """Logit of probabilities, a number or an array of them."""
    return np.log(probability / (1 - probability))


class Geometry:
    """Sizes of an example, all z, y, x.

    Attributes:
        fov, deltas: field of view, and its step.
        scored: what the fields of view of all moves cover; this much of a finished example is scored.
        canvas: the whole example. Maximal predictions lie anywhere on the faces of the movement box, so they need room
            for one move more, as in google/ffn.
        offsets: places that the policy `fixed` may move to, (n, 3) from the centre: the grid of moves without 0.
    """

    def __init__(self, view: FieldOfView, training: Training) -> None:
        self.fov, self.deltas = to_zyx(view.fov_xyz), to_zyx(view.deltas_xyz)
        self.policy = training.movement
        self.moves = 0 if self.policy == "none" else training.fov_moves
        self.scored = self._covered(self.moves)
        self.canvas = self._covered(self.moves + (self.policy == "max_predictions"))
        self.offsets = self._grid()

    def _covered(self, moves: int) -> Triple:
        z, y, x = (fov + 2 * delta * moves for fov, delta in zip(self.fov, self.deltas, strict=True))
        return z, y, x

    def _grid(self) -> np.ndarray:
        steps = range(-self.moves, self.moves + 1)
        axes = [sorted({step * delta for step in steps}) for delta in self.deltas]
        return np.array([offset for offset in product(*axes) if any(offset)], np.int64).reshape(-1, 3)


class Patch:
    """An example with its canvas: what the network has predicted of the object so far.

    Attributes:
        canvas: float32 logits, z, y, x; it starts unknown everywhere but at the centre.

    Args:
        rng: decides the order of the policy `fixed`.
    """

    def __init__(self, example: Example, geometry: Geometry, rng: np.random.Generator) -> None:
        self.example = example
        self.geometry = geometry
        self.order = rng.permutation(geometry.offsets)
        self.canvas = np.full(example.target.shape, UNKNOWN, np.float32)
        z, y, x = (size // 2 for size in self.canvas.shape)
        self.centre: Triple = (z, y, x)
        self.canvas[self.centre] = logit(SEED)

    def views(self) -> Iterator[Window]:
        """Fields of view to train on, the centre first; the configured policy decides which others follow.

        Between two of them, the network's answer must have been written into the canvas.
        """
        return self._most_probable() if self.geometry.policy == "max_predictions" else self._on_the_grid()

    def _on_the_grid(self) -> Iterator[Window]:
        """Places of the grid, in random order, that the network by then holds to be in the object."""
        yield self._view(self.centre)
        threshold = logit(MOVE)
        for z, y, x in (self.order + self.centre).tolist():
            if self.canvas[z, y, x] >= threshold:
                yield self._view((z, y, x))

    def _most_probable(self) -> Iterator[Window]:
        """The moves of inference, as far as they lead to places inside the true object and inside the canvas."""
        frontier = Frontier(self.centre, self.geometry.deltas, deque([self.centre]))
        while frontier.queue:
            position = frontier.queue.popleft()
            strayed = position != self.centre and self.example.target[position] < 0.5
            if frontier.cell(position) in frontier.done or strayed or not self._fits(position):
                continue
            view = self._view(position)
            yield view
            frontier.visit(position, self.canvas[view], logit(MOVE))

    def _fits(self, position: Triple) -> bool:
        sizes = zip(position, self.geometry.fov, self.canvas.shape, strict=True)
        return all(fov // 2 <= p < size - fov // 2 for p, fov, size in sizes)

    def _view(self, position: Triple) -> Window:
        z, y, x = (slice(p - f // 2, p + f // 2 + 1) for p, f in zip(position, self.geometry.fov, strict=True))
        return z, y, x

    def scored(self) -> Window:
        """The part of the canvas that is scored."""
        z, y, x = (slice(c - s // 2, c + s // 2 + 1) for c, s in zip(self.centre, self.geometry.scored, strict=True))
        return z, y, x
