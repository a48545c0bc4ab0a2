"""The neurons: the supervoxels under their neurons' numbers, and what these take of unsegmented space."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np

from floodline import pool, steps
from floodline.agglomeration.growth import grow, grow_along, halo_zyx, spacing_zyx
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks, to_xyz, triple
from floodline.manifest import hash_of, hash_of_file, read_json, write_json
from floodline.segmentation.relabel import apply_mapping
from floodline.steps import Arrays, Steps
from floodline.tables import read_table
from floodline.volumes.layer import Layer

WRITTEN_AT_ONCE = 256
"""About how many voxels a side are written at once. The result does not depend on it."""


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `neurons/`, the manifest last.

    Args:
        workers: processes that work side by side where there is no launcher.

    Raises:
        FloodlineError: assembly or the mapping is missing, or they do not belong together.
        OutOfTime: the scheduler is about to end the job; what is done is kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), steps.do), partial(_lead, experiment), workers)


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    experiment.manifest("neurons").unlink(missing_ok=True)
    box = Layer.open(experiment.layer("supervoxels")).box
    assembled = read_json(experiment.manifest("supervoxels"))
    neurons = read_table(_mapping(experiment))["neuron"]
    chunk_size_xyz = experiment.config.storage.chunk_size_xyz
    grow_by = experiment.config.agglomeration.grow.model_dump(mode="json")
    parameters = hash_of([assembled, hash_of_file(_mapping(experiment)), chunk_size_xyz, grow_by])
    with Steps[_Worker](experiment.unfinished("neurons"), parameters, hand_out) as todo:
        if not todo.has_begun("neurons"):
            Layer.create(
                experiment.layer("neurons"),
                box=box,
                dtype="uint64",
                voxel_size_nm_xyz=assembled["voxel_size_nm_xyz"],
                chunk_size_xyz=chunk_size_xyz,
                kind="segmentation",
            )
        boxes = blocks(box, triple(max(WRITTEN_AT_ONCE // size, 1) * size for size in chunk_size_xyz))
        todo.do("neurons", {one.name: partial(_relabel, one) for one in boxes})
        write_json(
            experiment.manifest("neurons"),
            {
                "box_xyz": box.corners,
                "voxel_size_nm_xyz": assembled["voxel_size_nm_xyz"],
                "dtype": "uint64",
                "neurons": int(neurons.max()) if len(neurons) else 0,
            },
        )


def _mapping(experiment: Experiment) -> Path:
    return experiment.agglomeration / "mapping.parquet"


class _Worker:
    """What a process keeps from one box to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)
        self.supervoxels = Layer.open(self.experiment.layer("supervoxels"))
        self.neurons = Layer.open(self.experiment.layer("neurons"))

    @cached_property
    def image(self) -> Layer:
        return Layer.open(self.experiment.layer("image"))

    @cached_property
    def candidates(self) -> Layer:
        return Layer.open(self.experiment.layer("candidates"))

    @cached_property
    def mapping(self) -> tuple[np.ndarray, np.ndarray]:
        """Supervoxels, and the neuron of each."""
        table = read_table(_mapping(self.experiment))
        return table["supervoxel"].to_numpy(), table["neuron"].to_numpy()


def _relabel(box: Box, worker: _Worker) -> Arrays:
    """Write a box of the neurons."""
    experiment, wanted = worker.experiment, worker.experiment.config.agglomeration.grow
    spacing = spacing_zyx(worker.supervoxels.voxel_size_nm_xyz)
    most_steps = int(wanted.voxels)
    halo_xyz = (most_steps,) * 3 if wanted.along == "image" else to_xyz(halo_zyx(wanted.voxels, spacing))
    outer = box.grown(halo_xyz).intersection(worker.supervoxels.box)
    labels = worker.supervoxels.read(outer)
    if wanted.candidates:
        labels = np.where(labels == 0, worker.candidates.read(outer), labels)
    missing = np.setdiff1d(labels, np.append(worker.mapping[0], np.uint64(0)))
    if len(missing):
        raise FloodlineError(
            f"{_mapping(experiment)} lacks the supervoxel {missing[0]}: run `floodline agglomerate` again, from its "
            "graph on."
        )
    labels = apply_mapping(labels, *worker.mapping)
    if wanted.along == "image":
        measured = read_json(experiment.manifest("image"))
        image = worker.image.read(outer)
        grown = grow_along(labels, image, measured["mean"], measured["stddev"], most_steps, spacing)
    else:
        grown = grow(labels, wanted.voxels, spacing).labels
    worker.neurons.write(box, np.ascontiguousarray(grown[box.slices_zyx(outer.start_xyz)]))
    return {}
