"""Writing the supervoxels.

Each voxel is written by the sub-volume in whose core it lies (every overlap cut in the middle), because a flood knows
most about what lies deep inside its sub-volume. Where that one left the voxel unsegmented, the sub-volume writes it
that did segment it and whose core is nearest (city-block distance; of equals the first in the grid's order): an object
too small or too faint in one sub-volume may be whole in the next. The candidate of a voxel that none segmented comes
from the sub-volume that has one and whose core is nearest.

Where two sub-volumes gave a voxel to different supervoxels, the border between those two follows the cores' faces
there, and may cut off parts. Both are counted: the voxels, and the supervoxels that are not connected (parts.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from floodline.assembly.grid import Grid
from floodline.assembly.joining import Pieces
from floodline.assembly.store import BlockStore
from floodline.geometry import Box
from floodline.segmentation.relabel import apply_mapping


@dataclass(frozen=True)
class Painted:
    """A box of the assembled volume; arrays are z, y, x."""

    supervoxels: np.ndarray
    """uint64; 0 is unsegmented."""
    probability: np.ndarray
    """uint8: the flood's quantised probability, from the sub-volume that wrote the voxel; 0 is unsegmented."""
    candidates: np.ndarray
    """uint64: of a voxel without a supervoxel, the one that nearly holds it; 0 is none."""
    contradicted: int
    """Voxels that two sub-volumes gave to different supervoxels."""


Names = Mapping[int, tuple[np.ndarray, np.ndarray]]
"""For each sub-volume, by its index: the ids of its objects, rising, and the supervoxel of each."""


def names(box: Box, grid: Grid, pieces: Pieces, supervoxel: np.ndarray) -> Names:
    """What `paint` needs to know for a box.

    Args:
        supervoxel: for each piece the supervoxel that it belongs to.
    """
    rows = {index: slice(*pieces.first[index : index + 2]) for index in grid.touching(box)}
    return {index: (pieces.id[row], supervoxel[row]) for index, row in rows.items()}


def paint(box: Box, grid: Grid, store: BlockStore, names: Names) -> Painted:
    """The supervoxels of a box.

    Args:
        names: of the sub-volumes that touch the box.
    """
    supervoxels, candidates = np.zeros(box.shape_zyx, np.uint64), np.zeros(box.shape_zyx, np.uint64)
    probability = np.zeros(box.shape_zyx, np.uint8)
    distance = np.full(box.shape_zyx, np.iinfo(np.int32).max, np.int32)
    candidate_distance = distance.copy()
    contradicted = np.zeros(box.shape_zyx, bool)
    for index, (ids, supervoxel) in names.items():
        part = box.intersection(grid.boxes[index])
        here = part.slices_zyx(box.start_xyz)
        labels = apply_mapping(store.segmentation(index, part), ids, supervoxel)
        there = supervoxels[here]
        contradicted[here] |= (labels > 0) & (there > 0) & (labels != there)
        outside = grid.outside_core(index, part)
        nearer = (labels > 0) & (outside < distance[here])
        supervoxels[here][nearer] = labels[nearer]
        probability[here][nearer] = store.qprob(index, part)[nearer]
        distance[here][nearer] = outside[nearer]
        weaker = apply_mapping(store.candidates(index, part), ids, supervoxel)
        nearer = (weaker > 0) & (outside < candidate_distance[here])
        candidates[here][nearer] = weaker[nearer]
        candidate_distance[here][nearer] = outside[nearer]
    candidates[supervoxels > 0] = 0
    return Painted(supervoxels, probability, candidates, int(contradicted.sum()))
