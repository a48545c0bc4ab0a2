"""Masks of the configuration, as arrays of one sub-volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.restriction import Restriction, near
from floodline.geometry import Box, Triple, to_zyx, triple
from floodline.manifest import read_json
from floodline.volumes.sources import Volume, open_source


def restriction_of(experiment: Experiment, box: Box, image: np.ndarray) -> Restriction:
    """Where the floods of a sub-volume may not go.

    Args:
        box: the sub-volume.
        image: its grey values (z, y, x) as ingested.

    Raises:
        FloodlineError: a mask does not cover the sub-volume, or its voxels are not made of whole voxels of the image.
    """
    wanted = experiment.config.inference
    closed = _union(experiment, "masks", wanted.masks, box, image)
    if wanted.shift_mask is not None:
        closed = _either(closed, _misaligned(experiment, wanted.shift_mask, box))
    seedless = _either(closed, _union(experiment, "seed_masks", wanted.seed_masks, box, image))
    return Restriction(closed, seedless)


def _either(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    if a is None or b is None:
        return a if b is None else b
    return a | b


def _union(
    experiment: Experiment, key: str, masks: Sequence[config.Mask], box: Box, image: np.ndarray
) -> np.ndarray | None:
    result = None
    for number, mask in enumerate(masks):
        match mask:
            case config.BoxMask():
                masked = np.zeros(box.shape_zyx, bool)
                for corners in mask.boxes_xyz:
                    common = Box.of(corners).intersection(box)
                    if not common.is_empty:
                        masked[common.slices_zyx(box.start_xyz)] = True
            case config.IntensityMask():
                masked = _within(image, mask.min, mask.max)
            case config.VolumeMask():
                masked = _of_volume(experiment, mask, f"inference.{key}.{number}", box)
        result = _either(result, ~masked if mask.invert else masked)
    return result


def _within(values: np.ndarray, lowest: float | None, highest: float | None) -> np.ndarray:
    result = np.ones(values.shape, bool)
    if lowest is not None:
        result &= values >= lowest
    if highest is not None:
        result &= values <= highest
    return result


def _of_volume(experiment: Experiment, mask: config.VolumeMask, key: str, box: Box) -> np.ndarray:
    volume = open_source(mask.source, experiment.config.seed, "labels")
    scale_xyz = mask.scale_xyz or _stated_scale(experiment, volume, key)
    values = read_scaled(volume, scale_xyz, box, key)
    if mask.values is None and mask.min is None and mask.max is None:
        return values != 0
    masked = np.isin(values, mask.values or ())
    if mask.min is not None or mask.max is not None:
        masked |= _within(values, mask.min, mask.max)
    return masked


def _stated_scale(experiment: Experiment, volume: Volume, key: str) -> Triple:
    """Image voxels that a voxel of the volume covers, by the voxel sizes of both."""
    if volume.voxel_size_nm_xyz is None:
        return 1, 1, 1
    of_image = read_json(experiment.manifest("image"))["voxel_size_nm_xyz"]
    ratios = [coarse / fine for coarse, fine in zip(volume.voxel_size_nm_xyz, of_image, strict=True)]
    scale_xyz = triple(max(1, round(ratio)) for ratio in ratios)
    if not np.allclose(ratios, scale_xyz, rtol=1e-3):
        raise FloodlineError(
            f"{key} has voxels of {list(volume.voxel_size_nm_xyz)} nm, the image of {of_image} nm: "
            "a voxel of the mask must cover whole voxels of the image."
        )
    return scale_xyz


def read_scaled(volume: Volume, scale_xyz: Sequence[int], box: Box, key: str) -> np.ndarray:
    """The voxels of a box of the image (z, y, x) from a volume of which each voxel covers several.

    Voxel i of the volume covers the image's voxels i * scale to (i + 1) * scale - 1 of each axis.

    Raises:
        FloodlineError: the volume does not cover the box; `key` names it in the sentence.
    """
    coarse = Box(
        triple(start // scale for start, scale in zip(box.start_xyz, scale_xyz, strict=True)),
        triple(-(-stop // scale) for stop, scale in zip(box.stop_xyz, scale_xyz, strict=True)),
    )
    if not volume.box.contains(coarse):
        times = "" if max(scale_xyz) == 1 else f" of {'x'.join(map(str, scale_xyz))} voxels of the image each"
        raise FloodlineError(f"{key} covers {volume.box}{times}, which does not hold all of {box}.")
    array = volume.read(coarse)
    for axis, scale in enumerate(to_zyx(scale_xyz)):
        if scale > 1:
            array = array.repeat(scale, axis)
    start_xyz = triple(start * scale for start, scale in zip(coarse.start_xyz, scale_xyz, strict=True))
    return array[box.slices_zyx(start_xyz)]


def _misaligned(experiment: Experiment, mask: config.ShiftMask, box: Box) -> np.ndarray:
    """Positions whose field of view holds a large shift."""
    fov_xyz = mask.fov_xyz or experiment.config.network.fov_xyz
    around = box.grown([size // 2 for size in fov_xyz]).intersection(experiment.image_box)
    scale_xyz = (mask.scale, mask.scale, 1)
    large = np.zeros(around.shape_zyx, bool)
    for source, key in ((mask.dx, "dx"), (mask.dy, "dy")):
        volume = open_source(source, experiment.config.seed)
        shift = read_scaled(volume, scale_xyz, around, f"inference.shift_mask.{key}")
        large |= np.abs(shift.astype(np.float32)) >= mask.threshold
    return near(large, to_zyx(fov_xyz))[box.slices_zyx(around.start_xyz)]
