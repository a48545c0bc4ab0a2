"""Volumes whose voxels cover several of the image's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple, to_zyx, triple
from floodline.volumes.sources import Volume


def stated_scale(volume: Volume, image_voxel_size_nm_xyz: Sequence[float], key: str) -> Triple:
    """Image voxels that a voxel of the volume covers, x, y, z, by the voxel sizes of both; 1 where it states none.

    Raises:
        FloodlineError: they are not whole numbers; `key` names the volume in the sentence.
    """
    if volume.voxel_size_nm_xyz is None:
        return 1, 1, 1
    ratios = [coarse / fine for coarse, fine in zip(volume.voxel_size_nm_xyz, image_voxel_size_nm_xyz, strict=True)]
    scale_xyz = triple(max(1, round(ratio)) for ratio in ratios)
    if not np.allclose(ratios, scale_xyz, rtol=1e-3):
        raise FloodlineError(
            f"{key} has voxels of {list(volume.voxel_size_nm_xyz)} nm, the image of {list(image_voxel_size_nm_xyz)} "
            "nm: a voxel of the mask must cover whole voxels of the image."
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
