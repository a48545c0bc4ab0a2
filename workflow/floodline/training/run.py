"""Train the network on every rank of the launcher.

1. The ranks map the same volumes into memory, and start from the same weights: random ones, the configured ones, or
   those of the latest checkpoint.
2. A step takes one field of view of every place of every rank's batch, and applies the gradient's mean over all.
3. Every `summary_fovs` a row goes into log.csv; every `checkpoint_fovs` held-out patches are scored and the state is
   kept.
4. At the end a checkpoint is chosen, and rank 0 writes `model/` and `metrics.json`.

After each checkpoint every place of the batch begins a new example, with random numbers of its own for that stretch and
that place. So a run that goes on from a checkpoint sees what an uninterrupted one sees, and two ranks with a batch of b
see what one rank with a batch of 2 b sees.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from floodline import allocation
from floodline.config import Training
from floodline.errors import Diverged
from floodline.experiment import MAIN, Experiment
from floodline.ffn import weights
from floodline.ffn.network import Weights, identity_weights, initial_weights
from floodline.manifest import hash_of, write_json
from floodline.parallel import Ranks, training_ranks
from floodline.progress import Meter
from floodline.training import pictures, selection
from floodline.training.batches import Batches, Place, ahead, draw_patch
from floodline.training.card import card
from floodline.training.checkpoints import Candidates, Checkpoint
from floodline.training.held_out import HeldOut
from floodline.training.log import HELD_OUT, Log, Row
from floodline.training.metrics import Counts
from floodline.training.movement import Geometry, Patch
from floodline.training.schedule import Schedule
from floodline.training.trainer import Step, Trainer
from floodline.training.volume import Volumes, identity

logger = logging.getLogger("floodline")

INITIAL_WEIGHTS = {"glorot": initial_weights, "identity": identity_weights}


def run(experiment: Experiment) -> None:
    """Train, or go on with a training that was interrupted.

    Raises:
        FloodlineError: there is nothing to train on, or the weights to start from are of another network.
        Diverged: the loss is no number any more. For a cell of a study that is a result, and no error.
        OutOfTime: the scheduler is about to end the job; the latest state is kept.
    """
    training = experiment.config.training
    assert training is not None
    ranks = training_ranks()
    with ranks.together():
        if ranks.rank == 0:
            (experiment.model / weights.CARD).unlink(missing_ok=True)
        if training.selection is not None:
            selection.check(experiment, training.selection)
        run_ = _Run(experiment, training, ranks)
        run_.resume()
        try:
            run_.train()
        except Diverged as error:
            if experiment.run == MAIN:
                raise
            run_.give_up(error)
        else:
            run_.finish()


def _first_weights(experiment: Experiment) -> Weights:
    network = experiment.config.network
    if network.weights is None:
        training = experiment.config.training
        assert training is not None
        return INITIAL_WEIGHTS[training.initial_weights](network, experiment.rng("initial weights"))
    values = weights.load(network.weights)
    weights.check(values, network)
    return values


def parameters_of(experiment: Experiment, first: Weights, workers: int) -> str:
    """Hash of all that decides the weights of a training."""
    config = experiment.config
    assert config.training is not None
    watching = {"selection", "held_out_patches", "summary_fovs"}
    return hash_of(
        {
            "seed": config.seed,
            "network": config.network.model_dump(mode="json", exclude={"weights", "licence"}),
            "first_weights": hashlib.blake2b(b"".join(array.tobytes() for array in first.values())).hexdigest(),
            "training": config.training.model_dump(mode="json", exclude=watching),
            "precision": config.training.precision,
            "volumes": identity(experiment),
            "workers": workers,
        }
    )


@dataclass
class _Window:
    """What has happened since the last row of the log."""

    counts: Counts = field(default_factory=Counts)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)


class _Run:
    """A training under way. Lengths are in fields of view seen by all ranks.

    Attributes:
        geometry: of held-out examples, and of the training's own once `first_views` are over.
    """

    def __init__(self, experiment: Experiment, training: Training, ranks: Ranks) -> None:
        self.experiment, self.training, self.ranks = experiment, training, ranks
        self.schedule = Schedule.of(training, ranks.size)
        self.step_fovs, self.total = self.schedule.step_fovs, self.schedule.total
        self.geometry = Geometry(experiment.config.network, training)
        first = _first_weights(experiment)
        self.volumes = Volumes.open(experiment, training, self.geometry.canvas, ranks)
        self.held_out = HeldOut.read(experiment, training, self.geometry, ranks)
        self.trainer = Trainer(first, experiment.config.network, training, ranks)
        parameters = parameters_of(experiment, first, ranks.size)
        self.checkpoint = Checkpoint(experiment.training, parameters)
        tried = training.selection.checkpoints if training.selection else 0
        self.candidates = Candidates(experiment.training, parameters, tried)
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
        if self.ranks.rank == 0:
            self.log.resume(self.fovs)
            # A run that begins anew leaves nothing of an earlier one, not even what that one had begun with.
            kept_lengths = [fovs for fovs in self.candidates.lengths() if fovs <= self.fovs]
            self.candidates.forget_but(kept_lengths if self.fovs else [])

    def train(self) -> None:
        """Train to the end, stretch by stretch."""
        if self.ranks.rank == 0 and self.experiment.run == MAIN:
            pictures.draw(self.experiment, self.volumes, self.training, self.geometry)
        if self.fovs == 0 and self.experiment.config.network.weights is not None:
            self._score_what_it_began_with()
        voxels = partial(self.training.voxels_of, own=self.experiment.config.network)
        with Meter("train", self.total, "fields of view", work=voxels) as meter:
            meter.advance(self.fovs, before=self.fovs)
            while self.fovs < self.total:
                with ThreadPoolExecutor(1, "examples") as executor:
                    self._train_stretch(executor, meter)
                    executor.shutdown(cancel_futures=True)
                if self.fovs < self.total and self._is_ending():
                    raise allocation.OutOfTime

    def _score_what_it_began_with(self) -> None:
        """Make a row, and a candidate, of the weights that are fine-tuned: it shows what that is worth."""
        row: Row = {"fovs": 0.0, **self._held_out_scores()}
        if self.ranks.rank == 0:
            self.log.add(row)
            if self.training.selection is not None:
                self.candidates.add(0, 0.0, self.trainer.weights())

    def _train_stretch(self, executor: Executor, meter: Meter) -> None:
        """Train up to the next checkpoint, or the end of a kind of first views, and keep it."""
        geometry, end = self._stage()
        window, scoring = _Window(), deque[Future[None]]()

        def finished(patch: Patch) -> None:
            scoring.append(executor.submit(window.counts.add, patch))

        places = [Place(ahead(make, executor), finished) for make in self._makers(geometry)]
        batches = Batches(places, geometry)
        until = min(self.fovs + self.training.checkpoint_fovs, end)
        began, row_due = time.monotonic(), self.fovs + self.training.summary_fovs
        while self.fovs < until:
            rate = self.schedule.rate(self.fovs + self.step_fovs)
            step = self.trainer.step(batches.gather(), rate)
            batches.scatter(step.logits)
            self._count(step, window)
            if self.fovs >= row_due or self.fovs >= until:
                while scoring:
                    scoring.popleft().result()
                if self.fovs >= until:
                    self.seconds += time.monotonic() - began
                row = self._row(window, rate, with_held_out=self.fovs >= until)
                note = f"loss {row['loss']:.3f}, F1 {row['f1']:.3f}"
                meter.advance(self.fovs - meter.done, note, before=meter.before)
                window, row_due = _Window(), self.fovs + self.training.summary_fovs
        if self.ranks.rank == 0:
            if self.training.selection is not None:
                self.candidates.add(self.fovs, self.seconds, self.trainer.weights())
            progress = {"fovs": np.array(self.fovs), "seconds": np.array(self.seconds)}
            self.checkpoint.write({**self.trainer.values(), **progress})

    def _stage(self) -> tuple[Geometry, int]:
        """Geometry of the examples that are due, and the number of fields of view after which another follows."""
        end = 0
        for views in self.training.first_views:
            end += views.fovs
            if self.fovs < end:
                return Geometry(views, self.training), end
        return self.geometry, self.total

    def _is_ending(self) -> bool:
        """Whether time is short: the first rank looks, and all stop together."""
        return bool(self.ranks.sum(np.array([self.ranks.rank == 0 and allocation.is_ending()], np.float32))[0])

    def _makers(self, geometry: Geometry) -> list[Callable[[], Patch]]:
        """Makers of examples for the places of this rank's batch, each with random numbers of its own."""
        first = self.ranks.rank * self.training.batch_size
        purposes = [f"training examples from {self.fovs} at place {first + i}" for i in range(self.training.batch_size)]
        return [
            partial(draw_patch, self.volumes, geometry, self.training, self.experiment.rng(purpose))
            for purpose in purposes
        ]

    def _count(self, step: Step, window: _Window) -> None:
        self.fovs += self.step_fovs
        window.losses.append(step.loss)
        window.norms.append(step.gradient_norm)

    def _row(self, window: _Window, rate: float, with_held_out: bool) -> Row:
        """Log what has happened since the last row, as sums and means over the ranks."""
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
        if with_held_out:
            row |= self._held_out_scores()
        if self.ranks.rank == 0:
            self.log.add(row)
        return row

    def _held_out_scores(self) -> Row:
        """Scores of held-out patches by the weights as they are; none where nothing is held out."""
        counts = Counts(self.ranks.sum(self.held_out.count(self.trainer.predict).sums))
        return {HELD_OUT + name: value for name, value in counts.scores().items()} if counts.sums[-1] else {}

    def finish(self) -> None:
        """Choose the checkpoint, and write `model/` and `metrics.json`."""
        values = self.trainer.weights()
        records: list[selection.Record] = []
        if self.ranks.rank == 0 and self.training.selection is not None and not self.candidates.lengths():
            # The training was over before a selection was asked for.
            self.candidates.add(self.fovs, self.seconds, values)
        self.ranks.wait()
        if self.training.selection is not None:
            values, records = selection.choose(self.experiment, self.training.selection, self.candidates, self.ranks)
        if self.ranks.rank == 0:
            self._write(values, records)
        self.ranks.wait()

    def _write(self, values: Weights, records: list[selection.Record]) -> None:
        chosen = next((record for record in records if record["chosen"]), None)
        fovs = chosen["fovs"] if chosen else self.fovs
        row = next((row for row in self.log.rows if row["fovs"] == fovs), {"fovs": fovs})
        # Without times, so that the same training gives the same bytes.
        made: dict[str, Any] = {"trained": {name: value for name, value in row.items() if name != "fovs_per_second"}}
        made["steps"] = int(fovs) // self.step_fovs
        if chosen:
            made["flood"] = {name: value for name, value in chosen.items() if name not in ("seconds", "chosen")}
        started_from = self.experiment.config.network.weights
        if started_from is not None:
            made["started_from"] = {"weights": started_from}
        weights.save_model(self.experiment.model, values, card(self.experiment, values, made, self.volumes.hashes))
        self.volumes.close()
        self._write_metrics(row, records)

    def give_up(self, error: Diverged) -> None:
        """Write `metrics.json` of a training that diverged."""
        logger.warning("%s", error)
        self.volumes.close()
        if self.ranks.rank == 0:
            self._write_metrics(self.log.rows[-1] if self.log.rows else {}, [], diverged=True)
        self.ranks.wait()

    def _write_metrics(self, row: Row, records: list[selection.Record], diverged: bool = False) -> None:
        write_json(
            self.experiment.training / "metrics.json",
            {
                "fovs": self.fovs,
                "steps": self.fovs // self.step_fovs,
                "ranks": self.ranks.size,
                "batch_size": self.training.batch_size,
                "precision": self.trainer.precision,
                "seconds": self.seconds,
                "diverged": diverged,
                "row": row,
                "checkpoints": records,
            },
        )
