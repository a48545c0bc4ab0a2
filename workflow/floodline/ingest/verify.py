"""Does a layer still hold what ingest wrote?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from floodline import pool
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, Triple, blocks, to_zyx
from floodline.ingest.blocks import checksums, whole_chunks
from floodline.manifest import read_block
from floodline.progress import Meter
from floodline.volumes.layer import Layer


def run(experiment: Experiment, name: str, workers: int = 1, memory_mb: int = 1000) -> str:
    """Read a layer and compare the checksum of every chunk with the one that was kept when it was written.

    Returns:
        a sentence.

    Raises:
        FloodlineError: chunks are missing or changed, or the checksums are; the first such chunk is named.
    """
    layer = Layer.open(experiment.layer(name))
    if read_block(experiment.beside(name) / "checksums.block") is None:
        raise FloodlineError(f"{experiment.beside(name)} has no checksums.block: ingest it again.")
    boxes = whole_chunks(layer.box, layer.chunk_size_xyz, memory_mb, partial(_bytes_of, layer))
    damaged: list[Box] = []

    def lead(hand_out: pool.HandOut[Box, list[Box]]) -> None:
        with Meter(f"verify {name}", len(boxes), "blocks") as meter:
            for found in hand_out(boxes):
                damaged.extend(found)
                meter.advance()

    pool.run(pool.Crew(partial(_Worker, experiment.folder, name), _damaged), lead, max(1, min(workers, len(boxes))))
    if damaged:
        raise FloodlineError(
            f"the layer {layer.path} does not hold what was written at {min(damaged)} ({len(damaged)} of its chunks): "
            "ingest it again."
        )
    return f"{layer.path} holds what was written, {layer.box.voxels} voxels."


def _bytes_of(layer: Layer, size_xyz: Triple) -> float:
    x, y, z = size_xyz
    return 4 * x * y * z * layer.dtype.itemsize


class _Worker:
    """A layer and its checksums."""

    def __init__(self, folder: Path, name: str) -> None:
        experiment = Experiment(folder)
        self.layer = Layer.open(experiment.layer(name))
        stored = read_block(experiment.beside(name) / "checksums.block")
        assert stored is not None
        self.checksums = stored["checksums"]


def _damaged(worker: _Worker, box: Box) -> list[Box]:
    """The chunks of a block that are not what was written."""
    layer = worker.layer
    found = []
    for chunk in blocks(box, layer.chunk_size_xyz):
        place = [
            (a - b) // c for a, b, c in zip(chunk.start_xyz, layer.box.start_xyz, layer.chunk_size_xyz, strict=True)
        ]
        try:
            own = checksums(layer.read(chunk), layer.chunk_size_xyz)
        except FloodlineError:
            found.append(chunk)
            continue
        if not np.array_equal(own.ravel(), worker.checksums[to_zyx(place)]):
            found.append(chunk)
    return found
