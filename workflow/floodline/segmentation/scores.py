"""Scores of a segmentation against the truth, from their contingency table (truth first, segmentation second).

Which voxels count is a convention, and no number means anything without it:

- `labelled_by_both`: voxels that the truth labels and that are segmented;
- `all_labelled`: voxels that the truth labels; all unsegmented voxels together count as one object.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from floodline.segmentation.contingency import Table


@dataclass(frozen=True)
class Scores:
    """Scores over the voxels of one convention; NaN where they are undefined, as over no voxels."""

    voxels: int
    """Voxels that count."""
    voi_split: float
    """H(segmentation | truth), bits: what is missing to know a voxel's segment when its neuron is known."""
    voi_merge: float
    """H(truth | segmentation), bits."""
    adapted_rand_error: float
    """1 - the harmonic mean of precision and recall."""
    precision: float
    """Of the pairs of voxels that the segmentation joins, the share that the truth joins; mergers lower it."""
    recall: float
    """Of the pairs of voxels that the truth joins, the share that the segmentation joins; splits lower it."""
    rand_error: float
    """Share of all pairs of voxels that are joined in one of the two and apart in the other: 1 - Rand index."""
    cremi: float
    """Square root of (voi_split + voi_merge) * adapted_rand_error, as in the CREMI challenge."""


def labelled_by_both(table: Table) -> Table:
    """The rows of voxels that the truth labels and that are segmented."""
    return table.where((table.a != 0) & (table.b != 0))


def all_labelled(table: Table) -> Table:
    """The rows of voxels that the truth labels; the unsegmented ones stay one object, of id 0."""
    return table.where(table.a != 0)


CONVENTIONS = {"labelled_by_both": labelled_by_both, "all_labelled": all_labelled}


def coverage(table: Table) -> float:
    """Share of the labelled voxels that are segmented."""
    return _ratio(labelled_by_both(table).voxels, all_labelled(table).voxels)


def score(table: Table) -> Scores:
    """Score every voxel of a table; choose those of a convention first.

    VOI after Meila (2007), the adapted Rand error after Arganda-Carreras et al. (2015). scikit-image gives the same
    numbers, but calls recall what is precision here, against its own documentation.
    """
    joint = table.count.astype(np.float64)
    truth, row_truth = _group_sums(table.a, joint)
    segments, row_segment = _group_sums(table.b, joint)
    voxels = joint.sum()
    voi_split = _ratio(joint @ np.log2(row_truth / joint), voxels)
    voi_merge = _ratio(joint @ np.log2(row_segment / joint), voxels)
    pairs_joint, pairs_truth, pairs_segments = (sizes @ sizes - voxels for sizes in (joint, truth, segments))
    # Rounding must not make it negative; numpy keeps NaN where max would not.
    adapted_rand_error = float(np.maximum(0.0, 1 - _ratio(2 * pairs_joint, pairs_truth + pairs_segments)))
    return Scores(
        voxels=table.voxels,
        voi_split=voi_split,
        voi_merge=voi_merge,
        adapted_rand_error=adapted_rand_error,
        precision=_ratio(pairs_joint, pairs_segments),
        recall=_ratio(pairs_joint, pairs_truth),
        rand_error=_ratio(pairs_truth + pairs_segments - 2 * pairs_joint, voxels * (voxels - 1)),
        cremi=sqrt((voi_split + voi_merge) * adapted_rand_error),
    )


def _group_sums(labels: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of each label, and, for each row, of its label."""
    _, group = np.unique(labels, return_inverse=True)
    sums = np.bincount(group, weights=count)
    return sums, sums[group]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else nan
