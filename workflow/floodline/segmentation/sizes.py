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
    ids, sizes = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for part in parts:
        new_ids, new_sizes = fastremap.unique(part, return_counts=True)
        ids, group = np.unique(np.concatenate([ids, new_ids.astype(np.uint64)]), return_inverse=True)
        sizes = np.concatenate([sizes, new_sizes.astype(np.int64)])
        sizes = np.bincount(group, weights=sizes, minlength=len(ids)).astype(np.int64)
    return ids[ids != 0], sizes[ids != 0]
