"""The canvas of an example, and the field of view that moves over it while the network learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from floodline.config import FieldOfView, Training
from floodline.ffn.movement import Frontier
from floodline.ffn.network import UNKNOWN
from floodline.geometry import Triple, to_zyx, triple
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

    `view` tells which field of view is due, and `answer` takes what the network makes of it; the configured policy
    decides which are. Which those will be follows from the attributes alone: `state` takes them out, and `restore` puts
    them back.

    Attributes:
        canvas: float32 logits, z, y, x; it starts unknown everywhere but at the centre.
        frontier: the places, z, y, x, that may be due, and those where maximal predictions have been.

    Args:
        rng: decides the order of the policy `fixed`.
    """

    def __init__(self, example: Example, geometry: Geometry, rng: np.random.Generator) -> None:
        self.example = example
        self.geometry = geometry
        self.canvas = np.full(example.target.shape, UNKNOWN, np.float32)
        z, y, x = (size // 2 for size in self.canvas.shape)
        self.centre: Triple = (z, y, x)
        self.canvas[self.centre] = logit(SEED)
        self.frontier = Frontier(self.centre, geometry.deltas, deque([self.centre]))
        if geometry.policy == "fixed":
            self.frontier.queue.extend(map(triple, rng.permutation(geometry.offsets) + self.centre))

    def view(self) -> Window | None:
        """The field of view that is due, the centre's first; None: the example is over."""
        queue = self.frontier.queue
        while queue and not self._is_due(queue[0]):
            queue.popleft()
        return self._view(queue[0]) if queue else None

    def answer(self, logits: np.ndarray) -> None:
        """Take the network's answer to the field of view that is due into the canvas."""
        position = self.frontier.queue.popleft()
        self.canvas[self._view(position)] = logits
        if self.geometry.policy == "max_predictions":
            self.frontier.visit(position, logits, logit(MOVE))

    def _is_due(self, position: Triple) -> bool:
        """Of a grid, places that the network by now holds to be in the object; of maximal predictions, the moves of
        inference, as far as they lead to places inside the true object and inside the canvas."""
        if self.geometry.policy != "max_predictions":
            return bool(self.canvas[position] >= logit(MOVE))
        strayed = position != self.centre and self.example.target[position] < 0.5
        return self.frontier.cell(position) not in self.frontier.done and not strayed and self._fits(position)

    def state(self) -> dict[str, np.ndarray]:
        """What has come of the example so far."""
        queue, done = np.array(self.frontier.queue, np.int64), np.array(sorted(self.frontier.done), np.int64)
        return {"canvas": self.canvas, "queue": queue.reshape(-1, 3), "done": done.reshape(-1, 3)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what had come of the same example."""
        self.canvas = state["canvas"]
        self.frontier.queue, self.frontier.done = deque(map(triple, state["queue"])), set(map(triple, state["done"]))

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
