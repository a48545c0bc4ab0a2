"""What becomes of each piece of the labels, and of boundaries; every change is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from floodline import config
from floodline.ingest.pieces import Pieces
from floodline.segmentation.relabel import compact
from floodline.segmentation.union_find import unite

Counts = dict[str, dict[str, int]]


def needs_pieces(wanted: config.Cleaning) -> bool:
    """Whether anything is wanted that needs to know whole objects."""
    return wanted.disconnected != "keep" or wanted.min_voxels > 0 or wanted.fill_holes


def decide(pieces: Pieces, wanted: config.Cleaning) -> tuple[np.ndarray, Counts]:
    """The label that each piece gets (uint64), and what was changed.

    Pieces of an object that do not keep its id get new ones above all others, in the order of their first voxels.
    """
    label, counts = pieces.label.copy(), Counts()
    if wanted.disconnected != "keep":
        counts["disconnected"] = _disconnect(label, pieces.voxels, wanted.disconnected == "split")
    if wanted.min_voxels:
        counts["small_objects"] = _remove_small(label, pieces.voxels, wanted.min_voxels)
    if wanted.fill_holes:
        counts["holes"] = _fill_holes(label, pieces)
    return label, counts


def _disconnect(label: np.ndarray, voxels: np.ndarray, split: bool) -> dict[str, int]:
    # Pieces by label, the largest first; pieces come in the order of their first voxels, which decides between equals.
    order = np.lexsort((-voxels, label))
    order = order[label[order] > 0]
    is_first = np.diff(label[order], prepend=np.uint64(0)) != 0
    others = np.sort(order[~is_first])
    counts = {
        "objects": len(np.unique(label[others])),
        "pieces": len(others),
        "voxels": int(voxels[others].sum()),
    }
    label[others] = label.max(initial=0) + np.arange(1, len(others) + 1, dtype=np.uint64) if split else 0
    return counts


def _remove_small(label: np.ndarray, voxels: np.ndarray, min_voxels: int) -> dict[str, int]:
    ids, object_ = np.unique(label, return_inverse=True)
    sizes = np.bincount(object_, weights=voxels).astype(np.int64)
    small = (sizes < min_voxels) & (ids > 0)
    label[small[object_]] = 0
    return {"objects": int(small.sum()), "voxels": int(sizes[small].sum())}


def _fill_holes(label: np.ndarray, pieces: Pieces) -> dict[str, int]:
    """Places without a label, removed objects included, that touch one object and not the volume's faces."""
    empty = label == 0
    a, b = np.concatenate([pieces.contacts, pieces.contacts[:, ::-1]]).T
    place = np.arange(len(label))
    joined = empty[a] & empty[b]
    if joined.any():
        ids, roots = unite(np.stack([a[joined], b[joined]], axis=1))
        place[ids] = roots
    # One row for each place and object that touch.
    touching = empty[a] & ~empty[b]
    rows = np.unique(np.stack([place[a[touching]].astype(np.uint64), label[b[touching]]], axis=1), axis=0)
    places, first, objects = np.unique(rows[:, 0], return_index=True, return_counts=True)
    enclosed = (objects == 1) & ~np.isin(places, place[empty & pieces.outside])
    owner = dict(zip(places[enclosed].tolist(), rows[first[enclosed], 1].tolist(), strict=True))
    filled = np.flatnonzero(empty & np.isin(place, places[enclosed].astype(np.int64)))
    label[filled] = [owner[p] for p in place[filled].tolist()]
    return {"holes": len(owner), "voxels": int(pieces.voxels[filled].sum())}


def eroded(labels: np.ndarray, radius_zyx: Sequence[int]) -> np.ndarray:
    """The labels (z, y, x) without voxels that have another label, or none, in the box of this radius around them.

    Nothing is known beyond the array, so its faces are no boundaries.
    """
    numbers, _ = compact(labels)
    size = [2 * radius + 1 for radius in radius_zyx]
    lowest = ndimage.minimum_filter(numbers, size, mode="nearest")
    highest = ndimage.maximum_filter(numbers, size, mode="nearest")
    return np.where(lowest == highest, labels, labels.dtype.type(0))


def summary(counts: Counts, before: tuple[int, int], after: tuple[int, int]) -> dict[str, Any]:
    """What the manifest says of the cleaning; `before` and `after`: objects and labelled voxels."""
    return {
        "before": {"objects": before[0], "labelled_voxels": before[1]},
        **counts,
        "after": {"objects": after[0], "labelled_voxels": after[1]},
    }
