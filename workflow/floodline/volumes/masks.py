"""Masks of the configuration, as arrays of a box of the image: the same for training sites, seeds and floods.

Every kind looks at a neighbourhood of limited size, so a mask does not depend on the box in which it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks, to_zyx, triple
from floodline.manifest import hash_of_file, read_json
from floodline.volumes.fingerprint import fingerprint
from floodline.volumes.layer import Layer
from floodline.volumes.scaled import read_scaled, stated_scale
from floodline.volumes.sources import open_source

SLAB = 32  # slices; a thick slab is worth a thick halo


def masked(experiment: Experiment, purpose: config.Purpose, box: Box) -> np.ndarray | None:
    """Voxels of a box (boolean, z, y, x) that are closed to sites, seeds or floods; None if there is no mask for them.

    Raises:
        FloodlineError: a mask does not cover the box, or its voxels are not made of whole voxels of the image, or the
            quality control that it needs has not been made.
    """
    result = None
    for number, mask in enumerate(experiment.config.masks):
        if purpose not in mask.closed_to:
            continue
        found = _found(experiment, mask, f"masks.{number}", box)
        found = ~found if mask.invert else found
        result = found if result is None else result | found
    return result


def decided_by(experiment: Experiment, *purposes: config.Purpose) -> list[Any]:
    """Plain data that change whenever the masks for these purposes do, for a hash of parameters."""
    findings = experiment.quality / "findings.parquet"
    return [
        [
            mask.model_dump(mode="json"),
            None if isinstance(mask, config.BoxMask) else read_json(experiment.manifest("image")),
            fingerprint(mask.source) if isinstance(mask, config.VolumeMask) else None,
            hash_of_file(findings) if isinstance(mask, config.QualityMask) and findings.is_file() else None,
        ]
        for mask in experiment.config.masks
        if {*mask.closed_to} & {*purposes}
    ]


def _found(experiment: Experiment, mask: config.Mask, key: str, box: Box) -> np.ndarray:
    match mask:
        case config.BoxMask():
            return _of_boxes([Box.of(corners) for corners in mask.boxes_xyz], box)
        case config.BorderMask():
            inner = experiment.image_box.grown([-width for width in mask.width_xyz])
            return ~_of_boxes([inner], box)
        case config.IntensityMask():
            return _within(_image(experiment).read(box), mask.min, mask.max)
        case config.FillMask():
            return _fill(experiment, mask, box)
        case config.ResinMask():
            return _featureless(experiment, mask, box)
        case config.QualityMask():
            return _of_boxes(_findings(experiment, mask), box)
        case config.VolumeMask():
            return _of_volume(experiment, mask, key, box)


def _image(experiment: Experiment) -> Layer:
    return Layer.open(experiment.layer("image"))


def _of_boxes(boxes: Sequence[Box], box: Box) -> np.ndarray:
    result = np.zeros(box.shape_zyx, bool)
    for one in boxes:
        common = one.intersection(box)
        if not common.is_empty:
            result[common.slices_zyx(box.start_xyz)] = True
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
    voxel_size_nm_xyz = read_json(experiment.manifest("image"))["voxel_size_nm_xyz"]
    scale_xyz = mask.scale_xyz or stated_scale(volume, voxel_size_nm_xyz, key)
    values = read_scaled(volume, scale_xyz, box, key)
    if mask.values is None and mask.min is None and mask.max is None:
        return values != 0
    found = np.isin(values, mask.values or ())
    if mask.min is not None or mask.max is not None:
        found |= _within(values, mask.min, mask.max)
    return found


def _fill(experiment: Experiment, mask: config.FillMask, box: Box) -> np.ndarray:
    """What squares of the fill's grey value cover; beyond the image, everything is fill."""
    reach = mask.square - 1
    around = box.grown((reach, reach, 0)).intersection(experiment.image_box)
    found = _image(experiment).read(around) == mask.value
    margin = ((0, 0), (reach, reach), (reach, reach))
    # Squares that are all fill, each at the place of its first voxel; then every voxel that one of them covers.
    squares = _over_squares(np.pad(found, margin, constant_values=True), mask.square, np.minimum)
    covered = _over_squares(squares, mask.square, np.maximum)
    return covered[box.slices_zyx(around.start_xyz)]


def _over_squares(values: np.ndarray, side: int, extreme: np.ufunc) -> np.ndarray:
    """The extreme of the square that begins at each voxel, in each slice of an array (z, y, x), where it fits."""
    for axis in (1, 2):
        values = extreme.reduce(np.lib.stride_tricks.sliding_window_view(values, side, axis), axis=-1)
    return values


def _featureless(experiment: Experiment, mask: config.ResinMask, box: Box) -> np.ndarray:
    found = np.empty(box.shape_zyx, bool)
    # The sums take some fifty bytes a voxel: so slab by slab.
    for slab in blocks(box, (*box.size_xyz[:2], SLAB)):
        found[slab.slices_zyx(box.start_xyz)] = _featureless_slab(experiment, mask, slab)
    return found


def _featureless_slab(experiment: Experiment, mask: config.ResinMask, box: Box) -> np.ndarray:
    around = box.grown(mask.radius_xyz).intersection(experiment.image_box)
    values = _image(experiment).read(around).astype(np.int64)
    radius_zyx = to_zyx(mask.radius_xyz)
    inner = box.slices_zyx(around.start_xyz)
    # Sums of whole numbers are exact, so the result does not depend on the box.
    count, first, second = (
        _window_sums(array, radius_zyx)[inner].astype(np.float64) for array in (np.ones_like(values), values, values**2)
    )
    variance = (second - first * first / count) / count
    stddev = read_json(experiment.manifest("image"))["stddev"]
    return variance <= (mask.max_stddev * stddev) ** 2


def _window_sums(values: np.ndarray, radius_zyx: Sequence[int]) -> np.ndarray:
    """Sums over the box of side 2 * radius + 1 around each voxel, as far as the array goes (int64, z, y, x)."""
    for axis, radius in enumerate(radius_zyx):
        size = values.shape[axis]
        sums = np.insert(values.cumsum(axis), 0, 0, axis)
        places = np.arange(size)
        values = sums.take(np.minimum(places + radius + 1, size), axis) - sums.take(
            np.maximum(places - radius, 0), axis
        )
    return values


def _findings(experiment: Experiment, mask: config.QualityMask) -> list[Box]:
    import pandas as pd

    path = experiment.quality / "findings.parquet"
    if not path.is_file():
        raise FloodlineError(
            f"{path} is missing, but a mask of kind 'quality' needs it: run `floodline quality` first."
        )
    table = pd.read_parquet(path)
    if mask.findings is not None:
        table = table[table["kind"].isin(mask.findings)]
    corners = table[["x0", "y0", "z0", "x1", "y1", "z1"]].itertuples(index=False)
    return [Box(triple(row[:3]), triple(row[3:])).grown((0, 0, mask.margin_z)) for row in corners]
