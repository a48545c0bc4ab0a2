"""Partitions of the labelled voxels by the fraction of their surroundings that their own object fills.

The definition is that of google/ffn's `compute_partitions`. Training draws as many sites from each partition, so that
thin processes are seen as often as the middles of thick ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from floodline import config, pool, steps
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, Triple, blocks, to_zyx, triple
from floodline.labels.fractions import box_sums, own_label_counts, partition_of_count
from floodline.manifest import hash_of, read_json
from floodline.segmentation.sizes import add_sizes, label_sizes
from floodline.steps import Arrays, Steps
from floodline.volumes.layer import Layer
from floodline.volumes.masks import decided_by, masked

EXCLUDED = 255
"""Partition of voxels that are no sites: near the border, in an exclusion region, or near a masked voxel."""

DATASET, REMOVED = "partitions", "removed"
"""Names in the HDF5 file."""

BLOCK_XYZ = (256, 256, 256)
"""Voxels that are worked on at once; the radius comes on top."""

CHUNK_ZYX = (1, 256, 256)
"""Of the file: blocks fill whole ones, and whoever looks for sites reads one plane after the other."""

Read = Callable[[Box], np.ndarray]
"""Reads the voxels of a box, z, y, x."""


@dataclass(frozen=True)
class Definition:
    """What the partitions depend on besides the labels."""

    thresholds: Sequence[float]
    radius_xyz: Triple
    removed: np.ndarray
    """Labels that count as background."""
    balls_xyzr: Sequence[Sequence[int]] = ()
    """Exclusion regions: centre and radius; voxels at that very distance belong to them."""
    boxes: Sequence[Box] = ()
    """More exclusion regions."""
    labelled: Sequence[Box] | None = None
    """The box around a site lies in one of these; None: there is no such limit."""
    mask: Read | None = None
    """Voxels that are not 0 here may not lie in the box around a site."""


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `partitions.h5` of the part of the labels that is trained on.

    Args:
        workers: processes that work side by side where there is no launcher.

    Raises:
        FloodlineError: there are no labels, or the part lies outside of them or is too small to hold a site.
        OutOfTime: the scheduler is about to end the job; what is done is kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), steps.do), partial(_lead, experiment), workers)


class _Worker:
    """What a process keeps from one block to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)
        self.box = sites_box(self.experiment)
        self.read = Layer.open(self.experiment.layer("labels")).read
        self.labelled = self.experiment.labelled_boxes
        self.mask = mask_reader(self.experiment)


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    experiment.partitions.unlink(missing_ok=True)
    box, sites = sites_box(experiment), experiment.config.sites
    cut = {block.name: block for block in blocks(box, BLOCK_XYZ)}
    values = [read_json(experiment.manifest("labels")), sites.model_dump(mode="json"), experiment.config.lom_radius_xyz]
    parameters = hash_of([*values, experiment.config.network.fov_xyz, decided_by(experiment, "sites")])
    with Steps[_Worker](experiment.unfinished("partitions"), parameters, hand_out) as todo:
        sizes = todo.do("sizes", {name: partial(_sizes, block) for name, block in cut.items()})
        removed = removed_labels(sizes, sites)
        results = todo.do("partitions", {name: partial(_partition, block, removed) for name, block in cut.items()})
        found = zip(cut.values(), results, strict=True)
        radius_xyz = experiment.config.lom_radius_xyz
        parts = [_valid(box.intersection(one), radius_xyz) for one in experiment.labelled_boxes]
        write(experiment.partitions, box, [one for one in parts if not one.is_empty], found)


def _sizes(block: Box, worker: _Worker) -> Arrays:
    return sizes_of(worker.read(block))


def sizes_of(labels: np.ndarray) -> Arrays:
    """The labels of a block, and the voxels of each."""
    ids, sizes = label_sizes([labels])
    return {"ids": ids, "sizes": sizes}


def _partition(block: Box, removed: np.ndarray, worker: _Worker) -> Arrays:
    """The partitions of a block."""
    config = worker.experiment.config
    margin_xyz = triple(map(max, config.network.fov_xyz, config.lom_radius_xyz))
    definition = Definition(
        thresholds=config.sites.thresholds,
        radius_xyz=config.lom_radius_xyz,
        removed=removed,
        balls_xyzr=config.sites.exclusion_xyzr,
        boxes=[Box.of(corners).grown(margin_xyz) for corners in config.sites.held_out_xyz],
        labelled=worker.labelled,
        mask=worker.mask,
    )
    partitions, is_removed = partition(worker.read, worker.box, definition, block)
    return {DATASET: partitions} | ({REMOVED: is_removed} if is_removed.any() else {})


def sites_box(experiment: Experiment) -> Box:
    """The part of the labels that is trained on.

    Raises:
        FloodlineError: there are no labels, or the part lies outside of them or is too small to hold a site.
    """
    if experiment.config.labels is None:
        raise FloodlineError("the configuration has no labels: training sites are made from labels.")
    labels = Box.of(read_json(experiment.manifest("labels"))["box_xyz"])
    wanted = experiment.config.sites.box_xyz
    box = labels if wanted is None else Box.of(wanted)
    if not labels.contains(box):
        raise FloodlineError(f"sites.box_xyz is {box}, but the labels cover only {labels}.")
    radius_xyz = experiment.config.lom_radius_xyz
    if _valid(box, radius_xyz).is_empty:
        raise FloodlineError(
            f"no training site fits into {box}: each axis needs more than twice the radius "
            f"{list(radius_xyz)} (sites.lom_radius_xyz, by default from the network's field of view and deltas)."
        )
    return box


def mask_reader(experiment: Experiment) -> Read | None:
    """Reads where masks keep training sites away; None: nowhere."""

    def read(box: Box) -> np.ndarray:
        found = masked(experiment, "sites", box)
        assert found is not None
        return found

    return read if any("sites" in mask.closed_to for mask in experiment.config.masks) else None


def removed_labels(sizes: Iterable[Arrays], sites: config.Sites) -> np.ndarray:
    """Labels that are too small in the box, or are not on the list of those to train on.

    Args:
        sizes: `ids` and `sizes` of the labels of every block.
    """
    ids, voxels = add_sizes((one["ids"], one["sizes"]) for one in sizes)
    removed = voxels < sites.min_size
    if sites.only_labels is not None:
        removed |= ~np.isin(ids, np.array(sites.only_labels, np.uint64))
    return ids[removed]


def partition(read: Read, box: Box, definition: Definition, block: Box) -> tuple[np.ndarray, np.ndarray]:
    """Partitions of a block of a volume, and where in it removed labels are.

    Args:
        read: reads labels inside `box`; never asked for more than the block with the radius around it.
        box: the volume; nothing outside it is looked at.
        definition: what the partitions depend on besides the labels; its mask is read inside `box`, too.

    Returns:
        uint8, z, y, x: 0 for background, else 1 + the number of thresholds that the fraction reaches, 255 where there
            can be no site.
        bool, z, y, x: voxels of removed labels. They are background in the partitions, as in `compute_partitions`, but
            an object is there, which no site may teach the network, neither as an object nor as none.
    """
    result = np.full(block.shape_zyx, EXCLUDED, np.uint8)
    is_removed = np.zeros(block.shape_zyx, bool)
    inner = block.intersection(_valid(box, definition.radius_xyz))
    if not inner.is_empty:
        here = inner.slices_zyx(block.start_xyz)
        result[here], is_removed[here] = _partition_inner(read, inner, definition)
    return result, is_removed


def _valid(box: Box, radius_xyz: Triple) -> Box:
    """Centres whose surroundings lie in the box."""
    return box.grown(triple(-radius for radius in radius_xyz))


def _partition_inner(read: Read, inner: Box, definition: Definition) -> tuple[np.ndarray, np.ndarray]:
    around = inner.grown(definition.radius_xyz)
    radius_zyx = to_zyx(definition.radius_xyz)
    labels = read(around)
    counts = own_label_counts(labels, radius_zyx, definition.removed)
    is_removed = (counts == 0) & (labels[inner.slices_zyx(around.start_xyz)] != 0)
    result = partition_of_count(definition.thresholds, radius_zyx)[counts]
    for region in definition.boxes:
        common = region.intersection(inner)
        if not common.is_empty:
            result[common.slices_zyx(inner.start_xyz)] = EXCLUDED
    for *centre_xyz, radius in definition.balls_xyzr:
        z, y, x = np.ogrid[inner.shifted([-c for c in centre_xyz]).slices_zyx()]
        result[z**2 + y**2 + x**2 <= radius**2] = EXCLUDED
    if definition.labelled is not None:
        is_valid = np.zeros(result.shape, bool)
        for region in definition.labelled:
            common = _valid(region, definition.radius_xyz).intersection(inner)
            if not common.is_empty:
                is_valid[common.slices_zyx(inner.start_xyz)] = True
        result[~is_valid] = EXCLUDED
    if definition.mask is not None:
        result[box_sums(definition.mask(around) != 0, radius_zyx) > 0] = EXCLUDED
    return result, is_removed


def write(path: Path, box: Box, valid: Sequence[Box], found: Iterable[tuple[Box, Arrays]]) -> None:
    """Write the partitions as google/ffn does: dataset `partitions`, chunked, gzip, fill value 255.

    Its attributes: `bounding_boxes` (n, 2, 3: start and size, x, y, z), where sites can lie; `partition_counts`
    (2, n: values, voxels). The array starts at `start_xyz` in the coordinates of the source, as do the boxes. Beside it
    a dataset of our own, `removed`, is 1 where removed labels are.

    Args:
        valid: where sites can lie.
        found: blocks that cover `box`, x fastest, and their partitions; with `removed` where there are any.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    counts = np.zeros(256, np.int64)
    try:
        with h5py.File(partial, "w") as file:
            chunks = tuple(min(one) for one in zip(CHUNK_ZYX, box.shape_zyx, strict=True))
            dataset, is_removed = (
                file.create_dataset(
                    name,
                    box.shape_zyx,
                    np.uint8,
                    chunks=chunks,
                    fillvalue=fill,
                    compression="gzip",
                    compression_opts=1,
                )
                for name, fill in ((DATASET, EXCLUDED), (REMOVED, 0))
            )
            for block, arrays in found:
                values, here = arrays[DATASET], block.slices_zyx(box.start_xyz)
                dataset[here] = values
                counts += np.bincount(values.ravel(), minlength=256)
                if REMOVED in arrays:
                    is_removed[here] = arrays[REMOVED]
            dataset.attrs["start_xyz"] = box.start_xyz
            dataset.attrs["bounding_boxes"] = np.array([[one.start_xyz, one.size_xyz] for one in valid])
            dataset.attrs["partition_counts"] = np.array([np.flatnonzero(counts), counts[counts > 0]])
        partial.replace(path)
    except OSError as error:
        raise FloodlineError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
