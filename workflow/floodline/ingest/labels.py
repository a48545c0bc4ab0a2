"""The labels: source, place in the image, bodies of supervoxels, layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import blocks, triple
from floodline.ingest.image import cropped_box
from floodline.manifest import write_json
from floodline.progress import Meter
from floodline.volumes.agreement import check_labels_voxel_size, placed_box, voxel_size
from floodline.volumes.hdf5 import hdf5_dataset
from floodline.volumes.layer import Layer
from floodline.volumes.sources import open_source


def run(experiment: Experiment) -> None:
    """Write the layer `labels/` (uint64, 0 = not labelled) and its manifest.

    The layer covers the labelled part of the image as it is cropped. The volume passes in slabs one chunk thick.

    Raises:
        FloodlineError: there are none, they are missing, damaged, or no labels, they do not have the shape of what
            they cover, or a supervoxel has no body.
    """
    experiment.manifest("labels").unlink(missing_ok=True)
    wanted, image, storage = experiment.config.labels, experiment.config.image, experiment.config.storage
    if wanted is None:
        raise FloodlineError("the configuration has no labels: add the key 'labels' to ingest some.")
    if config.PhantomSource in (type(wanted.source), type(image.source)) and wanted.source != image.source:
        raise FloodlineError("labels.source and image.source must be equal where one is a phantom.")
    volume = open_source(wanted.source, experiment.config.seed, "labels")
    if volume.dtype.kind not in "iub":
        raise FloodlineError(f"the labels source holds {volume.dtype}: labels are whole numbers.")
    image_volume = open_source(image.source, experiment.config.seed)
    voxel_size_nm_xyz = voxel_size(image, image_volume)
    check_labels_voxel_size(volume, voxel_size_nm_xyz)
    place = placed_box(wanted, volume, image_volume)
    box = place.intersection(cropped_box(image, image_volume))
    if box.is_empty:
        raise FloodlineError(f"the labels cover {place}, and nothing of image.crop_xyz.")
    bodies = read_body_table(wanted.body_table) if wanted.body_table else None

    layer = Layer.create(
        experiment.layer("labels"),
        box=box,
        dtype="uint64",
        voxel_size_nm_xyz=voxel_size_nm_xyz,
        chunk_size_xyz=storage.chunk_size_xyz,
        kind="segmentation",
    )
    offset_xyz = triple(a - b for a, b in zip(volume.box.start_xyz, place.start_xyz, strict=True))
    objects: set[int] = set()
    labelled_voxels = 0
    slabs = blocks(box, (*box.size_xyz[:2], storage.chunk_size_xyz[2]))
    with Meter("ingest labels", len(slabs), "slabs") as meter:
        for slab in slabs:
            array = as_labels(volume.read(slab.shifted(offset_xyz)))
            if bodies is not None:
                array = as_bodies(array, bodies)
            layer.write(slab, array)
            objects.update(np.unique(array).tolist())
            labelled_voxels += int(np.count_nonzero(array))
            meter.advance()
    write_json(
        experiment.manifest("labels"),
        {
            "box_xyz": box.corners,
            "voxel_size_nm_xyz": list(voxel_size_nm_xyz),
            "dtype": "uint64",
            "objects": len(objects - {0}),
            "labelled_voxels": labelled_voxels,
        },
    )


def as_labels(array: np.ndarray) -> np.ndarray:
    """The same labels as uint64.

    Raises:
        FloodlineError: one is negative.
    """
    if array.dtype.kind == "i" and array.min() < 0:
        raise FloodlineError(f"the labels hold the negative number {array.min()}: 0 means not labelled.")
    return array.astype(np.uint64)


def read_body_table(wanted: config.BodyTable) -> dict[int, int]:
    """Supervoxel -> body; the supervoxel 0 is the body 0 unless the table says otherwise.

    Raises:
        FloodlineError: it is missing, not a table, or gives a supervoxel two bodies.
    """
    name = f"dataset '{wanted.dataset}' of {wanted.path}"
    dataset = hdf5_dataset(Path(wanted.path), wanted.dataset)
    if len(dataset.shape) != 2 or dataset.shape[1] != 2 or dataset.dtype.kind not in "iu":
        raise FloodlineError(f"{name} is no body table: two columns of whole numbers (supervoxel, body) are needed.")
    rows = np.unique(as_labels(dataset[()]), axis=0)
    supervoxels, counts = np.unique(rows[:, 0], return_counts=True)
    if counts.max(initial=1) > 1:
        raise FloodlineError(f"{name} gives the supervoxel {supervoxels[counts > 1][0]} more than one body.")
    return {0: 0} | dict(rows.tolist())


def as_bodies(supervoxels: np.ndarray, bodies: dict[int, int]) -> np.ndarray:
    """Every supervoxel replaced by its body.

    Raises:
        FloodlineError: a supervoxel is not in the table. It would otherwise vanish, or pass for a neuron: either way
            the table does not belong to these labels.
    """
    import fastremap

    missing = [label for label in fastremap.unique(supervoxels).tolist() if label not in bodies]
    if missing:
        raise FloodlineError(
            f"the supervoxel {missing[0]} ({len(missing)} in all) has no row in the table of labels.body_table."
        )
    return fastremap.remap(supervoxels, bodies, preserve_missing_labels=False)
