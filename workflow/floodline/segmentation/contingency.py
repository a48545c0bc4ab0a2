"""Contingency tables: how many voxels two label volumes share, pair of labels by pair of labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Table:
    """A sparse contingency table. Rows are unique and sorted by `a`, then `b`, so equal tables have equal arrays.

    Label 0 is a label like any other here; what it means is for the scores to say.
    """

    a: np.ndarray
    """(n,) uint64: labels of the first volume (the truth, where there is one)."""
    b: np.ndarray
    """(n,) uint64: labels of the second volume."""
    count: np.ndarray
    """(n,) int64: voxels that hold `a` in the first volume and `b` in the second."""

    @property
    def voxels(self) -> int:
        return int(self.count.sum())

    def where(self, keep: np.ndarray) -> Table:
        """The rows for which `keep` (n booleans) holds."""
        return Table(self.a[keep], self.b[keep], self.count[keep])


EMPTY = Table(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


def tabulate(a: np.ndarray, b: np.ndarray) -> Table:
    """The table of two label arrays of equal shape (non-negative integers)."""
    if a.shape != b.shape:
        raise ValueError(f"label arrays of different shapes, {a.shape} and {b.shape}, share no voxels")
    if a.size == 0:
        return EMPTY
    # Neighbours along x mostly hold the same pair: sorting runs is several times cheaper than sorting voxels.
    flat_a, flat_b = a.ravel(), b.ravel()
    starts = np.flatnonzero(np.append(True, (flat_a[1:] != flat_a[:-1]) | (flat_b[1:] != flat_b[:-1])))
    return _table(flat_a[starts], flat_b[starts], np.diff(starts, append=a.size))


def add(tables: Iterable[Table]) -> Table:
    """The table of a volume from those of its parts."""
    parts = [EMPTY, *tables]
    return _table(
        np.concatenate([part.a for part in parts]),
        np.concatenate([part.b for part in parts]),
        np.concatenate([part.count for part in parts]),
    )


def _table(a: np.ndarray, b: np.ndarray, count: np.ndarray) -> Table:
    """Sort the rows and add up those that name the same pair."""
    a, b, count = a.astype(np.uint64), b.astype(np.uint64), count.astype(np.int64)
    order = np.lexsort((b, a))
    a, b, count = a[order], b[order], count[order]
    if len(a) == 0:
        return Table(a, b, count)
    starts = np.flatnonzero(np.append(True, (a[1:] != a[:-1]) | (b[1:] != b[:-1])))
    return Table(a[starts], b[starts], np.add.reduceat(count, starts))
