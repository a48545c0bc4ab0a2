"""Flood filling: one object after another, from a list of seeds.

The order of every decision follows google/ffn at commit 5637f78 (`Canvas.segment_all` and `segment_at`).
The floods are generators: they yield what the network must look at and are sent its logits, so that whoever drives them
decides how many floods share one call of the network.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from floodline.config import Flood
from floodline.ffn.canvas import Canvas, quantise
from floodline.ffn.movement import Frontier
from floodline.geometry import Triple, to_zyx

# What a flood asks of the network (image and seed logits in one field of view), and what it is sent (new logits).
Flooding = Generator[tuple[np.ndarray, np.ndarray], np.ndarray, None]
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Segment:
    """An accepted object."""

    id: int
    start: Triple  # z, y, x of its seed
    calls: int
    seconds: float
    voxels: int
    overlaps: tuple[tuple[int, int], ...]  # (earlier object, voxels of this object's mask that it already held)


@dataclass
class ObjectFlood:
    """The flood of one object while it runs; positions are z, y, x."""

    frontier: Frontier
    calls: int = 0
    low: list[int] = field(default_factory=list)  # smallest and largest centre visited
    high: list[int] = field(default_factory=list)

    def visited_window(self, canvas: Canvas) -> tuple[slice, slice, slice]:
        """All voxels that any field of view of this flood covered."""
        z, y, x = (slice(a - m, b + m + 1) for a, b, m in zip(self.low, self.high, canvas.margin, strict=True))
        return z, y, x


class Floods:
    """Floods a canvas from seeds and keeps what came of each.

    Attributes:
        segments: accepted objects, in order.
        counts: how many seeds were tried, skipped or failed, by reason; and network calls.
    """

    def __init__(self, canvas: Canvas, options: Flood, deltas_xyz: Sequence[int]) -> None:
        self.canvas = canvas
        self.deltas = to_zyx(deltas_xyz)
        self.boundary = to_zyx(options.min_boundary_dist_xyz)
        self.min_segment_size = options.min_segment_size
        self.segments: list[Segment] = []
        self.counts: Counter[str] = Counter()

    def flood_all(self, seeds: Iterable[Triple]) -> Flooding:
        """Flood from each seed (z, y, x) in turn."""
        canvas = self.canvas
        for start in seeds:
            if not canvas.fits(start) or canvas.segmentation[start] > 0:
                self.counts["seeds_covered"] += 1
                continue
            if self._touches_segment(start):
                canvas.segmentation[start] = -1
                self.counts["seeds_near_a_segment"] += 1
                continue
            began = time.monotonic()
            flood = ObjectFlood(Frontier(start, self.deltas))
            yield from self._flood_object(flood)
            self._claim(flood, time.monotonic() - began)
            if flood.calls:
                canvas.seed[flood.visited_window(canvas)] = np.nan
            canvas.seed[start] = np.nan

    def _touches_segment(self, start: Triple) -> bool:
        near = tuple(slice(max(p - d, 0), p + d + 1) for p, d in zip(start, self.boundary, strict=True))
        return bool((self.canvas.segmentation[near] > 0).any())

    def _flood_object(self, flood: ObjectFlood) -> Flooding:
        """Fill one object: visit positions in the order of their discovery until none is left."""
        canvas, frontier = self.canvas, flood.frontier
        canvas.seed[frontier.start] = canvas.init
        frontier.queue.append(frontier.start)
        while frontier.queue:
            position = frontier.queue.popleft()
            if (
                frontier.cell(position) in frontier.done
                or not canvas.fits(position)
                or canvas.seed[position] < canvas.move
                or canvas.segmentation[position] > 0
            ):
                continue
            if canvas.seed[frontier.start] < canvas.move:
                self.counts["seed_got_too_weak"] += 1
                return
            logits = canvas.update(position, (yield canvas.network_input(position)))
            flood.calls += 1
            self.counts["network_calls"] += 1
            flood.low = list(map(min, flood.low or position, position))
            flood.high = list(map(max, flood.high or position, position))
            frontier.visit(position, logits, canvas.move)

    def _claim(self, flood: ObjectFlood, seconds: float) -> None:
        """Give the flooded voxels an id, unless the object is too weak or too small; earlier objects keep theirs."""
        canvas, start = self.canvas, flood.frontier.start
        self.counts["attempts"] += 1
        if not flood.calls:
            self.counts["no_step_made"] += 1
            return
        if canvas.seed[start] < canvas.move:
            self._fail(start, "weak_seed")
            return
        window = flood.visited_window(canvas)
        with np.errstate(invalid="ignore"):
            mask = canvas.seed[window] >= canvas.segment
        segmentation = canvas.segmentation[window]
        earlier, voxels = np.unique(segmentation[mask], return_counts=True)
        overlaps = tuple((int(i), int(n)) for i, n in zip(earlier, voxels, strict=True) if i > 0)
        mask &= segmentation <= 0
        size = int(mask.sum())
        if size < self.min_segment_size:
            self._fail(start, "too_small")
            return
        identifier = len(self.segments) + 1
        segmentation[mask] = identifier
        canvas.qprob[window][mask] = quantise(canvas.seed[window][mask])
        self.segments.append(Segment(identifier, start, flood.calls, seconds, size, overlaps))

    def _fail(self, start: Triple, reason: str) -> None:
        self.counts[reason] += 1
        if self.canvas.segmentation[start] == 0:
            self.canvas.segmentation[start] = -1


def drive(flooding: Flooding, predict: Predict) -> None:
    """Run one generator of floods to its end, a field of view a call.

    Args:
        predict: maps image and seed, both (1, z, y, x) float32, to new logits of the same shape.
    """
    try:
        image, seed = next(flooding)
        while True:
            image, seed = flooding.send(predict(image[None], seed[None])[0])
    except StopIteration:
        return
