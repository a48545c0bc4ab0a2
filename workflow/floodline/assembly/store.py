"""Reading the block store of inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Self

import numpy as np

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import DamagedBlock, read_block, read_json

BLOCKS_IN_MEMORY = 8
"""A voxel of a grid lies in so many sub-volumes, unless overlaps exceed half of a sub-volume."""

Block = dict[str, np.ndarray]


class BlockStore:
    """Flooded sub-volumes; the last few that were read stay in memory.

    Args:
        boxes: the sub-volumes.
        read: gives the arrays of a sub-volume, by its index; at least `segmentation`, `qprob`, `candidate_voxels`,
            `candidate_ids`, `overlaps` and `held_together`.
    """

    def __init__(self, boxes: Sequence[Box], read: Callable[[int], Block]) -> None:
        self.boxes = list(boxes)
        self.block = lru_cache(BLOCKS_IN_MEMORY)(read)

    @classmethod
    def open(cls, experiment: Experiment) -> Self:
        """The block store of an experiment, in the order of its manifest.

        Raises:
            FloodlineError: inference is not complete, or was made for other sub-volumes than the configuration asks
                for. Reading a block raises it when the block is missing, damaged, or of another run or shape.
        """
        path = experiment.manifest("inference")
        manifest = read_json(path)
        boxes = [Box.of(entry["box_xyz"]) for entry in manifest["blocks"]]
        if boxes != experiment.subvolumes:
            raise FloodlineError(f"{path} lists other sub-volumes than the configuration: run `floodline infer` again.")
        return cls(boxes, lambda index: _read(experiment, boxes[index], manifest["parameters"]))

    def segmentation(self, index: int, box: Box) -> np.ndarray:
        """Object ids of a sub-volume inside a box that it holds, int32 z, y, x; 0 is none."""
        return self.block(index)["segmentation"][box.slices_zyx(self.boxes[index].start_xyz)]

    def qprob(self, index: int, box: Box) -> np.ndarray:
        """Quantised flood probability inside a box that the sub-volume holds, uint8 z, y, x; 0 is never visited."""
        return self.block(index)["qprob"][box.slices_zyx(self.boxes[index].start_xyz)]

    def candidates(self, index: int, box: Box) -> np.ndarray:
        """Objects that nearly hold a free voxel, inside a box that the sub-volume holds, int32 z, y, x; 0 is none."""
        block, whole = self.block(index), self.boxes[index]
        places = np.stack(np.unravel_index(block["candidate_voxels"], whole.shape_zyx), axis=1)
        inner = box.slices_zyx(whole.start_xyz)
        places -= [part.start for part in inner]
        inside = ((places >= 0) & (places < box.shape_zyx)).all(axis=1)
        found = np.zeros(box.shape_zyx, np.int32)
        found[tuple(places[inside].T)] = block["candidate_ids"][inside]
        return found


def _read(experiment: Experiment, box: Box, parameters: str) -> Block:
    path = experiment.block(box)
    try:
        block = read_block(path, parameters)
    except DamagedBlock:
        block = None
    if block is None:
        raise FloodlineError(
            f"{path} is missing, damaged or made with other parameters than its manifest says: "
            f"`floodline infer {experiment.folder}` computes it again."
        )
    for name in ("segmentation", "qprob"):
        if block[name].shape != box.shape_zyx:
            raise FloodlineError(
                f"'{name}' in {path} has the shape {block[name].shape} (z, y, x) where {box.shape_zyx} is right: "
                "delete the file and run `floodline infer` again."
            )
    return block
