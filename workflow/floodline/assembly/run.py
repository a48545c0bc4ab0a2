"""Assemble the sub-volumes into one label space.

1. Every overlap of neighbours is compared (matching.py): which objects are one, by a symmetric rule.
2. Union-find over all joined pairs numbers the supervoxels (joining.py).
3. The volume is written box by box (writing.py), into `supervoxels/`, and beside it `flood_probability/` and
   `candidates/`.
4. Two tables go with it: `pieces.parquet`, which object of which sub-volume is which supervoxel, and
   `overlaps.parquet`, where floods covered one another (evidence.py). The manifest comes last.

1 and 3 are done by all ranks, sub-volume by sub-volume and box by box. In memory are a few sub-volumes and tables of
objects and of their contacts, never the volume.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from floodline import pool, steps
from floodline.assembly.evidence import flood_overlaps, neighbour_overlaps, of_supervoxels, pass_overlaps
from floodline.assembly.grid import Grid, Overlap
from floodline.assembly.joining import Contacts, Joining, Pieces, join
from floodline.assembly.matching import Match, Objects, match
from floodline.assembly.parts import BoxParts, Parts
from floodline.assembly.store import BlockStore
from floodline.assembly.writing import Names, names, paint
from floodline.experiment import Experiment
from floodline.geometry import Box, Triple, blocks, triple
from floodline.manifest import hash_of, hash_of_file, read_json, write_json
from floodline.segmentation.pairs import read_wishes
from floodline.steps import Arrays, Steps
from floodline.tables import write_table
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

LAYERS: tuple[tuple[str, str, Literal["image", "segmentation"]], ...] = (
    ("supervoxels", "uint64", "segmentation"),
    ("flood_probability", "uint8", "image"),
    ("candidates", "uint64", "segmentation"),
)

WRITTEN_AT_ONCE = 256
"""About how many voxels a side are written at once."""


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `supervoxels/`, `flood_probability/` and `candidates/` from the block store.

    Args:
        workers: processes that work side by side where there is no launcher.

    Raises:
        FloodlineError: inference is incomplete, or its sub-volumes do not overlap.
        OutOfTime: the scheduler is about to end the job; what is done is kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), steps.do), partial(_lead, experiment), workers)


class _Worker:
    """What a process keeps from one task to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)
        self.store = BlockStore.open(self.experiment)
        self.grid = Grid(self.store.boxes)

    @cached_property
    def layers(self) -> list[Layer]:
        return [Layer.open(self.experiment.layer(name)) for name, _, _ in LAYERS]


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    for name, _, _ in LAYERS:
        experiment.manifest(name).unlink(missing_ok=True)
    store = BlockStore.open(experiment)
    grid = Grid(store.boxes)
    with Steps(experiment.unfinished("assembly"), _parameters(experiment), hand_out) as todo:
        found = list(todo.do("objects", {box.name: partial(_find, index) for index, box in enumerate(grid.boxes)}))
        objects = [Objects(one["ids"], one["sizes"]) for one in found]
        matches = todo.do("overlaps", {f"{at.lower}-{at.upper}": _matching(at, objects) for at in grid.overlaps})
        pieces = Pieces.of(objects)
        contacts = Contacts.of([(at, _as_match(one)) for at, one in zip(grid.overlaps, matches, strict=True)], pieces)
        wanted = experiment.config.assembly
        at = partial(_piece_at, store, grid, pieces)
        wishes = read_wishes(wanted.pairs, experiment.image_box, at)
        joining = join(pieces, contacts, wanted.through_neighbour, wishes)
        logger.info("%d pieces make %d supervoxels", len(pieces.id), int(joining.supervoxel.max(initial=0)))
        written = _write_layers(experiment, grid, pieces, joining, todo)
        evidence = [neighbour_overlaps(contacts)]
        for own, one, first in zip(objects, found, pieces.first[:-1].tolist(), strict=True):
            evidence.append(flood_overlaps(own, one["overlaps"], first))
            evidence.append(pass_overlaps(own, one["held_together"], first))
        _write_tables(experiment, evidence, pieces, joining)
        common = {
            "box_xyz": experiment.image_box.corners,
            "voxel_size_nm_xyz": read_json(experiment.manifest("image"))["voxel_size_nm_xyz"],
        }
        for name, dtype, _ in LAYERS[1:]:
            write_json(experiment.manifest(name), {**common, "dtype": dtype})
        write_json(
            experiment.manifest("supervoxels"),
            {**common, "dtype": "uint64", **written, "assembly": {"subvolumes": len(grid.boxes), **joining.counts}},
        )


def _parameters(experiment: Experiment) -> str:
    """Hash of all that decides the result."""
    wanted = experiment.config.assembly
    return hash_of(
        {
            "inference": read_json(experiment.manifest("inference"))["parameters"],
            "assembly": wanted.model_dump(mode="json"),
            "pairs": hash_of_file(Path(wanted.pairs)) if wanted.pairs and Path(wanted.pairs).is_file() else None,
            "chunk_size_xyz": experiment.config.storage.chunk_size_xyz,
        }
    )


def _piece_at(store: BlockStore, grid: Grid, pieces: Pieces, place_xyz: Triple) -> int:
    """The piece that a voxel is written by; negative where there is none."""
    voxel = Box.sized(place_xyz, (1, 1, 1))
    found = [(int(grid.outside_core(index, voxel).item()), index) for index in grid.touching(voxel)]
    for _, index in sorted(found):
        if (one := store.segmentation(index, voxel).item()) > 0:
            return int(pieces.rows(index, np.array([one]))[0])
    return -1


def _find(index: int, worker: _Worker) -> Arrays:
    """The objects of a sub-volume, and what its floods say about pairs of them."""
    block = worker.store.block(index)
    objects = Objects.of(block["segmentation"])
    return {
        "ids": objects.ids,
        "sizes": objects.sizes,
        "overlaps": block["overlaps"],
        "held_together": block["held_together"],
    }


def _matching(at: Overlap, objects: list[Objects]) -> Callable[[_Worker], Arrays]:
    return partial(_match, at, objects[at.lower], objects[at.upper])


def _match(at: Overlap, lower: Objects, upper: Objects, worker: _Worker) -> Arrays:
    """What an overlap says about the objects on either side of it."""
    below, above = (worker.store.segmentation(index, at.box) for index in (at.lower, at.upper))
    found = match(below, above, lower, upper, worker.experiment.config.assembly)
    return {
        "pairs": found.pairs,
        "voxels": found.voxels,
        "sizes": found.sizes,
        "joined": found.joined,
        "firm": found.firm,
        "contested_lower": found.contested[0],
        "contested_upper": found.contested[1],
    }


def _as_match(found: Arrays) -> Match:
    """The same, read from its file."""
    contested = found["contested_lower"], found["contested_upper"]
    return Match(found["pairs"], found["voxels"], found["sizes"], found["joined"], found["firm"], contested)


def _paint(box: Box, names: Names, worker: _Worker) -> Arrays:
    """Write a box of all layers, and say what the manifest counts."""
    painted = paint(box, worker.grid, worker.store, names)
    arrays = (painted.supervoxels, painted.probability, painted.candidates)
    for layer, voxels in zip(worker.layers, arrays, strict=True):
        layer.write(box, voxels)
    return BoxParts.of(painted.supervoxels).arrays() | {"contradicted": np.array(painted.contradicted)}


def _write_layers(
    experiment: Experiment, grid: Grid, pieces: Pieces, joining: Joining, todo: Steps[_Worker]
) -> dict[str, int]:
    """Write the layers; what is said about them in the manifest."""
    chunk_size_xyz = experiment.config.storage.chunk_size_xyz
    if not todo.has_begun("paint"):
        for name, dtype, kind in LAYERS:
            Layer.create(
                experiment.layer(name),
                box=experiment.image_box,
                dtype=dtype,
                voxel_size_nm_xyz=read_json(experiment.manifest("image"))["voxel_size_nm_xyz"],
                chunk_size_xyz=chunk_size_xyz,
                kind=kind,
            )
    boxes = blocks(experiment.image_box, triple(max(WRITTEN_AT_ONCE // size, 1) * size for size in chunk_size_xyz))
    makes = {box.name: partial(_paint, box, names(box, grid, pieces, joining.supervoxel)) for box in boxes}
    parts, contradicted = Parts(), 0
    for box, painted in zip(boxes, todo.do("paint", makes), strict=True):
        contradicted += int(painted.pop("contradicted"))
        parts.add(box, BoxParts.from_arrays(painted))
    return {**parts.counts(), "contradicted_voxels": contradicted}


def _write_tables(experiment: Experiment, overlaps: Iterable[pd.DataFrame], pieces: Pieces, joining: Joining) -> None:
    folder = experiment.beside("supervoxels")
    write_table(folder / "overlaps.parquet", of_supervoxels(overlaps, joining.supervoxel))
    table = {
        "subvolume": pieces.subvolume,
        "id": pieces.id,
        "supervoxel": joining.supervoxel.astype(np.uint64),
        "voxels": pieces.voxels,
    }
    write_table(folder / "pieces.parquet", pd.DataFrame(table))
