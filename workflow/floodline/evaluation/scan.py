"""One pass over truth and segmentation, block by block: everything that the scores need, and nothing else is kept.

The blocks are the ranks' tasks; the sum of their contingency tables is that of the volume, which no rank ever holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from floodline.errors import FloodlineError
from floodline.evaluation.skeletons import Read, Skeletons
from floodline.geometry import Box, blocks
from floodline.segmentation.contingency import Table, add, tabulate
from floodline.steps import Arrays

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


def scan_block(truth: Read, segmentation: Read, block: Box, skeletons: Skeletons) -> Arrays:
    """Compare a segmentation with the truth in one block: the contingency tables of its tiles, and its nodes' segments.

    Args:
        truth, segmentation: read labels (z, y, x) of a box.
        block: what is compared.
        skeletons: those of the truth.

    Returns:
        `rows`, of each tile's table, and `a`, `b`, `count` of all of them, one after the other; `node_segments`, in
        the order of `skeletons.nodes_in(block)`.
    """
    a, b = truth(block), segmentation(block)
    places = [tile.slices_zyx(block.start_xyz) for tile in blocks(block, TILE_XYZ)]
    tables = [tabulate(a[place], b[place]) for place in places]
    x, y, z = (skeletons.nodes_xyz[skeletons.nodes_in(block)] - np.array(block.start_xyz)).T
    return {
        "rows": np.array([len(table.count) for table in tables]),
        **{name: np.concatenate([getattr(table, name) for table in tables]) for name in ("a", "b", "count")},
        "node_segments": b[z, y, x].astype(np.uint64),
    }


def gather(box: Box, skeletons: Skeletons, found: Iterable[Arrays]) -> Scan:
    """A scan from those of its blocks.

    Args:
        box: what was compared.
        skeletons: those of the truth, cut to the box.
        found: what `scan_block` found in each of `blocks(box, BLOCK_XYZ)`, in their order.

    Raises:
        FloodlineError: no voxel of the box is labelled.
    """
    tiles, tables = [], []
    node_segments = np.zeros(len(skeletons.nodes_xyz), np.uint64)
    for block, one in zip(blocks(box, BLOCK_XYZ), found, strict=True):
        tiles += blocks(block, TILE_XYZ)
        stops = np.cumsum(one["rows"])
        for start, stop in zip(stops - one["rows"], stops, strict=True):
            tables.append(Table(one["a"][start:stop], one["b"][start:stop], one["count"][start:stop]))
        node_segments[skeletons.nodes_in(block)] = one["node_segments"]
    if not any(table.a.any() for table in tables):
        raise FloodlineError(f"the labels are 0 everywhere in {box}: nothing can be scored there (evaluation.boxes).")
    return Scan(tiles, tables, node_segments)
