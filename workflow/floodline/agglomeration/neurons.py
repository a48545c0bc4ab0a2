"""The neurons: the supervoxels under their neurons' numbers, and what these take of unsegmented space."""

from __future__ import annotations

import logging

import numpy as np

from floodline.agglomeration.growth import grow, halo_zyx, spacing_zyx
from floodline.agglomeration.tables import read_table
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import blocks, to_xyz, triple
from floodline.manifest import read_json, write_json
from floodline.progress import Meter
from floodline.segmentation.relabel import apply_mapping
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

WRITTEN_AT_ONCE = 256
"""About how many voxels a side are written at once. The result does not depend on it."""


def run(experiment: Experiment) -> None:
    """Write `neurons/`, the manifest last.

    Raises:
        FloodlineError: assembly or the mapping is missing, or they do not belong together.
    """
    experiment.manifest("neurons").unlink(missing_ok=True)
    supervoxels = Layer.open(experiment.layer("supervoxels"))
    voxel_size_nm_xyz = read_json(experiment.manifest("supervoxels"))["voxel_size_nm_xyz"]
    path = experiment.agglomeration / "mapping.parquet"
    mapping = read_table(path)
    keys, values = mapping["supervoxel"].to_numpy(), mapping["neuron"].to_numpy()
    chunk_size_xyz = experiment.config.storage.chunk_size_xyz
    neurons = Layer.create(
        experiment.layer("neurons"),
        box=supervoxels.box,
        dtype="uint64",
        voxel_size_nm_xyz=voxel_size_nm_xyz,
        chunk_size_xyz=chunk_size_xyz,
        kind="segmentation",
    )
    reach, spacing = experiment.config.agglomeration.grow.voxels, spacing_zyx(voxel_size_nm_xyz)
    boxes = blocks(supervoxels.box, triple(max(WRITTEN_AT_ONCE // size, 1) * size for size in chunk_size_xyz))
    with Meter("neurons", len(boxes), "boxes") as meter:
        for box in boxes:
            outer = box.grown(to_xyz(halo_zyx(reach, spacing))).intersection(supervoxels.box)
            labels = supervoxels.read(outer)
            missing = np.setdiff1d(labels, np.append(keys, np.uint64(0)))
            if len(missing):
                raise FloodlineError(
                    f"{path} lacks the supervoxel {missing[0]}: run `floodline agglomerate` again, from its graph on."
                )
            grown = grow(apply_mapping(labels, keys, values), reach, spacing)
            neurons.write(box, np.ascontiguousarray(grown.labels[box.slices_zyx(outer.start_xyz)]))
            meter.advance()
    write_json(
        experiment.manifest("neurons"),
        {
            "box_xyz": supervoxels.box.corners,
            "voxel_size_nm_xyz": voxel_size_nm_xyz,
            "dtype": "uint64",
            "neurons": int(values.max(initial=0)),
        },
    )
