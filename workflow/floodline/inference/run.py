"""Flood every sub-volume of a shard into the block store.

1. The hash of everything that decides the result (weights, image, options) names this run.
2. Each sub-volume whose block is not there with that hash is read, flooded and written, whole or not at all.
3. Inference is complete when every block is there: `finish` then writes the manifest.

Times lie beside the blocks, in files of their own: the blocks themselves are the same bytes in every run.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from floodline import pool
from floodline.config.files import masks_for
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.flood import Flooding, Predict, drive
from floodline.ffn.runtimes import network_of
from floodline.ffn.seed_policies import check_sources
from floodline.geometry import Box
from floodline.inference.parameters import parameters_of
from floodline.inference.subvolume import flood_subvolume, forget_passes
from floodline.inference.under_way import Note
from floodline.manifest import DamagedBlock, read_block, read_json, write_block, write_json
from floodline.progress import Meter

logger = logging.getLogger(__name__)

Task = tuple[list[Box], str]
"""Sub-volumes that share calls of the network, and the hash of the parameters that their blocks are to have."""

BATCHES_A_TASK = 4
"""Sub-volumes of a task at most, for each place in a batch: more keep batches full for longer, fewer end sooner."""

BYTES_A_VOXEL = 9
"""Of a sub-volume under way, at most: prediction 4, ids 4 (2 while they fit), probabilities 1; see Canvas."""
INITIAL_BYTES_A_VOXEL = 8
"""More of them while an initial segmentation is numbered: its labels 8, their numbers in two widths up to 8."""


def run(experiment: Experiment, shard: int | None, workers: int, batch: int = 1) -> None:
    """Flood the sub-volumes that are not done yet, on the ranks of the launcher or on local processes.

    Args:
        shard: which of the `inference.shards` parts, from 0; None: all, one after the other.
        workers: processes that flood side by side where there is no launcher; the cores are divided between them.
        batch: sub-volumes that a worker floods side by side, each call of its network serving all of them.

    Raises:
        FloodlineError: there is no such shard, or the image is smaller than the field of view.
        OutOfTime: the scheduler is about to end the job; finished sub-volumes and checkpoints of the others are kept.
    """
    shards, fov_xyz = experiment.config.inference.shards, experiment.config.network.fov_xyz
    if shard is not None and not 0 <= shard < shards:
        raise FloodlineError(f"there is no shard {shard}: inference.shards is {shards}, and the first one is 0.")
    image = experiment.image_box
    if any(size < fov for size, fov in zip(image.size_xyz, fov_xyz, strict=True)):
        raise FloodlineError(
            f"the image {image} is smaller than the field of view, network.fov_xyz {list(fov_xyz)}: nothing can be "
            "flooded in it."
        )
    of_shards = {one: experiment.subvolumes[one::shards] for one in (range(shards) if shard is None else [shard])}
    workers = pool.size(max(1, min(workers, max(map(len, of_shards.values())))))
    crew = pool.Crew(partial(_Worker, experiment.folder, batch), _flood_boxes)

    def lead(hand_out: pool.HandOut[Task, Done]) -> None:
        for one, boxes in of_shards.items():
            # Enough tasks for all workers.
            a_task = 1 if batch == 1 else max(1, min(batch * BATCHES_A_TASK, ceil(len(boxes) / workers)))
            _lead(experiment, one, boxes, batch, a_task, hand_out)

    pool.run(crew, lead, workers)


def _lead(
    experiment: Experiment,
    shard: int,
    boxes: list[Box],
    batch: int,
    a_task: int,
    hand_out: pool.HandOut[Task, Done],
) -> None:
    """Flood the sub-volumes of one shard."""
    parameters = parameters_of(experiment)
    check_sources(experiment.config.inference.seeds, boxes)
    marker = experiment.shard(shard)
    marker.unlink(missing_ok=True)
    longest_first = _longest_first(experiment, boxes)
    tasks = [(longest_first[i : i + a_task], parameters) for i in range(0, len(boxes), a_task)]
    voxels = max(box.voxels for box in boxes) if boxes else 0
    logger.info(
        "shard %d: %d sub-volumes of up to %.3g voxels; each worker needs %.3g GB for them, beside its network",
        shard, len(boxes), voxels, _at_once(batch) * bytes_a_voxel(experiment) * voxels / 1e9,
    )  # fmt: skip
    covered = 0
    notes: dict[tuple[Box, int], Note] = {}
    finished: set[Box] = set()
    began = time.monotonic()
    with Meter("infer", len(boxes), "sub-volumes") as meter:

        def show(more: int = 0) -> None:
            under_way = [note for note in notes.values() if note.box not in finished]
            of_box: dict[Box, int] = {}
            for note in under_way:  # of either pass, the one that got further
                of_box[note.box] = max(note.voxels, of_box.get(note.box, 0))
            rate = sum(note.calls for note in notes.values()) / (time.monotonic() - began)
            not_flooded = finished - {note.box for note in notes.values()}
            meter.advance(
                more,
                f"{covered + sum(of_box.values()):.3g} voxels covered, {rate:.1f} FOV/s",
                under_way=sum(note.share for note in under_way),
                before=sum(note.before for note in notes.values()) + len(not_flooded),
            )

        def hear(note: Note) -> None:
            notes[note.box, note.number] = note
            show()

        for done in hand_out(tasks, hear):
            covered += sum(done.values())
            finished.update(done)
            show(len(done))
    write_json(marker, {"parameters": parameters, "subvolumes": [box.corners for box in boxes]})


def _at_once(batch: int) -> int:
    """Sub-volumes that a worker holds: where several share a call, the next one is made ready meanwhile."""
    return batch + (batch > 1)


def bytes_a_voxel(experiment: Experiment) -> int:
    """Memory of a sub-volume under way: image, what every flood holds, a byte for each mask, and initial objects."""
    config = experiment.config
    image = np.dtype(read_json(experiment.manifest("image"))["dtype"]).itemsize
    closed = bool(masks_for(config, "floods")) or config.inference.shift_mask is not None
    seedless = bool(masks_for(config, "seeds"))
    initial = INITIAL_BYTES_A_VOXEL * (config.inference.initial_segmentation is not None)
    return image + BYTES_A_VOXEL + closed + seedless + initial


def _longest_first(experiment: Experiment, boxes: list[Box]) -> list[Box]:
    """So that the workers end together: by the time of an earlier run, where there was one, else by size."""
    seconds = {}
    for box in boxes:
        known_seconds = _seconds(experiment.block(box))
        if known_seconds is not None:
            seconds[box] = known_seconds
    known = sum(box.voxels for box in seconds)
    rate = sum(seconds.values()) / known if known else 1.0
    return sorted(boxes, key=lambda box: -seconds.get(box, rate * box.voxels))


Done = dict[Box, int]
"""Sub-volumes whose blocks are there now, and how many voxels of each have an object."""


class _Worker:
    """What a process keeps from one sub-volume to the next."""

    def __init__(self, folder: Path, batch: int) -> None:
        self.experiment = Experiment(folder)
        self.batch = batch
        self.network: Predict | None = None

    def load_network(self) -> None:
        """Load it, unless it is: before anything is read or searched, so that what is wrong with it is said at once."""
        if self.network is None:
            self.network = network_of(self.experiment)

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """New logits by the network that was loaded."""
        assert self.network is not None
        return self.network(image, seed)


def _flood_boxes(worker: _Worker, task: Task) -> Done:
    """Flood sub-volumes side by side and write their blocks, but for those that are there."""
    boxes, parameters = task
    done: Done = {}
    floodings = (_flood_box(worker, box, parameters, done) for box in boxes)
    drive(floodings, worker.predict, worker.batch)
    return done


def _flood_box(worker: _Worker, box: Box, parameters: str, done: Done) -> Flooding[None]:
    """Flood one sub-volume and write its block, unless it is there."""
    experiment = worker.experiment
    path = experiment.block(box)
    for partial_file in path.parent.glob(f".{path.stem}.*.partial"):
        partial_file.unlink(missing_ok=True)  # left by a run that was killed while it wrote
    block = _finished(path, parameters)
    if block is None:
        worker.load_network()
        result = yield from flood_subvolume(experiment, box, parameters)
        block = result.block()
        write_json(_times(path), result.times())
        write_block(path, parameters, block)
        logger.info(
            "%s: %d objects, %d network calls, %.1f s",
            box, len(block["ids"]), result.counts["network_calls"], result.seconds,
        )  # fmt: skip
    forget_passes(path)
    done[box] = int(block["sizes"].sum())


def _times(block: Path) -> Path:
    return block.with_suffix(".times.json")


def _seconds(block: Path) -> float | None:
    """What a block took; None where that is not known (any more)."""
    try:
        return float(read_json(_times(block))["seconds"])
    except (FloodlineError, KeyError, TypeError, ValueError):
        return None


def _finished(path: Path, parameters: str) -> dict[str, np.ndarray] | None:
    """The block if it is there, intact, and made with these parameters; a damaged one is reported and made again."""
    try:
        return read_block(path, parameters)
    except DamagedBlock:
        logger.warning("%s is damaged and will be computed again", path)
        return None


def finish(experiment: Experiment) -> None:
    """Write the manifest of the block store.

    The markers of shards that lack a block go, so that whoever goes by them, as Snakemake does, floods these again.

    Raises:
        FloodlineError: blocks are missing, damaged, or were made with other parameters.
    """
    parameters = parameters_of(experiment)
    manifest = experiment.manifest("inference")
    manifest.unlink(missing_ok=True)
    entries: list[dict[str, Any]] = []
    lacking: list[Path] = []
    boxes = experiment.subvolumes
    for number, box in enumerate(boxes):
        path = experiment.block(box)
        block = _finished(path, parameters)
        if block is None:
            lacking.append(path)
            experiment.shard(number % experiment.config.inference.shards).unlink(missing_ok=True)
            continue
        entries.append(
            {
                "box_xyz": box.corners,
                "file": str(path.relative_to(manifest.parent)),
                "segments": len(block["ids"]),
                "voxels_segmented": int(block["sizes"].sum()),
                "seconds": _seconds(path),
                **dict(zip(block["count_names"].tolist(), block["counts"].tolist(), strict=True)),
            }
        )
    if lacking:
        raise FloodlineError(
            f"of {len(boxes)} blocks {len(lacking)} are missing, damaged or made with other parameters; "
            f"the first of them is {lacking[0]}: the same snakemake command, or `floodline infer {experiment.folder}`, "
            "computes them again."
        )
    write_json(manifest, {"parameters": parameters, "blocks": entries})
