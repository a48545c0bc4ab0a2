"""What a volume's file says of its voxels and its place, and what the configuration says, must agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.geometry import Box
from floodline.volumes.placement import Size
from floodline.volumes.sources import Volume

PHANTOM_NM_XYZ: Size = (8.0, 8.0, 8.0)
RELATIVE = 1e-3
"""Files round their sizes: a difference beyond it is a contradiction."""


def voxel_size(wanted: config.Image, volume: Volume) -> Size:
    """The image's voxel size in nanometres, x, y, z, as its source or the configuration says it.

    Raises:
        FloodlineError: neither says it, or they contradict each other.
    """
    stated, configured = volume.voxel_size_nm_xyz, wanted.voxel_size_nm_xyz
    if stated is None and isinstance(wanted.source, config.PhantomSource):
        stated = configured or PHANTOM_NM_XYZ
    if stated is None and configured is None:
        raise FloodlineError("the image source does not say how large its voxels are: give image.voxel_size_nm_xyz.")
    if stated is not None and configured is not None and not same_size(stated, configured):
        raise FloodlineError(
            f"the image source says that its voxels are {_words(stated)} nm, but image.voxel_size_nm_xyz is "
            f"{_words(configured)}: correct the one that is wrong."
        )
    return configured or stated or PHANTOM_NM_XYZ


def same_size(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two voxel sizes are the same but for rounding."""
    return bool(np.allclose(a, b, rtol=RELATIVE, atol=0))


def check_labels_voxel_size(labels: Volume, image_nm_xyz: Size) -> None:
    """Refuse labels whose source says that their voxels have another size than the image's.

    Raises:
        FloodlineError: it says so.
    """
    stated = labels.voxel_size_nm_xyz
    if stated is not None and not same_size(stated, image_nm_xyz):
        raise FloodlineError(
            f"the voxels of the labels are {_words(stated)} nm, those of the image {_words(image_nm_xyz)}: "
            "they must be equal."
        )


def placed_box(wanted: config.Labels, labels: Volume, image: Volume) -> Box:
    """Where the labels lie in the image source: as configured, else where their source says, else on all of the image.

    A source that begins at 0, 0, 0 says nothing of its place, unless it is a precomputed layer or made of boxes.

    Raises:
        FloodlineError: the source says another place than the configuration, the labels do not have the shape of that
            box, or it reaches outside the image.
    """
    if wanted.box_xyz is not None:
        place, what = Box.of(wanted.box_xyz), "labels.box_xyz"
        check_start(labels, place, "the labels source", "labels.box_xyz")
    elif any(labels.box.start_xyz) or isinstance(wanted.source, config.PrecomputedSource | config.BoxesSource):
        place, what = labels.box, "the labels' box"
    else:
        place, what = image.box, "the image"
    if labels.box.size_xyz != place.size_xyz:
        raise FloodlineError(
            f"the labels have size {list(labels.box.size_xyz)} (x, y, z), but {what} has {list(place.size_xyz)}: "
            "labels.box_xyz says which part of the image they cover."
        )
    if not image.box.contains(place):
        raise FloodlineError(f"{what} {place} reaches outside the image source, whose box is {image.box}.")
    return place


def check_start(volume: Volume, place: Box, source: str, key: str) -> None:
    """Refuse a volume whose file says that it lies elsewhere; one that begins at 0, 0, 0 says nothing.

    Raises:
        FloodlineError: it says so.
    """
    start = volume.box.start_xyz
    if any(start) and start != place.start_xyz:
        raise FloodlineError(
            f"{source} says that it begins at {list(start)} (x, y, z), but {key} at {list(place.start_xyz)}: "
            "correct the one that is wrong."
        )


def _words(size: Sequence[float]) -> list[float]:
    return [round(float(nm), 4) for nm in size]
