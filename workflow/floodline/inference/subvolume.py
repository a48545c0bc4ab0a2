"""One sub-volume: what is read, in which order it is flooded, and what is kept meanwhile.

With split consensus a sub-volume is flooded twice. The first pass's result is kept in a file of its own, beside the
block to be, until both are there; so an interruption in either pass costs no more than the time between checkpoints,
and memory holds one pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from floodline import allocation
from floodline.config import Seeds
from floodline.experiment import Experiment
from floodline.ffn.canvas import Canvas
from floodline.ffn.closed import restriction_of
from floodline.ffn.contrast import as_the_network_sees
from floodline.ffn.flood import Flooding, Floods
from floodline.ffn.restriction import Restriction
from floodline.ffn.seed_policies import Ground, find_seeds, invert
from floodline.geometry import Box
from floodline.inference.checkpoint import Checkpoint
from floodline.inference.consensus import agree
from floodline.inference.passes import Pass, Policy
from floodline.inference.result import Result
from floodline.inference.under_way import UnderWay
from floodline.manifest import DamagedBlock, hash_of, read_block, write_block
from floodline.segmentation.relabel import compact
from floodline.volumes.arrays import as_labels
from floodline.volumes.layer import Layer
from floodline.volumes.scaled import read_scaled
from floodline.volumes.sources import open_source

logger = logging.getLogger(__name__)

FORWARD, REVERSE = ".forward", ".reverse"
"""Suffixes of the passes' results, beside the block to be."""


@dataclass(frozen=True)
class Subvolume:
    """What a flood needs to know of a sub-volume; arrays are z, y, x."""

    experiment: Experiment
    box: Box
    image: np.ndarray
    mean: float
    stddev: float
    restriction: Restriction
    initial: np.ndarray | None
    initial_ids: np.ndarray

    @classmethod
    def read(cls, experiment: Experiment, box: Box) -> Subvolume:
        """Read image, masks and initial segmentation.

        Raises:
            FloodlineError: one of them is missing, damaged, or does not cover the sub-volume.
        """
        restriction = restriction_of(experiment, box)
        stored = Layer.open(experiment.layer("image")).read(box)
        image, mean, stddev = as_the_network_sees(experiment, stored, restriction.closed)
        initial, ids = _initial_segmentation(experiment, box)
        return cls(experiment, box, image, mean, stddev, restriction, initial, ids)

    def forward(self) -> list[Policy]:
        """The configured policies."""
        return [partial(self._find, policy) for policy in self.experiment.config.inference.seeds]

    def reverse(self, origins: np.ndarray) -> list[Policy]:
        """The policies of the second pass: the first one's `origins` inverted, or its seeds reversed."""
        if self.experiment.config.inference.consensus_order == "invert_origins":
            return [lambda _: invert(origins)]
        return [partial(_last_first, policy) for policy in self.forward()]

    def _find(self, policy: Seeds, segmentation: np.ndarray) -> np.ndarray:
        masked = self.restriction.seedless
        ground = Ground(self.box, self.image, self.mean, self.stddev, segmentation, masked)
        config = self.experiment.config
        return find_seeds(policy, ground, config.network.fov_xyz, config.inference.flood.policy)

    def flood(self, policies: list[Policy], checkpoint: Checkpoint, second: bool = False) -> Flooding[Result]:
        """Flood from the seeds of these policies, from the checkpoint on if there is one; `second` of two passes."""
        wanted, network = self.experiment.config.inference, self.experiment.config.network
        canvas = Canvas(self.image, self.mean, self.stddev, network.fov_xyz, wanted.flood, self.restriction)
        if self.initial is not None:
            canvas.keep(self.initial)
        one = Pass(Floods(canvas, wanted.flood, network.deltas_xyz), policies)
        checkpoint.resume(one)
        progress = UnderWay(one, self.box, int(second), 1 if wanted.consensus is None else 2)
        flooding, logits = one.flood_all(), None
        try:
            while True:
                logits = yield flooding.send(logits)  # type: ignore[arg-type]  # a generator starts with None
                progress.called()
                if allocation.is_ending():
                    raise allocation.OutOfTime
                checkpoint.keep_if_due(one)
        except StopIteration:
            progress.say()
            return Result.of(one, self.initial_ids)
        except (allocation.OutOfTime, GeneratorExit):
            checkpoint.keep(one)
            raise


def _last_first(policy: Policy, segmentation: np.ndarray) -> np.ndarray:
    return policy(segmentation)[::-1]


def _initial_segmentation(experiment: Experiment, box: Box) -> tuple[np.ndarray | None, np.ndarray]:
    """Objects to keep, numbered from 1 on, and the ids that they have in their source."""
    source = experiment.config.inference.initial_segmentation
    if source is None:
        return None, np.zeros(0, np.uint64)
    volume = open_source(source, experiment.config.seed, "labels")
    numbers, ids = compact(as_labels(read_scaled(volume, (1, 1, 1), box, "inference.initial_segmentation")))
    return numbers, ids[1:]


def flood_subvolume(experiment: Experiment, box: Box, parameters: str) -> Flooding[Result]:
    """Flood a sub-volume once, or twice for the consensus.

    Args:
        parameters: hash of all that decides the result.

    Raises:
        OutOfTime: the scheduler is about to end the job; a checkpoint was kept.
    """
    wanted, path = experiment.config.inference, experiment.block(box)
    if wanted.consensus is None:
        checkpoint = Checkpoint(path, parameters, wanted.checkpoint_seconds)
        subvolume = Subvolume.read(experiment, box)
        return (yield from subvolume.flood(subvolume.forward(), checkpoint))

    def kept_pass(suffix: str, policies: Callable[[Subvolume], list[Policy]]) -> Flooding[Result]:
        own = path.with_suffix(suffix)
        of_pass = hash_of([parameters, suffix])
        result = _read_pass(own, of_pass)
        if result is None:
            # Read for each pass: when both are there, memory holds their results alone.
            subvolume = Subvolume.read(experiment, box)
            checkpoint = Checkpoint(path, of_pass, wanted.checkpoint_seconds)
            result = yield from subvolume.flood(policies(subvolume), checkpoint, second=suffix == REVERSE)
            write_block(own, of_pass, result.block() | {k: np.asarray(v) for k, v in result.times().items()})
        return result

    origins = (yield from kept_pass(FORWARD, Subvolume.forward)).origins
    reverse = yield from kept_pass(REVERSE, lambda subvolume: subvolume.reverse(origins))
    reverse = replace(reverse, qprob=np.zeros(0, np.uint8))  # its memory, for nobody looks at it any more
    forward = yield from kept_pass(FORWARD, Subvolume.forward)
    return agree(forward, reverse, wanted.consensus_min_size)


def _read_pass(path: Path, parameters: str) -> Result | None:
    try:
        block = read_block(path, parameters)
    except DamagedBlock:
        logger.warning("%s is damaged: its pass is made again", path)
        return None
    if block is None:
        return None
    return Result.from_block(block, {"seconds": float(block["seconds"]), "object_seconds": block["object_seconds"]})


def forget_passes(path: Path) -> None:
    """Delete what was kept on the way to a block that is there now."""
    for suffix in (FORWARD, REVERSE, Checkpoint.SUFFIX):
        path.with_suffix(suffix).unlink(missing_ok=True)
