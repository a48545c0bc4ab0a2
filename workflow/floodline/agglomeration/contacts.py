"""Contacts of supervoxels: where they are, how large, and what the image and the flood say there.

Floods mostly leave the membrane between two neurons unsegmented, one to four voxels wide. So supervoxels first reach a
little into unsegmented space (growth.py), and are in contact wherever they then share faces of voxels.

A true border is a dark sheet between two brighter sides; a false one, where a flood stopped inside a neuron, is as
bright as what surrounds it. So each face is compared with the image a few voxels away on either side, along the axis
that crosses it: its *contrast* is how much darker the face is than the darker side. Being a difference over a few
voxels, it does not change with the brightness of a neuron's cytoplasm or of the volume.

All sums are of integers, and everything else is a count or a least value, so the contacts of a volume are exactly the
combined contacts of its boxes, whatever the boxes are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from floodline.agglomeration.growth import grow, halo_zyx
from floodline.geometry import Box, Triple, to_xyz, triple
from floodline.segmentation.relabel import compact

CONTRAST_EDGES = np.linspace(-2, 4, 25)
"""Bins of the histogram of contrast, in standard deviations of the image; what lies outside counts in the outermost."""

HISTOGRAM = [f"contrast_bin_{index}" for index in range(len(CONTRAST_EDGES) - 1)]
SUMS = ["faces", "touching", "twice_contrast", "twice_intensity", "quantised_a", "quantised_b", *HISTOGRAM]
AT_GAP = ["faces_at_gap", "x", "y", "z"]


@dataclass(frozen=True)
class Measure:
    """How contacts are measured."""

    reach: float
    """How far supervoxels reach into unsegmented space, in voxels of the finest axis."""
    spacing: tuple[float, float, float]
    """Size of a voxel along z, y, x in those units."""
    profile: int
    """Distance at which a face is compared with its sides, in those units."""
    stddev: float
    """Standard deviation of the image, the unit of the histogram of contrast."""

    @property
    def steps_zyx(self) -> Triple:
        """The profile's distance in voxels of each axis."""
        return triple(max(1, round(self.profile / size)) for size in self.spacing)

    @property
    def halo_xyz(self) -> Triple:
        """Voxels around a box that its contacts depend on; the upper voxel of a face may lie one outside."""
        halo = halo_zyx(self.reach, self.spacing)
        return to_xyz(triple(1 + max(a, b) for a, b in zip(halo, self.steps_zyx, strict=True)))


def contacts(
    box: Box, outer: Box, supervoxels: np.ndarray, image: np.ndarray, quantised: np.ndarray, measure: Measure
) -> pd.DataFrame:
    """Contacts on the faces whose lower voxel lies in a box.

    Args:
        box: the box.
        outer: the box with `measure.halo_xyz` around it, as far as the volume goes; the arrays fill it.
        supervoxels: z, y, x; 0 is unsegmented.
        image: integers.
        quantised: the flood's probability, uint8.

    Returns:
        A row for each pair in contact, sorted: `a` < `b`; the columns `SUMS`; `gap`, the least distance between the
        two along any face; and `AT_GAP`: the number of faces with that distance, and the sums of their x, y, z.
    """
    numbers, ids = compact(np.ascontiguousarray(supervoxels))
    grown = grow(numbers, measure.reach, measure.spacing)
    core = box.slices_zyx(outer.start_xyz)
    faces = np.concatenate([_faces(grown.labels, core, axis, measure.steps_zyx[axis]) for axis in range(3)], axis=1)
    below, above, side_below, side_above = faces

    labels, source, distance = grown.labels.ravel(), grown.source.ravel(), grown.distance.ravel()
    intensity, quantised = image.ravel().astype(np.int64), quantised.ravel().astype(np.int64)
    id_below, id_above = ids[labels[below]], ids[labels[above]]
    swap = id_below > id_above
    pairs = np.stack([np.where(swap, id_above, id_below), np.where(swap, id_below, id_above)], axis=1)
    twice_intensity = intensity[below] + intensity[above]
    twice_contrast = 2 * np.minimum(intensity[side_below], intensity[side_above]) - twice_intensity
    quantised_below, quantised_above = quantised[source[below]], quantised[source[above]]
    gap = distance[below] + distance[above]

    pairs, group = np.unique(pairs, axis=0, return_inverse=True)
    group = group.ravel()
    least = np.full(len(pairs), np.inf)
    np.minimum.at(least, group, gap)
    nearest = gap == least[group]
    z, y, x = np.unravel_index(below, image.shape)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, values, len(pairs)).astype(np.int64)

    table = {
        "a": pairs[:, 0],
        "b": pairs[:, 1],
        "faces": total(np.ones(len(group))),
        "touching": total(gap == 0),
        "twice_contrast": total(twice_contrast),
        "twice_intensity": total(twice_intensity),
        "quantised_a": total(np.where(swap, quantised_above, quantised_below)),
        "quantised_b": total(np.where(swap, quantised_below, quantised_above)),
        "gap": least,
        "faces_at_gap": total(nearest),
        "x": total(nearest * (x + outer.start_xyz[0])),
        "y": total(nearest * (y + outer.start_xyz[1])),
        "z": total(nearest * (z + outer.start_xyz[2])),
    }
    bins = np.searchsorted(CONTRAST_EDGES, twice_contrast / (2 * measure.stddev), side="right") - 1
    bins = np.clip(bins, 0, len(HISTOGRAM) - 1)
    histogram = np.bincount(group * len(HISTOGRAM) + bins, minlength=len(pairs) * len(HISTOGRAM))
    columns = histogram.reshape(len(pairs), len(HISTOGRAM)).T
    return pd.DataFrame({**table, **dict(zip(HISTOGRAM, columns, strict=True))})


def _faces(labels: np.ndarray, core: tuple[slice, slice, slice], axis: int, steps: int) -> np.ndarray:
    """Faces between different segments across an axis (z, y, x), whose lower voxel lies in the core.

    Returns:
        (4, n) indices into the flattened array: the voxels below and above the face, and those `steps` away from it
        on either side, or at the array's end.
    """
    length, stride = labels.shape[axis], int(np.prod(labels.shape[axis + 1 :]))
    start, stop = core[axis].start, min(core[axis].stop, length - 1)
    here, there = list(core), list(core)
    here[axis], there[axis] = slice(start, stop), slice(start + 1, stop + 1)
    first, second = labels[tuple(here)], labels[tuple(there)]
    place = np.argwhere((first != second) & (first > 0) & (second > 0)) + [part.start for part in here]
    below = np.ravel_multi_index(tuple(place.T), labels.shape)
    at = place[:, axis]
    side_below = below + (np.maximum(at + 1 - steps, 0) - at) * stride
    side_above = below + (np.minimum(at + steps, length - 1) - at) * stride
    return np.stack([below, below + stride, side_below, side_above])


def combine(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The contacts of a volume from those of its boxes."""
    table = pd.concat(tables, ignore_index=True)
    pairs = table.groupby(["a", "b"], sort=True)
    nearest = table["gap"] == pairs["gap"].transform("min")
    combined = pairs[SUMS].sum()
    combined["gap"] = pairs["gap"].min()
    combined[AT_GAP] = table[nearest].groupby(["a", "b"], sort=True)[AT_GAP].sum()
    return combined.reset_index()
