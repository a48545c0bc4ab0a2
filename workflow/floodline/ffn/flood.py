"""Flood filling: one object after another, from a list of seeds.

The order of every decision follows google/ffn at commit 5637f78 (`Canvas.segment_all` and `segment_at`); that is the
policy `reference`. The policy `efficient` differs from it in two things:

1. A position whose surroundings were seen from positions before it, and are certain by now, is not looked at again: its
   moves are taken from the canvas. So the network is called in steps of up to twice the step inside of an object and
   where its border is clear, and in steps of one where the prediction is doubtful.
2. A move that would take the field of view out of the sub-volume ends at its border instead of being dropped.

(Its seeds come in another order, too: see `PeaksSeeds`.)

The floods are generators: they yield what the network must look at and are sent its logits, so that whoever drives them
decides how many floods share one call of the network.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from floodline.config import Flood
from floodline.ffn.canvas import Canvas, logit_of
from floodline.ffn.movement import Frontier
from floodline.geometry import Triple, to_zyx, triple

Asked = tuple[np.ndarray, np.ndarray]
"""What a flood asks the network to look at: image and seed logits in one field of view."""
Outcome = TypeVar("Outcome")
Flooding = Generator[Asked, np.ndarray, Outcome]
"""A flood under way: it asks, and is sent new logits."""
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
Seeds = Sequence[Triple] | np.ndarray
"""Positions z, y, x in the order in which they are tried; an array has the shape (n, 3)."""


SLAB = 2  # slices


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
    seconds: float = 0.0
    low: Triple = (0, 0, 0)  # smallest and largest centre visited
    high: Triple = (0, 0, 0)

    def visited_window(self, canvas: Canvas) -> tuple[slice, slice, slice]:
        """All voxels that any field of view of this flood covered."""
        z, y, x = (slice(a - m, b + m + 1) for a, b, m in zip(self.low, self.high, canvas.margin, strict=True))
        return z, y, x

    def visited_slabs(self, canvas: Canvas) -> Iterator[tuple[slice, slice, slice]]:
        """The same, a few slices at a time, for computations that take many bytes a voxel."""
        z, y, x = self.visited_window(canvas)
        for start in range(z.start, z.stop, SLAB):
            yield slice(start, min(start + SLAB, z.stop)), y, x


class Floods:
    """Floods a canvas from seeds and keeps what came of each. Objects that are there already keep their ids.

    Between two calls of the network all state is in the attributes: `state` takes it out and `restore` puts it back, so
    that an interrupted flood goes on as if nothing had happened.

    Attributes:
        segments: accepted objects, in order.
        counts: how many seeds were tried, skipped or failed, by reason; and network calls.
    """

    def __init__(
        self,
        canvas: Canvas,
        options: Flood,
        deltas_xyz: Sequence[int],
        seeds: Seeds = (),
    ) -> None:
        self.canvas = canvas
        self.is_efficient = options.policy == "efficient"
        self.certain = logit_of(options.certain_probability)
        self.uncertain_share = options.uncertain_share
        self.seeds = seeds
        self.kept = int(canvas.segmentation.max())
        self.deltas = to_zyx(deltas_xyz)
        self.boundary = to_zyx(options.min_boundary_dist_xyz)
        self.min_segment_size = options.min_segment_size
        self.segments: list[Segment] = []
        self.counts: Counter[str] = Counter()
        self.next_seed = 0
        self.current: ObjectFlood | None = None

    @property
    def _next_id(self) -> int:
        return self.kept + len(self.segments) + 1

    def flood_all(self) -> Flooding[None]:
        """Flood from each seed (z, y, x) in turn."""
        while self.current or self.next_seed < len(self.seeds):
            if self.current is None:
                start = triple(self.seeds[self.next_seed])
                self.next_seed += 1
                if not self._may_start(start):
                    continue
                self.canvas.make_room_for(self._next_id)
                self.current = ObjectFlood(Frontier(start, self.deltas, deque([start])), low=start, high=start)
                self.canvas.seed[start] = self.canvas.init
            yield from self.fill(self.current)
            self._claim(self.current)
            self.canvas.seed[self.current.visited_window(self.canvas)] = np.nan
            self.current = None

    def _may_start(self, start: Triple) -> bool:
        canvas = self.canvas
        if not canvas.fits(start) or canvas.segmentation[start] > 0:
            self.counts["seeds_covered"] += 1
            return False
        if canvas.restriction.forbids_seed(start):
            self.counts["seeds_masked"] += 1
            return False
        near = tuple(slice(max(p - d, 0), p + d + 1) for p, d in zip(start, self.boundary, strict=True))
        if (canvas.segmentation[near] > 0).any():
            canvas.mark_failed(start)
            self.counts["seeds_near_a_segment"] += 1
            return False
        return True

    def fill(self, flood: ObjectFlood) -> Flooding[None]:
        """Fill one object: visit positions in the order of their discovery until none is left."""
        canvas, frontier = self.canvas, flood.frontier
        began = time.monotonic()
        while frontier.queue:
            # The position stays in the queue until it was visited: state taken out meanwhile visits it again.
            position = canvas.nearest_fitting(frontier.queue[0]) if self.is_efficient else frontier.queue[0]
            if (
                frontier.cell(position) in frontier.done
                or not canvas.fits(position)
                or canvas.seed[position] < canvas.move
                or canvas.segmentation[position] > 0
            ):
                frontier.queue.popleft()
                continue
            if canvas.seed[frontier.start] < canvas.move:
                self.counts["seed_got_too_weak"] += 1
                return
            if canvas.restriction.forbids(position):
                self.counts["moves_masked"] += 1
                frontier.queue.popleft()
                continue
            if self.is_efficient and flood.calls and self._is_settled(position):
                self.counts["moves_settled"] += 1
                frontier.queue.popleft()
                frontier.visit(position, canvas.network_input(position)[1], canvas.move)
                continue
            logits = canvas.update(position, (yield canvas.network_input(position)))
            frontier.queue.popleft()
            frontier.visit(position, logits, canvas.move)
            flood.calls += 1
            flood.low = triple(map(min, flood.low, position))
            flood.high = triple(map(max, flood.high, position))
            self.counts["network_calls"] += 1
            now = time.monotonic()
            flood.seconds, began = flood.seconds + now - began, now

    def _is_settled(self, position: Triple) -> bool:
        """Whether nothing is left to find out in the movement box around a position.

        Every voxel in it has been seen, and the network is certain of nearly all of them, but for those that earlier
        objects hold: these are decided.
        """
        z, y, x = (slice(p - d, p + d + 1) for p, d in zip(position, self.deltas, strict=True))
        logits, is_open = self.canvas.seed[z, y, x], self.canvas.segmentation[z, y, x] <= 0
        if (np.isnan(logits) & is_open).any():
            return False
        uncertain = np.count_nonzero((np.abs(logits) < self.certain) & is_open)
        return uncertain <= self.uncertain_share * logits.size

    def _claim(self, flood: ObjectFlood) -> None:
        """Give the flooded voxels an id, unless the object is too weak or too small; earlier objects keep theirs."""
        canvas, start = self.canvas, flood.frontier.start
        self.counts["attempts"] += 1
        if not flood.calls:
            self.counts["no_step_made"] += 1
            return
        if canvas.seed[start] < canvas.move:
            self._fail(start, "weak_seed")
            return
        size, overlaps = 0, Counter[int]()
        for window in flood.visited_slabs(canvas):
            ids, voxels = np.unique(canvas.segmentation[window][canvas.mask(window)], return_counts=True)
            size += int(voxels[ids <= 0].sum())
            overlaps.update(dict(zip(ids[ids > 0].tolist(), voxels[ids > 0].tolist(), strict=True)))
        if size < self.min_segment_size:
            self._fail(start, "too_small")
            return
        identifier = self._next_id
        for window in flood.visited_slabs(canvas):
            canvas.claim(window, identifier)
        self.segments.append(
            Segment(identifier, start, flood.calls, flood.seconds, size, tuple(sorted(overlaps.items())))
        )

    def _fail(self, start: Triple, reason: str) -> None:
        self.counts[reason] += 1
        self.canvas.mark_failed(start)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        canvas, flood = self.canvas, self.current
        state: dict[str, np.ndarray] = {
            "segmentation": canvas.segmentation,
            "qprob": canvas.qprob,
            "next_seed": np.array(self.next_seed),
            "count_names": np.array(list(self.counts), dtype="U32"),
            "counts": np.array(list(self.counts.values()), dtype=np.int64),
            "segments": np.array([(s.id, *s.start, s.calls, s.voxels) for s in self.segments], np.int64).reshape(-1, 6),
            "segment_seconds": np.array([s.seconds for s in self.segments], np.float64),
            "overlaps": np.array([(s.id, *pair) for s in self.segments for pair in s.overlaps], np.int64).reshape(
                -1, 3
            ),
        }
        if flood:
            state |= {
                "flood": np.array([flood.frontier.start, flood.low, flood.high], np.int64),
                "flood_calls": np.array(flood.calls),
                "flood_seconds": np.array(flood.seconds),
                "queue": np.array(flood.frontier.queue, np.int64).reshape(-1, 3),
                "done": np.array(sorted(flood.frontier.done), np.int64).reshape(-1, 3),
                "seed": canvas.seed[flood.visited_window(canvas)],
            }
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up the state of `Floods` of the same image, options and seeds."""
        canvas = self.canvas
        # The state's arrays are read one by one, and take the place of the canvas's own: no more memory than before.
        del canvas.segmentation, canvas.qprob
        if "flood" in state:
            start, low, high = map(triple, state["flood"])
            frontier = Frontier(start, self.deltas, deque(map(triple, state["queue"])), set(map(triple, state["done"])))
            self.current = ObjectFlood(frontier, int(state["flood_calls"]), float(state["flood_seconds"]), low, high)
            canvas.seed[self.current.visited_window(canvas)] = state["seed"]
        canvas.segmentation, canvas.qprob = state["segmentation"], state["qprob"]
        self.next_seed = int(state["next_seed"])
        self.counts = Counter(dict(zip(state["count_names"].tolist(), state["counts"].tolist(), strict=True)))
        overlaps: dict[int, list[tuple[int, int]]] = {}
        for identifier, earlier, voxels in state["overlaps"].tolist():
            overlaps.setdefault(identifier, []).append((earlier, voxels))
        self.segments = [
            Segment(identifier, (z, y, x), calls, seconds, size, tuple(overlaps.get(identifier, ())))
            for (identifier, z, y, x, calls, size), seconds in zip(
                state["segments"].tolist(), state["segment_seconds"].tolist(), strict=True
            )
        ]


def drive(floodings: Iterable[Flooding[Any]], predict: Predict, at_once: int = 1) -> None:
    """Run floods of different canvases to their ends, each call of the network serving all that are under way.

    Where one flood ends the next one begins, so that calls stay full. Where several are under way, the next one is
    begun in a thread meanwhile: what it does before it first asks, such as to search its seeds, keeps nobody waiting.
    If one fails the others are closed, and can keep their state.

    Args:
        floodings: may be lazy; a flood is taken when its turn comes.
        predict: maps image and seed, both (b, z, y, x) float32, to new logits of the same shape.
        at_once: floods under way, b at most; if that is more than one, one more is kept ready.
    """
    waiting: list[_Waiting] = []
    with ExitStack() as closing:  # all are closed, even if one cannot keep its state
        upcoming = _begun_ahead(floodings) if at_once > 1 else (_advance(flooding, None) for flooding in floodings)
        closing.callback(upcoming.close)
        closing.callback(_close, waiting)
        while True:
            while len(waiting) < at_once and (begun := next(upcoming, None)) is not None:
                waiting += begun
            if not waiting:
                return
            images, seeds = zip(*(asked for _, asked in waiting), strict=True)
            logits = predict(np.stack(images), np.stack(seeds))
            waiting[:] = [
                asking
                for (flooding, _), prediction in zip(waiting, logits, strict=True)
                for asking in _advance(flooding, prediction)
            ]


_Waiting = tuple[Flooding[Any], Asked]
"""A flood, and what it waits for the network to look at."""


def _advance(flooding: Flooding[Any], prediction: np.ndarray | None) -> list[_Waiting]:
    """Send a flood its prediction (None starts it): the flood and what it asks for next; nothing if it has ended."""
    try:
        return [(flooding, flooding.send(prediction))]  # type: ignore[arg-type]  # a generator starts with None
    except StopIteration:
        return []


def _begun_ahead(floodings: Iterable[Flooding[Any]]) -> Generator[list[_Waiting], None, None]:
    """Floods that were started, in their order, each while the one before it is in use."""
    coming: deque[Future[list[_Waiting]]] = deque()
    with ThreadPoolExecutor(1, "next flood") as executor:
        try:
            for flooding in floodings:
                coming.append(executor.submit(_advance, flooding, None))
                if len(coming) == 2:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for one in coming:
                _close(one.result())


def _close(waiting: list[_Waiting]) -> None:
    with ExitStack() as each:
        for flooding, _ in waiting:
            each.callback(flooding.close)
