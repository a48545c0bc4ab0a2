"""Where the field of view goes next: the face-maximum rule and its first-in, first-out queue (google/ffn)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from floodline.geometry import Triple


def face_maxima(logits: np.ndarray, deltas: Triple, threshold: np.float32) -> list[Triple]:
    """Offsets (z, y, x) from the centre to the most probable voxel of each face of the movement box, best first.

    Args:
        logits: prediction in the field of view, z, y, x.
        deltas: half size of the movement box, z, y, x; an axis with 0 is not moved along.
        threshold: faces whose maximum is below it are left out.
    """
    centre = [size // 2 for size in logits.shape]
    box = logits[tuple(slice(c - d, c + d + 1) for c, d in zip(centre, deltas, strict=True))]
    found: set[tuple[np.float32, Triple]] = set()
    for axis, delta in enumerate(deltas):
        if delta == 0:
            continue
        for side in (0, 2 * delta):
            face = box.take(side, axis=axis)
            first, second = divmod(int(face.argmax()), face.shape[1])
            score = face[first, second]
            if score >= threshold:
                place = [first, second]
                place.insert(axis, side)
                z, y, x = (p - d for p, d in zip(place, deltas, strict=True))
                found.add((score, (z, y, x)))
    return [offset for _, offset in sorted(found, reverse=True)]


@dataclass
class Frontier:
    """Positions that a flood still has to visit, and those that it has visited, on a grid of step `deltas`.

    All positions are z, y, x. The grid is anchored at the start, so that two positions of one cell count as one.
    """

    start: Triple
    deltas: Triple
    queue: deque[Triple] = field(default_factory=deque)
    done: set[Triple] = field(default_factory=set)

    def cell(self, position: Triple) -> Triple:
        """Grid cell of a position."""
        z, y, x = ((p - s + d // 2) // max(d, 1) for p, s, d in zip(position, self.start, self.deltas, strict=True))
        return z, y, x

    def visit(self, position: Triple, logits: np.ndarray, threshold: np.float32) -> None:
        """Mark a position as visited and queue the moves that its new logits suggest."""
        self.done.add(self.cell(position))
        for dz, dy, dx in face_maxima(logits, self.deltas, threshold):
            move = (position[0] + dz, position[1] + dy, position[2] + dx)
            # Whoever takes a position of a visited cell from the queue passes it over: so it need not be kept there.
            if self.cell(move) not in self.done:
                self.queue.append(move)
