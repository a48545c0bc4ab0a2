"""Assemble the sub-volumes into one label space.

1. Every overlap of neighbours is compared (matching.py): which objects are one, by a symmetric rule.
2. Union-find over all joined pairs numbers the supervoxels (joining.py).
3. The volume is written box by box (writing.py), into `supervoxels/`, and beside it `flood_probability/`.
4. Two tables go with it: `pieces.parquet`, which object of which sub-volume is which supervoxel, and
   `overlaps.parquet`, where floods covered one another (evidence.py). The manifest comes last.

In memory are a few sub-volumes and tables of objects and of their contacts, never the volume.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from floodline import config as configuration
from floodline.assembly.evidence import flood_overlaps, neighbour_overlaps, of_supervoxels
from floodline.assembly.grid import Grid
from floodline.assembly.joining import Contacts, Joining, Pieces, join
from floodline.assembly.matching import Objects, match
from floodline.assembly.parts import Parts
from floodline.assembly.store import BlockStore
from floodline.assembly.writing import paint
from floodline.experiment import Experiment
from floodline.geometry import blocks, triple
from floodline.manifest import read_json, write_atomically, write_json
from floodline.progress import Meter
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

LAYERS: tuple[tuple[str, str, Literal["image", "segmentation"]], ...] = (
    ("supervoxels", "uint64", "segmentation"),
    ("flood_probability", "uint8", "image"),
)

WRITTEN_AT_ONCE = 256
"""About how many voxels a side are written at once."""


def run(experiment: Experiment) -> None:
    """Write `supervoxels/` and `flood_probability/` from the block store.

    Raises:
        FloodlineError: inference is incomplete, or its sub-volumes do not overlap.
    """
    experiment.manifest("supervoxels").unlink(missing_ok=True)
    store = BlockStore.open(experiment)
    grid = Grid(store.boxes)
    objects, pieces, contacts = compare(store, grid, experiment.config.assembly)
    joining = join(pieces, contacts, experiment.config.assembly.through_neighbour)
    logger.info("%d pieces make %d supervoxels", len(pieces.id), int(joining.supervoxel.max(initial=0)))
    written = _write_layers(experiment, store, grid, pieces, joining)
    _write_tables(experiment, store, grid, objects, pieces, contacts, joining)
    common = {
        "box_xyz": experiment.image_box.corners,
        "voxel_size_nm_xyz": read_json(experiment.manifest("image"))["voxel_size_nm_xyz"],
    }
    write_json(experiment.manifest("flood_probability"), {**common, "dtype": "uint8"})
    write_json(
        experiment.manifest("supervoxels"),
        {**common, "dtype": "uint64", **written, "assembly": {"subvolumes": len(grid.boxes), **joining.counts}},
    )


def compare(store: BlockStore, grid: Grid, rule: configuration.Assembly) -> tuple[list[Objects], Pieces, Contacts]:
    """The objects of every sub-volume, all of them as pieces, and what the overlaps say about them."""
    objects = [Objects.of(store.block(index)["segmentation"]) for index in range(len(grid.boxes))]
    pieces = Pieces.of(objects)
    matches = []
    with Meter("compare", len(grid.overlaps), "overlaps") as meter:
        for at in grid.overlaps:
            lower, upper = (store.segmentation(index, at.box) for index in (at.lower, at.upper))
            matches.append((at, match(lower, upper, objects[at.lower], objects[at.upper], rule)))
            meter.advance()
    return objects, pieces, Contacts.of(matches, pieces)


def _write_layers(
    experiment: Experiment, store: BlockStore, grid: Grid, pieces: Pieces, joining: Joining
) -> dict[str, int]:
    """Write both layers; what is said about them in the manifest."""
    image = read_json(experiment.manifest("image"))
    chunk_size_xyz = experiment.config.storage.chunk_size_xyz
    supervoxels, probability = (
        Layer.create(
            experiment.layer(name),
            box=experiment.image_box,
            dtype=dtype,
            voxel_size_nm_xyz=image["voxel_size_nm_xyz"],
            chunk_size_xyz=chunk_size_xyz,
            kind=kind,
        )
        for name, dtype, kind in LAYERS
    )
    parts, contradicted = Parts(), 0
    boxes = blocks(experiment.image_box, triple(max(WRITTEN_AT_ONCE // size, 1) * size for size in chunk_size_xyz))
    with Meter("assemble", len(boxes), "boxes") as meter:
        for box in boxes:
            painted = paint(box, grid, store, pieces, joining.supervoxel)
            supervoxels.write(box, painted.supervoxels)
            probability.write(box, painted.probability)
            parts.add(box, painted.supervoxels)
            contradicted += painted.contradicted
            meter.advance()
    return {**parts.counts(), "contradicted_voxels": contradicted}


def _write_tables(
    experiment: Experiment,
    store: BlockStore,
    grid: Grid,
    objects: list[Objects],
    pieces: Pieces,
    contacts: Contacts,
    joining: Joining,
) -> None:
    floods = (
        flood_overlaps(objects[index], store.block(index)["overlaps"], int(pieces.first[index]))
        for index in range(len(grid.boxes))
    )
    folder = experiment.layer("supervoxels")
    overlaps = of_supervoxels([*floods, neighbour_overlaps(contacts)], joining.supervoxel)
    _write_parquet(folder / "overlaps.parquet", overlaps)
    table = {
        "subvolume": pieces.subvolume,
        "id": pieces.id,
        "supervoxel": joining.supervoxel.astype(np.uint64),
        "voxels": pieces.voxels,
    }
    _write_parquet(folder / "pieces.parquet", pd.DataFrame(table))


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    write_atomically(path, lambda file: table.to_parquet(file, index=False))
