"""The labels: source, place in the image, bodies of supervoxels, cleaning, layer.

1. Where cleaning needs to know whole objects, the connected pieces of every block are described first; one process then
   decides what becomes of each piece. It holds the list of pieces, never the labels.
2. Every block is read, changed and written, on all workers. Erosion looks beyond a block, so cleaned labels that are to
   be eroded are written to a layer of their own before, which is deleted at the end.
3. The manifest is written last, with the counts of all that was changed.
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np

from floodline import config, pool
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, Triple, to_zyx, triple
from floodline.ingest import cleaning, pieces
from floodline.ingest.blocks import Checksums, do, is_there, whole_chunks, written
from floodline.ingest.image import cropped_box
from floodline.manifest import hash_of, read_block, write_block, write_json
from floodline.steps import Arrays, Steps
from floodline.volumes.agreement import check_labels_voxel_size, placed_box, voxel_size
from floodline.volumes.arrays import as_labels, or_sentence
from floodline.volumes.boxes import open_labels
from floodline.volumes.fingerprint import fingerprint
from floodline.volumes.hdf5 import hdf5_dataset
from floodline.volumes.layer import Layer
from floodline.volumes.sources import open_source


def run(experiment: Experiment, workers: int = 1, memory_mb: int = 1000) -> None:
    """Write the layer `labels/` (uint64, 0 = not labelled) and its manifest.

    The layer covers the labelled part of the image as it is cropped.

    Args:
        workers: processes that work side by side where there is no launcher.
        memory_mb: memory of each of them; the blocks are as small as that needs.

    Raises:
        FloodlineError: there are none, they are missing, damaged, or no labels, they do not have the shape of what
            they cover, or a supervoxel has no body.
        OutOfTime: the scheduler is about to end the job; finished blocks are kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), do), partial(_lead, experiment, memory_mb), workers)


class _Labels:
    """The source, opened, and where it lies in the image."""

    def __init__(self, experiment: Experiment) -> None:
        wanted, image = experiment.config.labels, experiment.config.image
        if wanted is None:
            raise FloodlineError("the configuration has no labels: add the key 'labels' to ingest some.")
        if config.PhantomSource in (type(wanted.source), type(image.source)) and wanted.source != image.source:
            raise FloodlineError("labels.source and image.source must be equal where one is a phantom.")
        self.wanted = wanted
        self.volume = open_labels(wanted.source, experiment.config.seed)
        if self.volume.dtype.kind not in "iub":
            raise FloodlineError(f"the labels source holds {self.volume.dtype}: labels are whole numbers.")
        image_volume = open_source(image.source, experiment.config.seed)
        self.voxel_size_nm_xyz = voxel_size(image, image_volume)
        check_labels_voxel_size(self.volume, self.voxel_size_nm_xyz)
        place = placed_box(wanted, self.volume, image_volume)
        self.box = place.intersection(cropped_box(image, image_volume))
        if self.box.is_empty:
            raise FloodlineError(f"the labels cover {place}, and nothing of image.crop_xyz.")
        self.boxes = [one for box in self._boxes() if not (one := box.intersection(self.box)).is_empty]
        self.offset_xyz = triple(a - b for a, b in zip(self.volume.box.start_xyz, place.start_xyz, strict=True))
        self.bodies = read_body_table(wanted.body_table) if wanted.body_table else None
        self.chunk_size_xyz = experiment.config.storage.chunk_size_xyz
        self.erodes = any(wanted.clean.erode_xyz)

    def _boxes(self) -> list[Box]:
        source = self.wanted.source
        return [Box.of(one.box_xyz) for one in source.boxes] if isinstance(source, config.BoxesSource) else [self.box]

    def read(self, box: Box) -> np.ndarray:
        """Labels of a box of the image: bodies, uint64, z, y, x."""
        array = as_labels(self.volume.read(box.shifted(self.offset_xyz)))
        return array if self.bodies is None else as_bodies(array, self.bodies)

    def around(self, box: Box) -> Box:
        """What erosion must see of a block."""
        return box.grown(self.wanted.clean.erode_xyz).intersection(self.box)

    def bytes_of(self, size_xyz: Triple) -> float:
        """Memory that the work on a block of this size needs; numbering pieces takes most."""
        margin_xyz = [2 * radius + 1 for radius in self.wanted.clean.erode_xyz]
        x, y, z = (size + margin for size, margin in zip(size_xyz, margin_xyz, strict=True))
        return x * y * z * (100 if cleaning.needs_pieces(self.wanted.clean) else 60)

    def create(self, path: Path | str) -> Layer:
        return Layer.create(
            path,
            box=self.box,
            dtype="uint64",
            voxel_size_nm_xyz=self.voxel_size_nm_xyz,
            chunk_size_xyz=self.chunk_size_xyz,
            kind="segmentation",
        )


# --- one process leads -----------------------------------------------------------------------------------------------


def _lead(experiment: Experiment, memory_mb: int, hand_out: pool.HandOut) -> None:
    experiment.manifest("labels").unlink(missing_ok=True)
    labels = _Labels(experiment)
    clean = labels.wanted.clean
    boxes = whole_chunks(labels.box, labels.chunk_size_xyz, memory_mb, labels.bytes_of)
    with Steps[_Worker](experiment.unfinished("labels"), _parameters(experiment), hand_out) as todo:
        if not (todo.has_begun("write") and is_there(experiment.layer("labels"))):
            labels.create(experiment.layer("labels"))
        counts = _decided(experiment, labels, boxes, todo) if cleaning.needs_pieces(clean) else {}
        before, after = _Totals(), _Totals()
        digests = Checksums(labels.box, labels.chunk_size_xyz)
        if labels.erodes:
            counts["eroded"] = {"voxels": 0}
        results = todo.do("write", {box.name: partial(_write, box) for box in boxes})
        for box, result in zip(boxes, results, strict=True):
            before.add(result["ids_before"], int(result["labelled_voxels_before"]))
            after.add(result["ids"], int(result["labelled_voxels"]))
            digests.add(box, result["checksums"])
            if labels.erodes:
                counts["eroded"]["voxels"] += int(result["eroded_voxels"])
        changed = clean != config.Cleaning()
        write_json(
            experiment.manifest("labels"),
            {
                "box_xyz": labels.box.corners,
                "boxes_xyz": [box.corners for box in labels.boxes],
                "voxel_size_nm_xyz": list(labels.voxel_size_nm_xyz),
                "dtype": "uint64",
                "objects": len(after.objects),
                "labelled_voxels": after.voxels,
                "cleaning": cleaning.summary(counts, before.both, after.both) if changed else None,
                "checksum": digests.write(experiment.beside("labels")),
            },
        )


def _decided(experiment: Experiment, labels: _Labels, boxes: list[Box], todo: Steps[_Worker]) -> cleaning.Counts:
    """Decide what becomes of each piece and leave it for the workers; where they erode, leave them cleaned labels."""
    found = pieces.join(boxes, todo.do("pieces", {box.name: partial(_describe, box) for box in boxes}))
    label_of, counts = cleaning.decide(found, labels.wanted.clean)
    for box, own in zip(boxes, found.of_blocks, strict=True):
        write_block(_labels_of_pieces(experiment, box), "", {"label_of": label_of[own]})
    if labels.erodes:
        if not (todo.has_begun("clean") and is_there(_cleaned(experiment))):
            labels.create(_cleaned(experiment))
        todo.do("clean", {box.name: partial(_clean, box) for box in boxes})
    return counts


def _labels_of_pieces(experiment: Experiment, box: Box) -> Path:
    """Where the decision about the pieces of a block lies."""
    return experiment.unfinished("labels") / "decided" / box.name


def _cleaned(experiment: Experiment) -> Path:
    """Where labels lie that are cleaned but not yet eroded."""
    return experiment.unfinished("labels") / "cleaned"


class _Totals:
    """Objects and labelled voxels, from those of blocks."""

    def __init__(self) -> None:
        self.objects: set[int] = set()
        self.voxels = 0

    def add(self, ids: np.ndarray, voxels: int) -> None:
        self.objects.update(ids[ids > 0].tolist())
        self.voxels += voxels

    @property
    def both(self) -> tuple[int, int]:
        return len(self.objects), self.voxels


def _parameters(experiment: Experiment) -> str:
    """Hash of all that decides the layer's content."""
    wanted, image = experiment.config.labels, experiment.config.image
    assert wanted is not None
    table = wanted.body_table
    return hash_of(
        {
            "labels": wanted.model_dump(mode="json"),
            "crop_xyz": image.crop_xyz,
            "seed": experiment.config.seed,
            "chunk_size_xyz": experiment.config.storage.chunk_size_xyz,
            "source": fingerprint(wanted.source),
            "body_table": fingerprint(config.Hdf5Source(kind="hdf5", path=table.path, dataset="")) if table else None,
        }
    )


# --- all processes work ----------------------------------------------------------------------------------------------


class _Worker:
    """What a process keeps from one block to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)

    @cached_property
    def labels(self) -> _Labels:
        """Opened with the first block that is not done yet."""
        return _Labels(self.experiment)

    @cached_property
    def layer(self) -> Layer:
        return Layer.open(self.experiment.layer("labels"))

    @cached_property
    def cleaned(self) -> Layer:
        return Layer.open(_cleaned(self.experiment))

    def layer_of(self, step: str) -> Layer:
        return self.cleaned if step == "clean" else self.layer


def _describe(box: Box, worker: _Worker) -> Arrays:
    """The pieces of a block."""
    labels = worker.labels
    array = labels.read(pieces.grown(box, labels.box))
    return pieces.describe(array, box, labels.box, labels.wanted.clean.fill_holes)


def _clean(box: Box, worker: _Worker) -> Arrays:
    """Write the cleaned labels of a block to the layer from which they will be eroded."""
    return written(worker.cleaned, box, _cleaned_block(worker, box))


def _cleaned_block(worker: _Worker, box: Box) -> np.ndarray:
    """The labels of a block with what was decided about its pieces."""
    labels = worker.labels
    # Numbered as they were when they were described, from the same voxels.
    numbers, _ = pieces.numbered(labels.read(pieces.grown(box, labels.box)))
    decided = read_block(_labels_of_pieces(worker.experiment, box))
    assert decided is not None
    return decided["label_of"][numbers[box.slices_zyx(box.start_xyz)]]


def _write(box: Box, worker: _Worker) -> Arrays:
    """Write a block to the layer; objects and voxels before and after."""
    labels, clean = worker.labels, worker.labels.wanted.clean
    original = labels.read(box)
    array, eroded_voxels = original, 0
    if labels.erodes:
        around = labels.around(box)
        seen = worker.cleaned.read(around) if cleaning.needs_pieces(clean) else labels.read(around)
        part = box.slices_zyx(around.start_xyz)
        array = cleaning.eroded(seen, to_zyx(clean.erode_xyz))[part]
        eroded_voxels = int(np.count_nonzero(seen[part])) - int(np.count_nonzero(array))
    elif cleaning.needs_pieces(clean):
        array = _cleaned_block(worker, box)
    return written(worker.layer, box, array) | {
        "ids": np.unique(array),
        "labelled_voxels": np.array(np.count_nonzero(array)),
        "ids_before": np.unique(original),
        "labelled_voxels_before": np.array(np.count_nonzero(original)),
        "eroded_voxels": np.array(eroded_voxels),
    }


# --- the source ------------------------------------------------------------------------------------------------------


def read_body_table(wanted: config.BodyTable) -> dict[int, int]:
    """Supervoxel -> body; the supervoxel 0 is the body 0 unless the table says otherwise.

    Raises:
        FloodlineError: it is missing, not a table, or gives a supervoxel two bodies.
    """
    path = Path(wanted.path)
    if path.suffix in (".csv", ".parquet"):
        name, table = str(path), or_sentence(partial(_first_columns, path), str(path))
    else:
        name, table = f"dataset '{wanted.dataset}' of {path}", hdf5_dataset(path, wanted.dataset)
    if len(table.shape) != 2 or table.shape[1] != 2 or table.dtype.kind not in "iu":
        raise FloodlineError(f"{name} is no body table: two columns of whole numbers (supervoxel, body) are needed.")
    rows = np.unique(as_labels(table[()]), axis=0)
    supervoxels, counts = np.unique(rows[:, 0], return_counts=True)
    if counts.max(initial=1) > 1:
        raise FloodlineError(f"{name} gives the supervoxel {supervoxels[counts > 1][0]} more than one body.")
    return {0: 0} | dict(rows.tolist())


def _first_columns(path: Path) -> np.ndarray:
    """The first two columns of a table."""
    import pandas as pd

    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    return table.iloc[:, :2].to_numpy()


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
