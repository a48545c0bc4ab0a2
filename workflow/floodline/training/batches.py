"""Batches: every place in one works through its own examples, so that a batch mixes objects and stages of floods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floodline.config import Network, Training
from floodline.training import movement
from floodline.training.examples import Augmentation, cut
from floodline.training.metrics import Counts
from floodline.training.movement import Patch, logit
from floodline.training.volume import TrainingVolume


@dataclass(frozen=True)
class Batch:
    """Input of one step: (batch, z, y, x) float32 each."""

    image: np.ndarray
    seed: np.ndarray
    target: np.ndarray


class Place:
    """One place of the batch: examples one after the other, each until its moves are used up."""

    def __init__(self, volume: TrainingVolume, network: Network, training: Training, rng: np.random.Generator) -> None:
        self.volume, self.training, self.rng = volume, training, rng
        self.fov = movement.fov_zyx(network)
        self.canvas = movement.canvas_zyx(network, training)
        self.offsets = movement.offsets(network, training)
        self._next_example(1.0)

    def _next_example(self, taught: float) -> None:
        self.taught = self.rng.random() < taught
        site = self.volume.sites_zyx[self.rng.integers(len(self.volume.sites_zyx))]
        augmentation = Augmentation.draw(self.rng, self.training.permutable_axes, self.training.reflectable_axes)
        self.patch = Patch(cut(self.volume, site, self.canvas, augmentation), self.fov)
        self.views = self.patch.views(self.rng.permutation(self.offsets))
        self.view = next(self.views)

    def advance(self, logits: np.ndarray, taught: float, counts: Counts) -> None:
        """Take the network's answer into the canvas and go on; a finished example is counted."""
        self.patch.canvas[self.view] = logit(self.patch.example.target[self.view]) if self.taught else logits
        view = next(self.views, None)
        if view is None:
            if not self.taught:
                counts.add(self.patch.canvas, self.patch.example.target)
            self._next_example(taught)
        else:
            self.view = view


class Batches:
    """The batches of one worker.

    Args:
        rngs: one random generator for each place.
    """

    def __init__(
        self, volume: TrainingVolume, network: Network, training: Training, rngs: list[np.random.Generator]
    ) -> None:
        self.places = [Place(volume, network, training, rng) for rng in rngs]
        shape = (len(rngs), *movement.fov_zyx(network))
        self.batch = Batch(*(np.empty(shape, np.float32) for _ in range(3)))

    def gather(self) -> Batch:
        """The next batch; its arrays are used again for the one after."""
        for index, place in enumerate(self.places):
            self.batch.image[index] = place.patch.example.image[place.view]
            self.batch.seed[index] = place.patch.canvas[place.view]
            self.batch.target[index] = place.patch.example.target[place.view]
        return self.batch

    def scatter(self, logits: np.ndarray, taught: float, counts: Counts) -> None:
        """Take the network's answers, (batch, z, y, x), into the canvases."""
        for place, answer in zip(self.places, logits, strict=True):
            place.advance(answer, taught, counts)
