"""What image and labels share: blocks of whole chunks, as large as the memory allows, and checksums of the chunks.

What a task keeps of a block that it wrote has the checksums of its chunks: when an interrupted ingest goes on, blocks
whose chunks do not have them any more are written again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from floodline import steps
from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple, blocks, to_zyx, triple
from floodline.manifest import write_block
from floodline.steps import Arrays, Task
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

BASE_MB = 300
"""What a process needs before it has read a voxel: the interpreter and its libraries, megabytes."""

FEWEST_VOXELS, MOST_VOXELS = 2**22, 2**26
"""A block has as many voxels as this at most, even where the memory allows more: larger ones are no faster, and an
interruption costs more. Volumes are cut into eight blocks, for several workers, unless these fall below the fewest."""

DIGEST = 16
"""Bytes of a checksum."""


def whole_chunks(box: Box, chunk_xyz: Triple, megabytes: int, bytes_of: Callable[[Triple], float]) -> list[Box]:
    """Blocks of whole chunks that cover a box, x fastest; long in x first, then in y, as most files are.

    Args:
        box: where the layer lies.
        chunk_xyz: size of its chunks.
        megabytes: memory of one process.
        bytes_of: what the work on a block of a size (x, y, z) needs.

    Raises:
        FloodlineError: the memory does not hold the work on one chunk.
    """
    budget = (megabytes - BASE_MB) * 1e6
    most = min(MOST_VOXELS, max(FEWEST_VOXELS, box.voxels // 8))
    if bytes_of(chunk_xyz) > budget:
        needed = BASE_MB + int(bytes_of(chunk_xyz) / 1e6) + 1
        raise FloodlineError(f"a memory of {megabytes} MB is too little for one chunk: give --memory-mb {needed}.")
    size = list(chunk_xyz)
    for axis in range(3):
        while size[axis] < box.size_xyz[axis]:
            larger = triple(size[i] + (chunk_xyz[i] if i == axis else 0) for i in range(3))
            if bytes_of(larger) > budget or larger[0] * larger[1] * larger[2] > most:
                break
            size = list(larger)
    return blocks(box, size)


def checksums(array: np.ndarray, chunk_xyz: Triple) -> np.ndarray:
    """A checksum of each chunk: (chunks along z, y, x, DIGEST) uint8, BLAKE2b of the voxels in the order z, y, x."""
    chunks = blocks(Box.of_array(array.shape), chunk_xyz)
    digests = b"".join(
        hashlib.blake2b(np.ascontiguousarray(array[chunk.slices_zyx()]).data, digest_size=DIGEST).digest()
        for chunk in chunks
    )
    return np.frombuffer(digests, np.uint8).reshape(*_grid(array.shape, to_zyx(chunk_xyz)), DIGEST)


def _grid(shape: Sequence[int], chunk: Sequence[int]) -> Triple:
    """How many chunks there are along each axis."""
    return triple(-(-n // c) for n, c in zip(shape, chunk, strict=True))


class Writer(Protocol):
    """A worker that writes layers."""

    def layer_of(self, step: str) -> Layer:
        """The layer that a step writes."""


def do(worker: Writer, task: Task[Writer]) -> None:
    """Do a task, unless it is done and, if it wrote a block, the layer still holds it: the `work` of a pool's crew."""
    done = task.result()
    if done is not None and "checksums" in done:
        layer, box = worker.layer_of(task.path.parent.name), Box.of(done["box_xyz"].tolist())
        if not _holds(layer, box, done["checksums"]):
            logger.warning("%s of %s is damaged and is written again", box, layer.path)
            task.path.unlink()
    steps.do(worker, task)


def is_there(path: Path | str) -> bool:
    """Whether there is a layer, whole or not."""
    try:
        Layer.open(path)
    except FloodlineError:
        return False
    return True


def written(layer: Layer, box: Box, array: np.ndarray) -> Arrays:
    """Write a block to a layer, and say what `do` must know of it."""
    layer.write(box, array)
    return {"box_xyz": np.array(box.corners), "checksums": checksums(array, layer.chunk_size_xyz)}


def _holds(layer: Layer, box: Box, expected: np.ndarray) -> bool:
    try:
        return np.array_equal(checksums(layer.read(box), layer.chunk_size_xyz), expected)
    except FloodlineError:
        return False


class Checksums:
    """The checksums of a layer's chunks, gathered from those of its blocks."""

    def __init__(self, box: Box, chunk_xyz: Triple) -> None:
        self.box, self.chunk_xyz = box, chunk_xyz
        self.digests = np.zeros((*_grid(box.shape_zyx, to_zyx(chunk_xyz)), DIGEST), np.uint8)

    def add(self, block: Box, digests: np.ndarray) -> None:
        start_xyz = zip(block.start_xyz, self.box.start_xyz, self.chunk_xyz, strict=True)
        start_zyx = [(a - b) // c for a, b, c in start_xyz][::-1]
        self.digests[tuple(slice(s, s + n) for s, n in zip(start_zyx, digests.shape, strict=False))] = digests

    def write(self, folder: Path) -> str:
        """Write them beside the layer, and return the checksum of them all."""
        write_block(folder / "checksums.block", "", {"checksums": self.digests})
        return hashlib.blake2b(self.digests.data, digest_size=DIGEST).hexdigest()
