"""Batches: every place in one works through its own examples, so that a batch mixes objects and stages of floods.

While the network works on a batch, one thread makes the next example of every place and scores the finished ones. Each
place has random numbers of its own, so the thread's pace changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from floodline.config import Training
from floodline.training.examples import Turn, cut
from floodline.training.movement import Geometry, Patch
from floodline.training.volume import Volumes

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Input of one step: (batch, z, y, x) float32 each."""

    image: np.ndarray
    seed: np.ndarray
    target: np.ndarray


def ahead(makes: Iterable[Callable[[], T]], executor: Executor) -> Iterator[T]:
    """What these make, one after the other and without end, each made while the one before is used."""
    coming = map(executor.submit, makes)
    following = next(coming)
    while True:
        made, following = following.result(), next(coming)
        yield made


def draw_patch(volumes: Volumes, geometry: Geometry, training: Training, rng: np.random.Generator) -> Patch:
    """A random training example with an empty canvas."""
    volume, site = volumes.draw(rng)
    turn = Turn.draw(rng, training.permutable_axes, training.reflectable_axes)
    return Patch(cut(volume, site, geometry.canvas, turn, training.defects, rng), geometry, rng)


class Place:
    """One place of the batch: patches one after the other, each until its moves are used up.

    Attributes:
        patch: the present one; None when there is none any more.
        view: its field of view that is due.
        number: of the present one.

    Args:
        first: number of the first patch.
    """

    def __init__(self, patches: Iterable[Patch], finished: Callable[[Patch], object], first: int = 0) -> None:
        self.patches, self.finished = iter(patches), finished
        self.number = first
        self._begin()

    def _begin(self) -> None:
        self.patch = next(self.patches, None)
        self.view = None if self.patch is None else self.patch.view()

    def advance(self, logits: np.ndarray) -> None:
        """Take the network's answer into the canvas and go on."""
        if self.patch is None:
            return
        self.patch.answer(logits)
        self.view = self.patch.view()
        if self.view is None:
            self.finished(self.patch)
            self.number += 1
            self._begin()


class Batches:
    """The batches of one worker."""

    def __init__(self, places: list[Place], geometry: Geometry) -> None:
        self.places = places
        self.batch = Batch(*(np.zeros((len(places), *geometry.fov), np.float32) for _ in range(3)))

    @property
    def any_left(self) -> bool:
        """Whether there is a place with a patch."""
        return any(place.patch is not None for place in self.places)

    def gather(self) -> Batch:
        """The next batch; its arrays are used again for the one after. A place without a patch keeps what it had."""
        for index, place in enumerate(self.places):
            if place.patch is not None and place.view is not None:
                self.batch.image[index] = place.patch.example.image[place.view]
                self.batch.seed[index] = place.patch.canvas[place.view]
                self.batch.target[index] = place.patch.example.target[place.view]
        return self.batch

    def scatter(self, logits: np.ndarray) -> None:
        """Take the network's answers, (batch, z, y, x), into the canvases."""
        for place, answer in zip(self.places, logits, strict=True):
            place.advance(answer)
