"""One flood as pictures: how an object fills, for people to look at."""

from __future__ import annotations

import logging
from math import ceil

import numpy as np

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.canvas import Canvas, quantise
from floodline.ffn.flood import Floods, drive
from floodline.ffn.runtimes import network_of
from floodline.geometry import Box, Triple, triple
from floodline.inference.parameters import parameters_of
from floodline.inference.subvolume import Subvolume
from floodline.manifest import read_block, read_json, write_block

logger = logging.getLogger(__name__)

MOST_CALLS = 400
"""Of the network. A flood with more is not repeated: it would cost more than pictures are worth."""
FRAMES = 6


def run(experiment: Experiment) -> None:
    """Write `inference/example.block`: one object of the inference, flooded once more.

    It is the one with most calls of the network, up to MOST_CALLS, in the sub-volume nearest to the middle of the first
    scored box, or of the image. The objects that were accepted before it are in its way, as they were then. Where no
    object has so few calls, the block has no frames.

    The block: `frames` (n, rows, columns) uint8, quantised probabilities in one plane, 0 where nothing was predicted
    yet, the last frame the object that was kept; `calls` (n,), how many calls of the network each was taken after;
    `box_xyz` of the plane, one voxel thick; and `seed_xyz`, where the flood began.

    Raises:
        FloodlineError: the inference is not finished.
    """
    box = _nearest(experiment)
    path = experiment.block(box)
    block = read_block(path)
    if block is None:
        raise FloodlineError(f"{path} is missing: run `floodline infer` first.")
    few = np.flatnonzero(block["calls"] <= MOST_CALLS)
    made: dict[str, np.ndarray] = {
        "frames": np.zeros((0, 0, 0), np.uint8),
        "calls": np.zeros(0, np.int64),
        "box_xyz": np.zeros((2, 3), np.int64),
        "seed_xyz": np.zeros(3, np.int64),
    }
    if len(few):
        chosen = few[np.argmax(block["calls"][few])]
        identifier, *seed_zyx = block["origins"][chosen].tolist()
        before = np.where(block["segmentation"] < identifier, block["segmentation"], 0)
        own = block["segmentation"] == identifier
        made = _flood(experiment, box, triple(seed_zyx), before, own, int(block["calls"][chosen]))
    write_block(experiment.inference / "example.block", parameters_of(experiment), made)


def _nearest(experiment: Experiment) -> Box:
    """The sub-volume whose middle is nearest to that of the first scored box, or of the image."""
    boxes = experiment.config.evaluation.boxes
    around = Box.of(boxes[0].box_xyz).intersection(experiment.image_box) if boxes else experiment.image_box
    listed = read_json(experiment.manifest("inference"))["blocks"]

    def away(box: Box) -> float:
        return float(np.linalg.norm(np.sum(box.corners, axis=0) - np.sum(around.corners, axis=0)))

    return min((Box.of(entry["box_xyz"]) for entry in listed), key=away)


def _flood(
    experiment: Experiment, box: Box, seed_zyx: Triple, before: np.ndarray, own: np.ndarray, calls: int
) -> dict[str, np.ndarray]:
    """Flood from one seed and keep a plane of the canvas as it fills.

    Args:
        before: the objects that were there already, z, y, x.
        own: the voxels that the object had in the end: the plane is the one through the seed that shows most of them.
        calls: how many it had then.
    """
    config = experiment.config
    subvolume = Subvolume.read(experiment, box)
    canvas = Canvas(
        subvolume.image, subvolume.mean, subvolume.stddev, config.network.fov_xyz, config.inference.flood,
        subvolume.restriction,
    )  # fmt: skip
    canvas.keep(before)
    network = network_of(experiment)
    floods = Floods(canvas, config.inference.flood, config.network.deltas_xyz, [seed_zyx])

    axis = int(np.argmax([own.take(seed_zyx[axis], axis).sum() for axis in range(3)]))
    # More often at first: a flood grows with the cube of its reach.
    wanted = {ceil(calls * (i / (FRAMES - 1)) ** 2) for i in range(1, FRAMES - 1)} | {1}
    frames: list[np.ndarray] = []
    taken: list[int] = []

    def keep(plane: np.ndarray) -> None:
        frames.append(plane)
        taken.append(floods.counts["network_calls"])

    def look_and_predict(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        if floods.counts["network_calls"] in wanted:
            plane = canvas.seed.take(seed_zyx[axis], axis)
            keep(np.where(np.isnan(plane), 0, quantise(np.asarray(np.nan_to_num(plane)))).astype(np.uint8))
        return network(image, seed)

    drive([floods.flood_all()], look_and_predict)
    if floods.segments:
        object_ = canvas.segmentation == floods.segments[0].id
        keep(np.where(object_, canvas.qprob, 0).take(seed_zyx[axis], axis))
    logger.info("the example grew with %d calls of the network, %d frames", floods.counts["network_calls"], len(frames))
    start, stop = list(box.start_xyz), list(box.stop_xyz)
    across = 2 - axis
    start[across] += seed_zyx[axis]
    stop[across] = start[across] + 1
    return {
        "frames": np.array(frames, np.uint8).reshape(-1, *np.delete(box.shape_zyx, axis)),
        "calls": np.array(taken, np.int64),
        "box_xyz": np.array([start, stop], np.int64),
        "seed_xyz": np.array(seed_zyx[::-1], np.int64) + box.start_xyz,
    }
