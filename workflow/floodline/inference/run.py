"""Flood every sub-volume of a shard into the block store.

1. The hash of everything that decides the result (weights, image, options) names this run.
2. Each sub-volume whose block is not there with that hash is read, flooded and written, whole or not at all.
3. Inference is complete when every block is there: `finish` then writes the manifest.

Times lie beside the blocks, in files of their own: the blocks themselves are the same bytes in every run.
"""

from __future__ import annotations

import logging
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from floodline import pool
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn import precision, weights
from floodline.ffn.network import InferenceNetwork
from floodline.geometry import Box
from floodline.inference.parameters import parameters_of
from floodline.inference.subvolume import flood_subvolume, forget_passes
from floodline.manifest import DamagedBlock, read_block, read_json, write_block, write_json
from floodline.progress import Meter

logger = logging.getLogger(__name__)

Task = tuple[Box, str]
"""A sub-volume, and the hash of the parameters that its block is to have."""


def run(experiment: Experiment, shard: int, workers: int) -> None:
    """Flood the sub-volumes of one shard that are not done yet, on the ranks of the launcher or on local processes.

    Args:
        shard: which of the `inference.shards` parts, from 0.
        workers: processes that flood side by side where there is no launcher; the cores are divided between them.

    Raises:
        OutOfTime: the scheduler is about to end the job; finished sub-volumes and checkpoints of the others are kept.
    """
    crew = pool.Crew(partial(_Worker, experiment.folder), _flood_box)
    boxes = experiment.subvolumes[shard :: experiment.config.inference.shards]
    pool.run(crew, partial(_lead, experiment, shard, boxes), max(1, min(workers, len(boxes))))


def _lead(experiment: Experiment, shard: int, boxes: list[Box], hand_out: pool.HandOut[Task, Box]) -> None:
    parameters = parameters_of(experiment)
    done = experiment.shard(shard)
    done.unlink(missing_ok=True)
    tasks = [(box, parameters) for box in _longest_first(experiment, boxes)]
    with Meter("infer", len(tasks), "sub-volumes") as meter:
        for _ in hand_out(tasks):
            meter.advance()
    write_json(done, {"parameters": parameters, "subvolumes": [box.corners for box in boxes]})


def _longest_first(experiment: Experiment, boxes: list[Box]) -> list[Box]:
    """So that the workers end together: by the time of an earlier run, where there was one, else by size."""
    seconds = {}
    for box in boxes:
        times = _times(experiment.block(box))
        if times.is_file():
            seconds[box] = read_json(times)["seconds"]
    known = sum(box.voxels for box in seconds)
    rate = sum(seconds.values()) / known if known else 1.0
    return sorted(boxes, key=lambda box: -seconds.get(box, rate * box.voxels))


class _Worker:
    """What a process keeps from one sub-volume to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)

    @cached_property
    def network(self) -> InferenceNetwork:
        """Loaded with the first sub-volume that is not done yet."""
        config = self.experiment.config
        arithmetic = precision.resolve(config.inference.precision)
        return InferenceNetwork(weights.load(self.experiment.model), config.network, arithmetic)


def _flood_box(worker: _Worker, task: Task) -> Box:
    """Flood one sub-volume and write its block, unless it is there."""
    box, parameters = task
    path = worker.experiment.block(box)
    for partial_file in path.parent.glob(f".{path.stem}.*.partial"):
        partial_file.unlink()  # left by a run that was killed while it wrote
    if _finished(path, parameters) is None:
        result = flood_subvolume(worker.experiment, box, parameters, lambda: worker.network)
        block = result.block()
        write_json(_times(path), result.times())
        write_block(path, parameters, block)
        logger.info(
            "%s: %d objects, %d network calls, %.1f s",
            box, len(block["ids"]), result.counts["network_calls"], result.seconds,
        )  # fmt: skip
    forget_passes(path)
    return box


def _times(block: Path) -> Path:
    return block.with_suffix(".times.json")


def _finished(path: Path, parameters: str) -> dict[str, np.ndarray] | None:
    """The block if it is there, intact, and made with these parameters; a damaged one is reported and made again."""
    try:
        return read_block(path, parameters)
    except DamagedBlock:
        logger.warning("%s is damaged and will be computed again", path)
        return None


def finish(experiment: Experiment) -> None:
    """Write the manifest of the block store.

    Raises:
        FloodlineError: blocks are missing, damaged, or were made with other parameters.
    """
    parameters = parameters_of(experiment)
    manifest = experiment.manifest("inference")
    manifest.unlink(missing_ok=True)
    entries: list[dict[str, Any]] = []
    for box in experiment.subvolumes:
        path = experiment.block(box)
        block = _finished(path, parameters)
        if block is None:
            raise FloodlineError(
                f"{path} is missing or was made with other parameters: run `floodline infer` for every shard first."
            )
        entries.append(
            {
                "box_xyz": box.corners,
                "file": str(path.relative_to(manifest.parent)),
                "segments": len(block["ids"]),
                "voxels_segmented": int(block["sizes"].sum()),
                "seconds": read_json(_times(path))["seconds"],
                **dict(zip(block["count_names"].tolist(), block["counts"].tolist(), strict=True)),
            }
        )
    write_json(manifest, {"parameters": parameters, "blocks": entries})
