"""Where the floods of a sub-volume may not go: masks, and misaligned slices."""

from __future__ import annotations

import numpy as np

from floodline import config
from floodline.experiment import Experiment
from floodline.ffn.restriction import Restriction, near
from floodline.geometry import Box, to_zyx
from floodline.volumes.masks import masked
from floodline.volumes.scaled import read_scaled
from floodline.volumes.sources import open_source


def restriction_of(experiment: Experiment, box: Box) -> Restriction:
    """Where the floods of a sub-volume may not go.

    Raises:
        FloodlineError: a mask does not cover the sub-volume, or its voxels are not made of whole voxels of the image.
    """
    closed = masked(experiment, "floods", box)
    shift_mask = experiment.config.inference.shift_mask
    if shift_mask is not None:
        closed = _either(closed, _misaligned(experiment, shift_mask, box))
    return Restriction(closed, _either(closed, masked(experiment, "seeds", box)))


def _either(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    if a is None or b is None:
        return a if b is None else b
    return a | b


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
