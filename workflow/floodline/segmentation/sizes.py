"""Sizes of objects, from the parts of a volume."""

from __future__ import annotations

from collections.abc import Iterable

import fastremap
import numpy as np


def label_sizes(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Labels other than 0 and the voxels of each, over all parts together.

    Returns:
        ids: rising, uint64.
        sizes: int64.
    """
    ids, sizes = add_sizes(fastremap.unique(part, return_counts=True) for part in parts)
    return ids[ids != 0], sizes[ids != 0]


def add_sizes(tables: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and the sum of their sizes over all tables, each of ids and sizes; types and order as above."""
    ids, sizes = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for new_ids, new_sizes in tables:
        ids, group = np.unique(np.concatenate([ids, new_ids.astype(np.uint64)]), return_inverse=True)
        sizes = np.concatenate([sizes, new_sizes.astype(np.int64)])
        sizes = np.bincount(group, weights=sizes, minlength=len(ids)).astype(np.int64)
    return ids, sizes
