"""Flood every sub-volume of a shard into the block store.

1. The hash of everything that decides the result (weights, image, options) names this run.
2. Each sub-volume whose block is not there with that hash is read, flooded and written, whole or not at all.
3. Inference is complete when every block is there: `finish` then writes the manifest.

Times lie beside the blocks, in files of their own: the blocks themselves are the same bytes in every run.
"""

from __future__ import annotations

import logging
import time
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from floodline import allocation, pool
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn import precision, weights
from floodline.ffn.canvas import Canvas
from floodline.ffn.flood import Floods, drive
from floodline.ffn.network import InferenceNetwork
from floodline.ffn.seeds import inside, peaks
from floodline.geometry import Box
from floodline.inference.checkpoint import Checkpoint
from floodline.manifest import DamagedBlock, hash_of, hash_of_file, read_block, read_json, write_block, write_json
from floodline.progress import Meter
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)


def parameters_of(experiment: Experiment) -> str:
    """Hash of all that decides the content of the blocks."""
    config = experiment.config
    return hash_of(
        {
            "inference": config.inference.model_dump(
                mode="json", exclude={"shards", "precision", "checkpoint_seconds"}
            ),
            "precision": precision.resolve(config.inference.precision),
            "network": config.network.model_dump(mode="json", exclude={"weights"}),
            "weights": hash_of_file(experiment.model / "weights.npz"),
            "normalisation": experiment.normalisation(),
            "image": read_json(experiment.manifest("image")),
        }
    )


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
        self.image = Layer.open(self.experiment.layer("image"))

    @cached_property
    def network(self) -> InferenceNetwork:
        """Loaded with the first sub-volume that is not done yet."""
        config = self.experiment.config
        arithmetic = precision.resolve(config.inference.precision)
        return InferenceNetwork(weights.load(self.experiment.model), config.network, arithmetic)


def _flood_box(worker: _Worker, task: Task) -> Box:
    """Flood one sub-volume and write its block, unless it is there."""
    box, parameters = task
    experiment, config = worker.experiment, worker.experiment.config
    if _finished(experiment.block(box), parameters) is not None:
        return box
    began = time.monotonic()
    image = worker.image.read(box)
    mean, stddev = experiment.normalisation()
    # The seeds come first: what finding them takes is given back before the canvas is made.
    seeds = inside(peaks(image, mean, stddev), image.shape, config.network.fov_xyz)
    canvas = Canvas(image, mean, stddev, config.network.fov_xyz, config.inference.flood)
    floods = Floods(canvas, config.inference.flood, config.network.deltas_xyz, seeds)
    checkpoint = Checkpoint(experiment.block(box), parameters, config.inference.checkpoint_seconds)
    checkpoint.resume(floods)
    drive([floods.flood_all()], worker.network, partial(_between_calls, checkpoint, floods))
    _write(experiment.block(box), parameters, canvas, floods, time.monotonic() - began)
    checkpoint.discard()
    logger.info(
        "%s: %d objects, %d network calls, %.1f s",
        box, len(floods.segments), floods.counts["network_calls"], time.monotonic() - began,
    )  # fmt: skip
    return box


def _between_calls(checkpoint: Checkpoint, floods: Floods) -> None:
    if allocation.is_ending():
        checkpoint.keep(floods)
        raise allocation.OutOfTime
    checkpoint.keep_if_due(floods)


def _write(path: Path, parameters: str, canvas: Canvas, floods: Floods, seconds: float) -> None:
    segments = floods.segments
    write_json(_times(path), {"seconds": seconds, "object_seconds": [s.seconds for s in segments]})
    overlaps = [(segment.id, earlier, voxels) for segment in segments for earlier, voxels in segment.overlaps]
    counts = sorted(floods.counts.items())
    write_block(
        path,
        parameters,
        {
            "segmentation": np.maximum(canvas.segmentation, 0),
            "qprob": canvas.qprob,
            "origins": np.array([(s.id, *s.start) for s in segments], dtype=np.int32).reshape(-1, 4),
            "calls": np.array([s.calls for s in segments], dtype=np.int64),
            "sizes": np.array([s.voxels for s in segments], dtype=np.int64),
            "overlaps": np.array(overlaps, dtype=np.int64).reshape(-1, 3),
            "count_names": np.array([name for name, _ in counts], dtype="U32"),
            "counts": np.array([count for _, count in counts], dtype=np.int64),
        },
    )


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
                "segments": len(block["sizes"]),
                "voxels_segmented": int(block["sizes"].sum()),
                "seconds": read_json(_times(path))["seconds"],
                **dict(zip(block["count_names"].tolist(), block["counts"].tolist(), strict=True)),
            }
        )
    write_json(manifest, {"parameters": parameters, "blocks": entries})
