"""Split consensus: what two segmentations of the same volume both hold together."""

from __future__ import annotations

import numpy as np

from floodline.segmentation.contingency import Table, tabulate


def split(a: np.ndarray, b: np.ndarray, min_size: int, whole: int = 0) -> None:
    """Split every object of `a`, in place, where `b` does (google/ffn, `split_segmentation_by_intersection`).

    Of each object of `a`, the part that shares most voxels with one object of `b`, or with b's background, keeps its
    id; among equal ones that of the smallest id of `b` does. Every other part gets a new id above all of `a`'s. Parts
    of fewer voxels than `min_size` become background, the largest ones too. Background of `a` stays background.

    Args:
        a: ids below 2^31 (z, y, x), 0 is background.
        b: same shape, ids below 2^31.
        whole: objects 1 .. whole of `a` stay as they are.
    """
    pairs = tabulate(a, b)
    ids = _new_ids(pairs, min_size, whole)
    width = int(pairs.b.max(initial=0)) + 1
    keys = pairs.a.astype(np.int64) * width + pairs.b.astype(np.int64)  # rising, as the pairs are
    for slice_a, slice_b in zip(a, b, strict=True):
        slice_a[:] = ids[np.searchsorted(keys, slice_a.astype(np.int64) * width + slice_b)]


def _new_ids(pairs: Table, min_size: int, whole: int) -> np.ndarray:
    """The id of each pair's voxels."""
    a, b = pairs.a.astype(np.int64), pairs.b.astype(np.int64)
    best_first = np.lexsort((b, -pairs.count, a))
    largest = np.zeros(len(a), bool)
    largest[best_first[np.unique(a[best_first], return_index=True)[1]]] = True
    stays = (a > whole) & (pairs.count >= min_size)
    ids = np.where((stays & largest) | (a <= whole), a, 0)
    order = np.lexsort((a, b))
    fresh = order[(stays & ~largest)[order]]
    ids[fresh] = a.max(initial=0) + 1 + np.arange(len(fresh))
    return ids
