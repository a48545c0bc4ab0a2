"""Train the network on every rank of the launcher.

1. The ranks map the same volumes into memory, and start from the same weights: random ones, the configured ones, or
   those of the latest checkpoint.
2. A step takes one field of view of every place of every rank's batch, and applies the gradient's mean over all.
3. Every `summary_fovs` a row goes into log.csv; every `checkpoint_fovs` held-out patches are scored and the state is
   kept. It is also kept every two minutes, and when the scheduler is about to end the job.
4. At the end a checkpoint is chosen, and rank 0 writes `model/` and `metrics.json`.

Every example of every place of the batch has random numbers of its own, and a checkpoint holds what is under way. So a
run that goes on sees what an uninterrupted one sees, and two ranks with a batch of b see what one rank with a batch of
2 b sees.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
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
from floodline.ffn.precision import Precision
from floodline.manifest import hash_of, write_json
from floodline.parallel import Ranks, training_ranks
from floodline.progress import Meter
from floodline.training import pictures, selection
from floodline.training.batches import draw_patch
from floodline.training.card import card
from floodline.training.checkpoints import Candidates, Checkpoint, UnderWay
from floodline.training.held_out import HeldOut
from floodline.training.log import HELD_OUT, Log, Row
from floodline.training.metrics import Counts
from floodline.training.movement import Geometry, Patch
from floodline.training.schedule import Schedule
from floodline.training.sequence import Examples
from floodline.training.trainer import Trainer
from floodline.training.volume import Volumes, identity

logger = logging.getLogger("floodline")

METHOD = 3
"""Raised when the same configuration gives other weights, so that no checkpoint of before is gone on from."""

STEPS_BETWEEN_LOOKS, SECONDS_BETWEEN_LOOKS = 8, 1.0
"""Looks at the time, at most; all ranks meet for one."""

SECONDS_BETWEEN_STATES = 120.0
"""The state is kept so often between checkpoints, too: it is what a job that is killed may lose."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

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
        if training.selection is not None:
            selection.check(experiment, training.selection)
        run_ = _Run(experiment, training, ranks)
        if ranks.rank == 0:  # not before: a model of an earlier training outlives what is wrong with this one
            (experiment.model / weights.CARD).unlink(missing_ok=True)
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
    watching = {"selection", "held_out_patches", "summary_fovs", "checkpoint_fovs"}
    return hash_of(
        {
            "method": METHOD,
            "seed": config.seed,
            "network": config.network.without_weights(),
            "first_weights": hashlib.blake2b(b"".join(array.tobytes() for array in first.values())).hexdigest(),
            "training": config.training.model_dump(mode="json", exclude=watching),
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

    def state(self) -> dict[str, np.ndarray]:
        """What `of` needs."""
        return {
            "counts": self.counts.sums,
            "losses": np.array(self.losses),
            "norms": np.array(self.norms),
            "seconds": np.array(time.monotonic() - self.began),
        }

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray]) -> _Window:
        """The window that had come so far when its state was kept."""
        began = time.monotonic() - float(state["seconds"])
        return cls(Counts(state["counts"]), state["losses"].tolist(), state["norms"].tolist(), began)


class _Run:
    """A training under way. Lengths are in fields of view seen by all ranks.

    Attributes:
        fovs: seen so far.
        row_due, checkpoint_due: when the next row of the log, and the next checkpoint, are due.
        seconds: time of training, without that of held-out scores.
        geometry: of held-out examples, and of the training's own once `first_views` are over.
    """

    def __init__(self, experiment: Experiment, training: Training, ranks: Ranks) -> None:
        self.experiment, self.training, self.ranks = experiment, training, ranks
        self.schedule = Schedule.of(training, ranks.size)
        self.step_fovs, self.total = self.schedule.step_fovs, self.schedule.total
        self.geometry = Geometry(experiment.config.network, training)
        self.first = first = _first_weights(experiment)
        self.volumes = Volumes.open(experiment, training, self.geometry.canvas, ranks)
        self.held_out = HeldOut.read(experiment, training, self.geometry, ranks)
        self.trainer = Trainer(first, experiment.config.network, training, ranks)
        parameters = parameters_of(experiment, first, ranks.size)
        self.checkpoint = Checkpoint(experiment.training, parameters)
        tried = training.selection.checkpoints if training.selection else 0
        self.candidates = Candidates(experiment.training, parameters, tried)
        self.under_way = UnderWay(experiment.training, parameters, ranks.rank)
        self.log = Log(experiment.training / "log.csv")
        self.fovs = self.row_due = self.checkpoint_due = 0
        self.seconds = 0.0
        self.began = self.looked = self.state_kept = time.monotonic()
        self.window, self.scoring = _Window(), deque[Future[None]]()

    def resume(self) -> None:
        """Go on from the latest checkpoint of the same training, if there is one; rank 0 decides for all."""
        kept = self.checkpoint.read() if self.ranks.rank == 0 else None
        progress = self.ranks.agree(np.zeros(5) if kept is None else kept.pop("progress"))
        self.fovs, self.row_due, self.checkpoint_due = map(int, progress[:3])
        self.seconds = float(progress[3])
        if self.fovs:
            self.trainer.restore(kept or {})
            # What `auto` means does not change on the way, even if another processor goes on.
            self.trainer.precision = PRECISIONS[int(progress[4])]
            logger.info("resumed after %d fields of view, in %s", self.fovs, self.trainer.precision)
        if self.ranks.rank == 0:
            self.log.resume(self.fovs)
            # A run that begins anew leaves nothing of an earlier one, not even what that one had begun with.
            kept_lengths = [fovs for fovs in self.candidates.lengths() if fovs <= self.fovs]
            self.candidates.forget_but(kept_lengths if self.fovs else [])

    def train(self) -> None:
        """Train to the end."""
        if self.ranks.rank == 0 and self.experiment.run == MAIN:
            pictures.draw(self.experiment, self.volumes, self.training, self.geometry)
        if self.fovs == 0 and self.experiment.config.network.weights is not None:
            self._score_what_it_began_with()
        self.window = _Window()
        # Of many ranks one shows how far all are.
        lines = self._meter() if self.ranks.rank == 0 else nullcontext()
        with lines as meter, ThreadPoolExecutor(1, "examples") as executor:
            kept = self.under_way.read(self.fovs)
            while self.fovs < self.total:
                self._train_on_one_size(executor, kept, meter)
                kept = None

    def _meter(self) -> Meter:
        voxels = partial(self.training.voxels_of, own=self.experiment.config.network)
        meter = Meter("train", self.total, "fields of view", work=voxels)
        meter.advance(self.fovs, before=self.fovs)
        return meter

    def _score_what_it_began_with(self) -> None:
        """Make a row of the weights that are fine-tuned: it shows what that is worth."""
        row: Row = {"fovs": 0.0, **self._held_out_scores()}
        if self.ranks.rank == 0:
            self.log.add(row)

    def _train_on_one_size(
        self, executor: Executor, kept: Mapping[str, np.ndarray] | None, meter: Meter | None
    ) -> None:
        """Train on the size of fields of view that is due, to its end.

        Args:
            kept: what was under way at the checkpoint that this run goes on from.
        """
        geometry, end = self._stage()
        examples = self._examples(geometry, executor, kept, end)
        self.began = self.looked = time.monotonic()
        steps, look_after = 0, STEPS_BETWEEN_LOOKS
        while self.fovs < end:
            steps += 1
            rate = self.schedule.rate(self.fovs + self.step_fovs)
            step = self.trainer.step(examples.batches.gather(), rate)
            examples.batches.scatter(step.logits)
            self.fovs += self.step_fovs
            self.window.losses.append(step.loss)
            self.window.norms.append(step.gradient_norm)
            is_checkpoint = self.fovs >= self.checkpoint_due
            if is_checkpoint or self.fovs >= self.row_due:
                self._report(rate, is_checkpoint, meter)
            if is_checkpoint:
                self.checkpoint_due = min(self.fovs + self.training.checkpoint_fovs, end)
                self._keep(examples, end)
            if self.fovs < self.total and (is_checkpoint or steps >= look_after):
                is_ending, is_old, look_after = self._look(steps)
                steps = 0
                if (is_ending or is_old) and not is_checkpoint:
                    self._keep(examples, end)
                if is_ending:
                    raise allocation.OutOfTime

    def _examples(
        self, geometry: Geometry, executor: Executor, kept: Mapping[str, np.ndarray] | None, end: int
    ) -> Examples:
        """The examples of this rank's batch: those that were kept, or new ones."""
        began = self.fovs
        if kept is not None:
            self.window, began = _Window.of(kept), int(kept["began"])
        if self.fovs >= self.checkpoint_due:
            self.row_due = self.fovs + self.training.summary_fovs
            self.checkpoint_due = min(self.fovs + self.training.checkpoint_fovs, end)

        def draw(place: int, number: int) -> Patch:
            rng = self.experiment.rng(f"training example {number} from {began} at place {place}")
            return draw_patch(self.volumes, geometry, self.training, rng)

        def finished(patch: Patch) -> None:
            self.scoring.append(executor.submit(self.window.counts.add, patch))

        first = self.ranks.rank * self.training.batch_size
        places = range(first, first + self.training.batch_size)
        return Examples(draw, began, places, geometry, executor, finished, kept)

    def _report(self, rate: float, is_checkpoint: bool, meter: Meter | None) -> None:
        """Log what has happened since the last row, with held-out scores at a checkpoint."""
        self._score_finished()
        self._stop_clock()
        row = self._row(rate, with_held_out=is_checkpoint)
        self.began = time.monotonic()  # held-out scores are no training
        if meter is not None:
            meter.advance(self.fovs - meter.done, f"loss {row['loss']:.3f}, F1 {row['f1']:.3f}", before=meter.before)
        self.window, self.row_due = _Window(), self.fovs + self.training.summary_fovs
        if is_checkpoint and self.ranks.rank == 0 and self.training.selection is not None:
            self.candidates.add(self.fovs, self.seconds, self.trainer.weights())

    def _score_finished(self) -> None:
        while self.scoring:
            self.scoring.popleft().result()

    def _stop_clock(self) -> None:
        now = time.monotonic()
        self.seconds, self.began = self.seconds + now - self.began, now

    def _keep(self, examples: Examples, end: int) -> None:
        """Keep the state: each rank what it has under way, unless its examples are over; then rank 0 the rest."""
        self._score_finished()
        self._stop_clock()
        if self.fovs < end:
            self.under_way.write(self.fovs, examples.state() | self.window.state())
        self.ranks.wait()
        if self.ranks.rank == 0:
            arithmetic = PRECISIONS.index(self.trainer.precision)
            progress = np.array([self.fovs, self.row_due, self.checkpoint_due, self.seconds, arithmetic])
            self.checkpoint.write({**self.trainer.values(), "progress": progress})
        self.ranks.wait()
        self.under_way.forget_but(self.fovs)
        self.state_kept = time.monotonic()

    def _stage(self) -> tuple[Geometry, int]:
        """Geometry of the examples that are due, and the number of fields of view after which another follows."""
        end = 0
        for views in self.training.first_views:
            end += views.fovs
            if self.fovs < end:
                return Geometry(views, self.training), end
        return self.geometry, self.total

    def _look(self, steps: int) -> tuple[bool, bool, int]:
        """Look at the time: the first rank does, and says so to all, so that all stop together.

        Args:
            steps: that were made since the last look.

        Returns:
            Whether the job is about to end, whether the kept state is old, and how many steps to make until the next
            look: fewer of long ones.
        """
        now = time.monotonic()
        fitting = steps * SECONDS_BETWEEN_LOOKS / max(now - self.looked, 1e-9)
        look_after = max(1, min(STEPS_BETWEEN_LOOKS, int(fitting)))
        self.looked = now
        is_old = now - self.state_kept > SECONDS_BETWEEN_STATES
        is_ending, is_old, look_after = self.ranks.agree([allocation.is_ending(), is_old, look_after])
        return bool(is_ending), bool(is_old), int(look_after)

    def _row(self, rate: float, with_held_out: bool) -> Row:
        """Add the row: sums and means over the ranks."""
        window = self.window
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
        if self.ranks.rank == 0 and self.training.selection is not None:
            if not self.candidates.lengths():  # the training was over before a selection was asked for
                self.candidates.add(self.fovs, self.seconds, values)
            if self.experiment.config.network.weights is not None:
                self.candidates.add(0, 0.0, self.first)
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
        made |= {"steps": int(fovs) // self.step_fovs, "precision": self.trainer.precision}
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
