"""How much the scores depend on the part of tissue that happened to be labelled: intervals by resampling tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floodline.segmentation.contingency import Table, add
from floodline.segmentation.scores import score

SCORES = ("voi_split", "voi_merge", "adapted_rand_error")
LEVEL = 0.95


def intervals(tables: Sequence[Table], samples: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Percentile intervals of the scores over tiles drawn with replacement.

    Tiles of one tissue are not independent, and objects cross them: the intervals are a lower bound of what another
    tissue would show.

    Args:
        tables: contingency table of each tile, with the voxels of one convention.
        samples: number of resamplings.
        rng: decides which tiles are drawn.

    Returns:
        [low, high] of each score; nothing with fewer than two tiles, no voxels or no samples.
    """
    whole = add(tables)
    if len(tables) < 2 or whole.voxels == 0 or samples == 0:
        return {}
    tile = np.repeat(np.arange(len(tables)), [len(table.count) for table in tables])
    row = _rows(tables)
    count = np.concatenate([table.count for table in tables])
    found = []
    for _ in range(samples):
        drawn = np.bincount(rng.integers(0, len(tables), len(tables)), minlength=len(tables))
        resampled = np.bincount(row, weights=count * drawn[tile], minlength=len(whole.count)).astype(np.int64)
        scores = score(Table(whole.a, whole.b, resampled).where(resampled > 0))
        found.append([getattr(scores, name) for name in SCORES])
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {name: [float(low[i]), float(high[i])] for i, name in enumerate(SCORES)}


def _rows(tables: Sequence[Table]) -> np.ndarray:
    """Place in the sum of all tables of each row of each of them, one table after the other."""
    a, b = (np.concatenate([getattr(table, name) for table in tables]) for name in ("a", "b"))
    order = np.lexsort((b, a))
    new = (np.diff(a[order], prepend=a[order[:1]]) != 0) | (np.diff(b[order], prepend=b[order[:1]]) != 0)
    rows = np.empty(len(order), np.int64)
    rows[order] = np.cumsum(new)
    return rows
