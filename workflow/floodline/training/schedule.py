"""The learning rate over the training, in fields of view seen by all workers: the same at any number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from floodline.config import LearningRate, Training
from floodline.errors import FloodlineError


@dataclass(frozen=True)
class Schedule:
    """The schedule of a training by so many workers. Lengths are in fields of view, whole steps of all workers.

    Attributes:
        step_fovs: fields of view that all workers see in one step.
        total: length of the training.
    """

    config: LearningRate
    workers: int
    step_fovs: int
    total: int

    @classmethod
    def of(cls, training: Training, workers: int) -> Schedule:
        """As configured; what is given in steps becomes fields of view here, and nowhere else.

        Raises:
            FloodlineError: the warm-up, or the first views, are as long as the training of so many workers.
        """
        step_fovs = training.batch_size * workers
        steps = training.steps or -(-training.fovs // step_fovs)
        schedule = cls(training.learning_rate, workers, step_fovs, steps * step_fovs)
        first_views = sum(views.fovs for views in training.first_views)
        for key, length in (("learning_rate's warm-up", schedule.warmup), ("first_views", first_views)):
            if length >= schedule.total:
                raise FloodlineError(
                    f"training.{key} takes {length} fields of view, and the whole training by {workers} workers "
                    f"{schedule.total}: make it shorter."
                )
        return schedule

    @property
    def peak(self) -> float:
        """The rate after the warm-up."""
        return self.config.peak(self.workers)

    @property
    def warmup(self) -> int:
        """Length of the warm-up."""
        return self._length(self.config.warmup_fovs, self.config.warmup_steps)

    def rate(self, fovs: int) -> float:
        """The rate of the step that ends at `fovs` fields of view."""
        config = self.config
        warmup = self.warmup
        if fovs < warmup:
            return self.peak * fovs / warmup
        if config.decay == "constant":
            return self.peak
        if config.decay == "steps":
            return self.peak * config.drop_factor ** (
                (fovs - warmup) // self._length(config.drop_fovs, config.drop_steps)
            )
        passed = (fovs - warmup) / max(1, self.total - warmup)
        return self.peak * (1 + cos(pi * min(1.0, passed))) / 2

    def _length(self, fovs: int, steps: int | None) -> int:
        return fovs if steps is None else steps * self.step_fovs
