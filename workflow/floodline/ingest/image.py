"""The image: source, crop, contrast, layer, and the statistics that the network's input is normalised with."""

from __future__ import annotations

from math import sqrt

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.manifest import write_json
from floodline.progress import Meter
from floodline.volumes.agreement import voxel_size
from floodline.volumes.layer import Layer
from floodline.volumes.sources import Volume, open_image


def run(experiment: Experiment) -> None:
    """Write the layer `image/` and its manifest with the mean and standard deviation of all voxels.

    The volume passes in slabs one chunk thick, so memory holds a slab, whatever the size of the volume.

    Raises:
        FloodlineError: the source is missing, damaged, not of 8 or 16 bits, or constant, the crop leaves it, or its
            voxel size is not known or contradicts the configuration.
    """
    experiment.manifest("image").unlink(missing_ok=True)
    wanted, storage = experiment.config.image, experiment.config.storage
    volume = open_image(wanted.source, experiment.config.seed)
    box, voxel_size_nm_xyz = cropped_box(wanted, volume), voxel_size(wanted, volume)
    layer = Layer.create(
        experiment.layer("image"),
        box=box,
        dtype=volume.dtype.name,
        voxel_size_nm_xyz=voxel_size_nm_xyz,
        chunk_size_xyz=storage.chunk_size_xyz,
        kind="image",
    )
    histogram = np.zeros(np.iinfo(volume.dtype).max + 1, np.int64)
    slabs = blocks(box, (*box.size_xyz[:2], storage.chunk_size_xyz[2]))
    with Meter("ingest image", len(slabs), "slabs") as meter:
        for slab in slabs:
            array = volume.read(slab)
            if wanted.clahe is not None:
                array = equalised(array, wanted.clahe)
            layer.write(slab, array)
            histogram += np.bincount(array.ravel(), minlength=histogram.size)
            meter.advance()
    mean, stddev = mean_and_stddev(histogram)
    if stddev == 0:
        raise FloodlineError(f"every voxel of the image in {box} is {mean:g}: check the source and the crop.")
    write_json(
        experiment.manifest("image"),
        {
            "box_xyz": box.corners,
            "voxel_size_nm_xyz": list(voxel_size_nm_xyz),
            "dtype": volume.dtype.name,
            "mean": mean,
            "stddev": stddev,
        },
    )


def cropped_box(wanted: config.Image, volume: Volume) -> Box:
    """The part of the image source to use.

    Raises:
        FloodlineError: the crop reaches outside the source.
    """
    if wanted.crop_xyz is None:
        return volume.box
    crop = Box.of(wanted.crop_xyz)
    if not volume.box.contains(crop):
        raise FloodlineError(f"image.crop_xyz {crop} reaches outside the source, whose box is {volume.box}.")
    return crop


def equalised(array: np.ndarray, clahe: config.Clahe) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of every slice of `array` (z, y, x), which keeps its type."""
    from skimage.exposure import equalize_adapthist

    top = np.iinfo(array.dtype).max
    kernel_size_yx = clahe.kernel_size_xy[::-1]
    slices = [equalize_adapthist(slice_, kernel_size_yx, clahe.clip_limit) for slice_ in array]
    return np.rint(np.stack(slices) * top).astype(array.dtype)


def mean_and_stddev(histogram: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the values 0, 1, 2, ... that occur as often as the histogram says."""
    counts = [int(count) for count in histogram]
    # Python's integers do not overflow, so the sums are exact for a volume of any size.
    total = sum(counts)
    first = sum(value * count for value, count in enumerate(counts))
    second = sum(value * value * count for value, count in enumerate(counts))
    return first / total, sqrt(second * total - first * first) / total
