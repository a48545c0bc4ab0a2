"""Split consensus: what two segmentations of the same volume both hold together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floodline.segmentation.contingency import add, tabulate


@dataclass(frozen=True)
class Split:
    """What becomes of the voxels that an object of `a` and one of `b`, or b's background, share: a row for each pair.

    Rows are sorted by `a`, then `b`; all arrays are (n,) int64.
    """

    a: np.ndarray
    b: np.ndarray
    voxels: np.ndarray
    id: np.ndarray
    """The part's new id; 0 where it is background."""

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The new ids of voxels that have these in the two segmentations."""
        width = int(self.b.max(initial=0)) + 1
        keys = self.a * width + self.b  # rising, as the rows are
        return self.id[np.searchsorted(keys, a.astype(np.int64) * width + b)]

    def heirs(self, parents: np.ndarray) -> np.ndarray:
        """The largest part of each id of `a`, or of `b`: pass that column. 0 for background and where no part is left.

        Of equally large parts it is the one with the smallest id.
        """
        rows = np.flatnonzero((self.id > 0) & (parents > 0))
        rows = rows[np.lexsort((-self.id[rows], self.voxels[rows]))]
        heirs = np.zeros(int(parents.max(initial=0)) + 1, np.int64)
        heirs[parents[rows]] = self.id[rows]  # the last one of an id counts
        return heirs


def split(a: np.ndarray, b: np.ndarray, min_size: int, whole: int = 0) -> Split:
    """How every object of `a` is split where `b` does (google/ffn, `split_segmentation_by_intersection`).

    Of each object of `a`, the part that shares most voxels with one object of `b`, or with b's background, keeps its
    id; among equal ones that of the smallest id of `b` does. Every other part gets a new id above all of `a`'s. Parts
    of fewer voxels than `min_size` become background, the largest ones too. Background of `a` stays background.

    Args:
        a: ids below 2^31 (z, y, x), 0 is background.
        b: same shape, ids below 2^31.
        whole: objects 1 .. whole of `a` stay as they are.
    """
    # Slice by slice: of whole volumes it would take as many bytes a voxel again.
    pairs = add(tabulate(one, other) for one, other in zip(a, b, strict=True))
    a, b = pairs.a.astype(np.int64), pairs.b.astype(np.int64)
    best_first = np.lexsort((b, -pairs.count, a))
    largest = np.zeros(len(a), bool)
    largest[best_first[np.unique(a[best_first], return_index=True)[1]]] = True
    stays = (a > whole) & (pairs.count >= min_size)
    ids = np.where((stays & largest) | (a <= whole), a, 0)
    order = np.lexsort((a, b))
    fresh = order[(stays & ~largest)[order]]
    ids[fresh] = a.max(initial=0) + 1 + np.arange(len(fresh))
    return Split(a, b, pairs.count, ids)
