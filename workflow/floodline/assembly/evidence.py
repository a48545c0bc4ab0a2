"""What the floods say about supervoxels that were not joined: whose flood covered whose object.

Three sources say it: inside a sub-volume, voxels of a new object's flood that an earlier object held already ("flood"),
and, with split consensus, objects that one of the two passes held in one ("pass"); between two sub-volumes, voxels that
each gave to another object ("neighbour"). Agglomeration takes all as evidence.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from floodline.assembly.joining import Contacts
from floodline.assembly.matching import Objects


def flood_overlaps(objects: Objects, overlaps: np.ndarray, first_piece: int) -> pd.DataFrame:
    """The overlaps of floods inside one sub-volume, between pieces.

    An object that came later counts with its whole flood, the voxels that earlier objects kept included.

    Args:
        objects: the sub-volume's objects.
        overlaps: (n, 3): id of the later object, id of the earlier one, voxels of the later one's flood that the
            earlier one held.
        first_piece: number of the sub-volume's first piece.

    Returns:
        Columns `a` (later), `b` (earlier), `voxels` (shared), `voxels_a`, `voxels_b`, `source`.
    """
    later, earlier, shared = overlaps.astype(np.int64).reshape(-1, 3).T
    later, earlier = objects.index(later), objects.index(earlier)
    flood = objects.sizes + np.bincount(later, shared, len(objects.ids)).astype(np.int64)
    return _table(first_piece + later, first_piece + earlier, shared, flood[later], objects.sizes[earlier], "flood")


def pass_overlaps(objects: Objects, held_together: np.ndarray, first_piece: int) -> pd.DataFrame:
    """The pairs of one sub-volume's objects that one pass held in one; they share as many voxels as the smaller has.

    Args:
        objects: the sub-volume's objects.
        held_together: (n, 2): their ids.
        first_piece: number of the sub-volume's first piece.
    """
    a, b = objects.index(held_together.astype(np.int64).reshape(-1, 2)).T
    sizes = objects.sizes[a], objects.sizes[b]
    return _table(first_piece + a, first_piece + b, np.minimum(*sizes), *sizes, "pass")


def neighbour_overlaps(contacts: Contacts) -> pd.DataFrame:
    """The same between neighbouring sub-volumes; `voxels_a` and `voxels_b` count in the overlap alone."""
    a, b = contacts.pairs.T
    return _table(a, b, contacts.voxels, contacts.sizes[:, 0], contacts.sizes[:, 1], "neighbour")


def of_supervoxels(tables: Iterable[pd.DataFrame], supervoxel: np.ndarray) -> pd.DataFrame:
    """Sum up the overlaps of pieces, supervoxel pair by supervoxel pair and source by source.

    Returns:
        Columns `a`, `b` (supervoxels, a < b), `source`, `voxels`, `covered_a`, `covered_b`: voxels that both held, and
        which fraction they are of either one's pieces that took part.
    """
    table = pd.concat(tables, ignore_index=True)
    a, b = supervoxel[table["a"]], supervoxel[table["b"]]
    swap = a > b
    table["a"], table["b"] = np.minimum(a, b), np.maximum(a, b)
    sizes = table[["voxels_a", "voxels_b"]].to_numpy()
    sizes[swap] = sizes[swap, ::-1]
    table["voxels_a"], table["voxels_b"] = sizes.T
    table = table[a != b].groupby(["a", "b", "source"], as_index=False).sum()
    return pd.DataFrame(
        {
            "a": table["a"].astype(np.uint64),
            "b": table["b"].astype(np.uint64),
            "source": table["source"],
            "voxels": table["voxels"],
            "covered_a": table["voxels"] / table["voxels_a"],
            "covered_b": table["voxels"] / table["voxels_b"],
        }
    )


def _table(
    a: np.ndarray, b: np.ndarray, voxels: np.ndarray, voxels_a: np.ndarray, voxels_b: np.ndarray, source: str
) -> pd.DataFrame:
    return pd.DataFrame(
        {"a": a, "b": b, "source": source, "voxels": voxels, "voxels_a": voxels_a, "voxels_b": voxels_b}
    )
