"""Train the network on every rank of the launcher.

1. Each rank reads the training box into memory. The ranks start from the same weights: random ones, the configured
   ones, or those of the latest checkpoint.
2. A step takes one field of view of every place of every rank's batch, and applies the gradient's mean over all.
3. Every `summary_fovs` a row goes into log.csv; every `checkpoint_fovs` the state is kept.
4. At the end rank 0 writes `model/` and `metrics.json`.

After each checkpoint every place of the batch begins a new example, with random numbers of its own for that stretch and
that place. So a run that goes on from a checkpoint sees what an uninterrupted one sees, and two ranks with a batch of b
see what one rank with a batch of 2 b sees.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np

from floodline import allocation
from floodline.config import Training
from floodline.experiment import Experiment
from floodline.ffn import weights
from floodline.ffn.network import Weights, initial_weights
from floodline.ffn.precision import resolve
from floodline.manifest import hash_of, read_json, write_json
from floodline.parallel import Ranks, training_ranks
from floodline.progress import Meter
from floodline.training import movement, schedule
from floodline.training.batches import Batches
from floodline.training.card import card
from floodline.training.checkpoints import Checkpoint
from floodline.training.log import Log, Row
from floodline.training.metrics import Counts
from floodline.training.trainer import Step, Trainer
from floodline.training.volume import TrainingVolume

logger = logging.getLogger("floodline")


def run(experiment: Experiment) -> None:
    """Train, or go on with a training that was interrupted.

    Raises:
        FloodlineError: there is nothing to train on, the weights to start from are of another network, or the loss is
            no number any more.
        OutOfTime: the scheduler is about to end the job; the latest state is kept.
    """
    training = experiment.config.training
    assert training is not None
    ranks = training_ranks()
    if ranks.rank == 0:
        (experiment.model / weights.CARD).unlink(missing_ok=True)
    volume = TrainingVolume.read(experiment, movement.canvas_zyx(experiment.config.network, training))
    trainer = Trainer(_first_weights(experiment), experiment.config.network, training, ranks)
    run_ = _Run(experiment, training, ranks, volume, trainer)
    run_.resume()
    run_.train()
    ranks.wait()
    if ranks.rank == 0:
        _finish(experiment, training, ranks, trainer, run_)


def _first_weights(experiment: Experiment) -> Weights:
    network = experiment.config.network
    if network.weights is None:
        return initial_weights(network, experiment.rng("initial weights"))
    values = weights.load(network.weights)
    weights.check(values, network)
    return values


def parameters_of(experiment: Experiment, workers: int) -> str:
    """Hash of all that decides a training."""
    config = experiment.config
    assert config.training is not None
    return hash_of(
        {
            "seed": config.seed,
            "network": config.network.model_dump(mode="json"),
            "training": config.training.model_dump(mode="json"),
            "precision": resolve(config.training.precision),
            "normalisation": experiment.normalisation(),
            "coordinates": read_json(experiment.coordinates / "manifest.json"),
            "workers": workers,
        }
    )


@dataclass
class _Window:
    """What has happened since the last row of the log."""

    counts: Counts
    losses: list[float]
    norms: list[float]
    began: float

    @classmethod
    def new(cls) -> _Window:
        return cls(Counts(), [], [], time.monotonic())


class _Run:
    """A training under way. Lengths are in fields of view seen by all ranks."""

    def __init__(
        self, experiment: Experiment, training: Training, ranks: Ranks, volume: TrainingVolume, trainer: Trainer
    ) -> None:
        self.experiment, self.training, self.ranks = experiment, training, ranks
        self.volume, self.trainer = volume, trainer
        self.step_fovs = training.batch_size * ranks.size
        self.total = -(-training.fovs // self.step_fovs) * self.step_fovs
        self.checkpoint = Checkpoint(experiment.training, parameters_of(experiment, ranks.size))
        self.log = Log(experiment.training / "log.csv")
        self.fovs = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Go on from the latest checkpoint of the same training, if there is one; rank 0 decides for all."""
        kept = self.checkpoint.read() if self.ranks.rank == 0 else None
        progress = np.zeros(2) if kept is None else np.array([kept.pop("fovs"), kept.pop("seconds")], np.float64)
        progress = self.ranks.sum(progress)
        self.fovs, self.seconds = int(progress[0]), float(progress[1])
        if self.fovs:
            self.trainer.restore(kept or {})
            logger.info("resumed after %d fields of view", self.fovs)
        self.log.resume(self.fovs)

    def train(self) -> None:
        """Train to the end, stretch by stretch."""
        with Meter("train", self.total, "fields of view") as meter:
            meter.advance(self.fovs)
            while self.fovs < self.total:
                self._train_stretch(meter)

    def _train_stretch(self, meter: Meter) -> None:
        """Train up to the next checkpoint and keep it."""
        batches = Batches(self.volume, self.experiment.config.network, self.training, self._rngs())
        until = min(self.fovs + self.training.checkpoint_fovs, self.total)
        window = _Window.new()
        began, row_due = time.monotonic(), self.fovs + self.training.summary_fovs
        while self.fovs < until:
            rate = schedule.rate(self.training.learning_rate, self.ranks.size, self.fovs + self.step_fovs, self.total)
            step = self.trainer.step(batches.gather(), rate)
            batches.scatter(step.logits, taught(self.fovs / self.total), window.counts)
            self._count(step, window)
            if self.fovs >= row_due or self.fovs >= until:
                row = self._row(window, rate)
                meter.advance(self.fovs - meter.done, f"loss {row['loss']:.3f}, F1 {row['f1']:.3f}")
                window, row_due = _Window.new(), self.fovs + self.training.summary_fovs
        self.seconds += time.monotonic() - began
        if self.ranks.rank == 0:
            progress = {"fovs": np.array(self.fovs), "seconds": np.array(self.seconds)}
            self.checkpoint.write({**self.trainer.values(), **progress})
        if self.fovs < self.total and self._is_ending():
            raise allocation.OutOfTime

    def _is_ending(self) -> bool:
        """Whether any rank is short of time: they stop together."""
        return bool(self.ranks.sum(np.array([allocation.is_ending()], np.float32))[0])

    def _rngs(self) -> list[np.random.Generator]:
        """Random numbers for the places of this rank's batch in this stretch."""
        first = self.ranks.rank * self.training.batch_size
        places = range(first, first + self.training.batch_size)
        return [self.experiment.rng(f"training examples from {self.fovs} at place {place}") for place in places]

    def _count(self, step: Step, window: _Window) -> None:
        self.fovs += self.step_fovs
        window.losses.append(step.loss)
        window.norms.append(step.gradient_norm)

    def _row(self, window: _Window, rate: float) -> Row:
        """Log what has happened since the last row, as means over the ranks."""
        steps = len(window.losses)
        seconds = time.monotonic() - window.began
        sums = self.ranks.sum(np.array([np.mean(window.losses), np.mean(window.norms), *window.counts.sums]))
        loss, norm = sums[:2] / self.ranks.size
        row: Row = {
            "fovs": float(self.fovs),
            "loss": float(loss),
            **Counts(sums[2:]).scores(),
            "learning_rate": rate,
            "gradient_norm": float(norm),
            "fovs_per_second": steps * self.step_fovs / seconds,
        }
        if self.ranks.rank == 0:
            self.log.add(row)
        return row


def _finish(experiment: Experiment, training: Training, ranks: Ranks, trainer: Trainer, run_: _Run) -> None:
    metrics = {
        "fovs": run_.fovs,
        "steps": run_.fovs // run_.step_fovs,
        "ranks": ranks.size,
        "batch_size": training.batch_size,
        "precision": trainer.precision,
        "seconds": run_.seconds,
        "last_row": run_.log.rows[-1],
    }
    values = trainer.weights()
    # Without times, so that the same training gives the same bytes.
    made = {name: value for name, value in run_.log.rows[-1].items() if name != "fovs_per_second"}
    weights.save_model(experiment.model, values, card(experiment, values, {"trained": made}))
    write_json(experiment.training / "metrics.json", metrics)


def taught(progress: float) -> float:
    return 0.0
