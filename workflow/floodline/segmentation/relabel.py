"""Giving the objects of a label volume other ids."""

from __future__ import annotations

import fastremap
import numpy as np


def apply_mapping(labels: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replace every label that is a key by its value; other labels, 0 among them, stay as they are.

    The mapping may be far larger than the array's own set of labels: only those present are looked up.

    Args:
        labels: non-negative integers of any shape.
        keys: the labels to replace, rising, each once.
        values: what replaces each of them.

    Returns:
        The new labels, uint64, same shape.
    """
    present = fastremap.unique(labels)
    table = dict(zip(present.tolist(), map_ids(present, keys, values).tolist(), strict=True))
    return fastremap.remap(labels.astype(np.uint64), table, in_place=True)


def map_ids(ids: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`apply_mapping` for a list of ids: one binary search an id, which volumes are too large for."""
    ids, keys, values = (np.asarray(array, np.uint64) for array in (ids, keys, values))
    if len(keys) == 0:
        return ids
    place = np.minimum(np.searchsorted(keys, ids), len(keys) - 1)
    return np.where(keys[place] == ids, values[place], ids)


def compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the labels of an array 1, 2, 3, ... in the order in which they occur first; 0 stays 0.

    Returns:
        numbers: same shape, in a small integer dtype that holds them.
        ids: the label that each number stands for, so that `ids[numbers]` is `labels`; `ids[0]` is 0.
    """
    numbers, table = fastremap.renumber(labels)
    ids = np.zeros(len(table.keys() | {0}), labels.dtype)
    ids[list(table.values())] = list(table.keys())
    return numbers, ids
