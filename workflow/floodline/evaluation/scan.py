"""One pass over truth and segmentation, block by block: everything that the scores need, and nothing else is kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from floodline.errors import FloodlineError
from floodline.evaluation.skeletons import Read, Skeletons
from floodline.geometry import Box, blocks
from floodline.progress import Meter
from floodline.segmentation.contingency import Table, add, tabulate

BLOCK_XYZ = (128, 128, 128)
"""Voxels that are read at once."""

TILE_XYZ = (64, 64, 64)
"""Voxels of one contingency table: the unit that the bootstrap draws."""


@dataclass(frozen=True)
class Scan:
    """What was found in a box."""

    tiles: list[Box]
    tables: list[Table]
    """The contingency table of each tile, truth first."""
    node_segments: np.ndarray
    """(n,) uint64: the segment at each node of the truth's skeletons."""

    @cached_property
    def table(self) -> Table:
        return add(self.tables)


def scan(truth: Read, segmentation: Read, box: Box, skeletons: Skeletons, what: str) -> Scan:
    """Compare a segmentation with the truth in a box.

    Args:
        truth, segmentation: read labels (z, y, x) of a box.
        box: what is compared.
        skeletons: those of the truth, cut to the box.
        what: what the progress is called.

    Raises:
        FloodlineError: no voxel of the box is labelled.
    """
    tiles, tables = [], []
    node_segments = np.zeros(len(skeletons.nodes_xyz), np.uint64)
    todo = blocks(box, BLOCK_XYZ)
    with Meter(what, len(todo), "blocks") as meter:
        for block in todo:
            a, b = truth(block), segmentation(block)
            for tile in blocks(block, TILE_XYZ):
                place = tile.slices_zyx(block.start_xyz)
                tiles.append(tile)
                tables.append(tabulate(a[place], b[place]))
            inside = skeletons.nodes_in(block)
            x, y, z = (skeletons.nodes_xyz[inside] - np.array(block.start_xyz)).T
            node_segments[inside] = b[z, y, x]
            meter.advance()
    if not any(table.a.any() for table in tables):
        raise FloodlineError(f"the labels are 0 everywhere in {box}: nothing can be scored there (evaluation.boxes).")
    return Scan(tiles, tables, node_segments)
