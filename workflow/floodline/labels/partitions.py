"""Partitions of the labelled voxels by the fraction of their surroundings that their own object fills.

The definition is that of google/ffn's `compute_partitions`. Training draws as many sites from each partition, so that
thin processes are seen as often as the middles of thick ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, Triple, blocks, to_zyx, triple
from floodline.labels.fractions import box_sums, own_label_counts, partition_of_count
from floodline.manifest import read_json
from floodline.progress import Meter
from floodline.segmentation.sizes import label_sizes
from floodline.volumes.layer import Layer
from floodline.volumes.sources import open_source

EXCLUDED = 255
"""Partition of voxels that are no sites: near the border, in an exclusion region, or near a masked voxel."""

DATASET = "partitions"
"""Name in the HDF5 file."""

BLOCK_XYZ = (192, 192, 192)
"""Voxels that are worked on at once; the radius comes on top."""

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
    mask: Read | None = None
    """Voxels that are not 0 here may not lie in the box around a site."""


def run(experiment: Experiment) -> None:
    """Write `partitions.h5` of the part of the labels that is trained on.

    Raises:
        FloodlineError: there are no labels, or the part lies outside of them or is too small to hold a site.
    """
    experiment.partitions.unlink(missing_ok=True)
    box = sites_box(experiment)
    layer = Layer.open(experiment.layer("labels"))
    sites, radius_xyz = experiment.config.sites, experiment.config.lom_radius_xyz
    margin_xyz = triple(map(max, experiment.config.network.fov_xyz, radius_xyz))
    definition = Definition(
        thresholds=sites.thresholds,
        radius_xyz=radius_xyz,
        removed=removed_labels(layer.read, box, sites),
        balls_xyzr=sites.exclusion_xyzr,
        boxes=[Box.of(corners).grown(margin_xyz) for corners in sites.held_out_xyz],
        mask=_mask(experiment, box),
    )
    write(experiment.partitions, layer.read, box, definition)


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


def _mask(experiment: Experiment, box: Box) -> Read | None:
    wanted = experiment.config.sites.mask
    if wanted is None:
        return None
    mask = open_source(wanted, experiment.config.seed)
    if not mask.box.contains(box):
        raise FloodlineError(f"sites.mask covers {mask.box}, which does not hold all of {box}.")
    return mask.read


def removed_labels(read: Read, box: Box, sites: config.Sites) -> np.ndarray:
    """Labels that are too small in the box, or are not on the list of those to train on."""
    ids, sizes = label_sizes(read(block) for block in blocks(box, BLOCK_XYZ))
    removed = sizes < sites.min_size
    if sites.only_labels is not None:
        removed |= ~np.isin(ids, np.array(sites.only_labels, np.uint64))
    return ids[removed]


def partition(
    read: Read, box: Box, definition: Definition, block_xyz: Triple = BLOCK_XYZ
) -> Iterator[tuple[Box, np.ndarray]]:
    """Partitions of a volume, block by block.

    Args:
        read: reads labels inside `box`; never asked for more than a block with the radius around it.
        box: the volume; nothing outside it is looked at.
        definition: what the partitions depend on besides the labels; its mask is read inside `box`, too.
        block_xyz: voxels that are worked on at once; does not change the result.

    Yields:
        Blocks that cover `box`, x fastest, and the uint8 partitions (z, y, x) of each: 0 for background, else 1 + the
        number of thresholds that the fraction reaches, 255 where there can be no site.
    """
    partitions = partition_of_count(definition.thresholds, to_zyx(definition.radius_xyz))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        for block in blocks(box, block_xyz):
            result = np.full(block.shape_zyx, EXCLUDED, np.uint8)
            inner = block.intersection(_valid(box, definition.radius_xyz))
            if not inner.is_empty:
                result[inner.slices_zyx(block.start_xyz)] = _partition_block(
                    read, inner, definition, partitions, executor
                )
            yield block, result


def _valid(box: Box, radius_xyz: Triple) -> Box:
    """Centres whose surroundings lie in the box."""
    return box.grown(triple(-radius for radius in radius_xyz))


def _partition_block(
    read: Read, inner: Box, definition: Definition, partitions: np.ndarray, executor: Executor
) -> np.ndarray:
    around = inner.grown(definition.radius_xyz)
    radius_zyx = to_zyx(definition.radius_xyz)
    result = partitions[own_label_counts(read(around), radius_zyx, definition.removed, executor)]
    for region in definition.boxes:
        common = region.intersection(inner)
        if not common.is_empty:
            result[common.slices_zyx(inner.start_xyz)] = EXCLUDED
    for *centre_xyz, radius in definition.balls_xyzr:
        z, y, x = np.ogrid[inner.shifted([-c for c in centre_xyz]).slices_zyx()]
        result[z**2 + y**2 + x**2 <= radius**2] = EXCLUDED
    if definition.mask is not None:
        result[box_sums(definition.mask(around) != 0, radius_zyx) > 0] = EXCLUDED
    return result


def write(path: Path, read: Read, box: Box, definition: Definition) -> None:
    """Write the partitions as google/ffn does: dataset `partitions`, chunked, gzip, fill value 255.

    Its attributes: `bounding_boxes` (n, 2, 3: start and size, x, y, z), where sites can lie; `partition_counts`
    (2, n: values, voxels). The array starts at `start_xyz` in the coordinates of the source, as do the boxes.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    counts = np.zeros(256, np.int64)
    todo = blocks(box, BLOCK_XYZ)
    try:
        with h5py.File(partial, "w") as file, Meter("partitions", len(todo), "blocks") as meter:
            chunks = tuple(min(64, size) for size in box.shape_zyx)
            dataset = file.create_dataset(
                DATASET,
                box.shape_zyx,
                np.uint8,
                chunks=chunks,
                fillvalue=EXCLUDED,
                compression="gzip",
                compression_opts=1,
            )
            for block, values in partition(read, box, definition):
                dataset[block.slices_zyx(box.start_xyz)] = values
                counts += np.bincount(values.ravel(), minlength=256)
                meter.advance()
            valid = _valid(box, definition.radius_xyz)
            dataset.attrs["start_xyz"] = box.start_xyz
            dataset.attrs["bounding_boxes"] = np.array([[valid.start_xyz, valid.size_xyz]])
            dataset.attrs["partition_counts"] = np.array([np.flatnonzero(counts), counts[counts > 0]])
        partial.replace(path)
    except OSError as error:
        raise FloodlineError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
