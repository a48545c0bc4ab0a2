"""Pairs of places that a person says are one object, or are two: files that correct what a stage would decide.

A file is a table (CSV) with the columns `action` (force or forbid), `ax`, `ay`, `az`, `bx`, `by`, `bz`: two voxels in
the image source's coordinates. Places, unlike ids, stay valid when a volume is segmented again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple, triple
from floodline.segmentation.union_find import unite

ACTIONS = ("force", "forbid")
COLUMNS = ["ax", "ay", "az", "bx", "by", "bz"]


@dataclass(frozen=True)
class Wishes:
    """What is to be one and what is not, as pairs of objects (whatever number an object has)."""

    forced: np.ndarray
    """(n, 2) int64."""
    forbidden: np.ndarray
    """(n, 2) int64; no two of them are forced together."""


NONE = Wishes(np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64))


def read_wishes(path: str | None, box: Box, object_at: Callable[[Triple], int]) -> Wishes:
    """Read a file of pairs.

    Args:
        path: the file; None: no wishes.
        box: the volume.
        object_at: the object at a voxel x, y, z; negative where there is none.

    Raises:
        FloodlineError: the file is missing or is no such table; a place lies outside the volume or in no object; or the
            wishes contradict each other or cannot be fulfilled.
    """
    if path is None:
        return NONE
    table = _read(Path(path))
    objects = np.full((len(table), 2), -1, np.int64)
    for row, places in enumerate(table[COLUMNS].to_numpy().reshape(-1, 2, 3)):
        for side, place in enumerate(places):
            x, y, z = place_xyz = triple(place)
            if not box.contains_point(place_xyz):
                raise FloodlineError(f"{path}, pair {row + 1}: ({x}, {y}, {z}) lies outside the volume, {box}.")
            objects[row, side] = object_at(place_xyz)
            if objects[row, side] < 0:
                raise FloodlineError(f"{path}, pair {row + 1}: there is no object at ({x}, {y}, {z}).")
    is_forced = (table["action"] == "force").to_numpy()
    wishes = Wishes(objects[is_forced], objects[~is_forced])
    _check(wishes, path, np.flatnonzero(~is_forced) + 1)
    return wishes


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except FileNotFoundError:
        raise FloodlineError(f"{path}, the file of pairs, does not exist.") from None
    except (OSError, ValueError) as error:
        raise FloodlineError(f"{path} cannot be read as a table of pairs: {' '.join(str(error).split())}.") from None
    missing = [name for name in ("action", *COLUMNS) if name not in table]
    if missing:
        raise FloodlineError(f"{path} lacks the column {missing[0]}: it needs action, {', '.join(COLUMNS)}.")
    unknown = table.loc[~table["action"].isin(ACTIONS), "action"]
    if len(unknown):
        raise FloodlineError(f"{path}: the action '{unknown.iloc[0]}' is unknown; force and forbid are known.")
    if not all(pd.api.types.is_integer_dtype(table[name]) for name in COLUMNS) and len(table):
        raise FloodlineError(f"{path}: {', '.join(COLUMNS)} must be whole numbers, voxels of the image.")
    return table


def _check(wishes: Wishes, path: str, numbers: np.ndarray) -> None:
    """Refuse forbidden pairs that are one object already, or that are forced together."""
    ids, roots = unite(np.concatenate([wishes.forced, wishes.forbidden[:, :1].repeat(2, axis=1)]))
    root = dict(zip(ids.tolist(), roots.tolist(), strict=True))
    for number, (a, b) in zip(numbers.tolist(), wishes.forbidden.tolist(), strict=True):
        if a == b:
            raise FloodlineError(f"{path}, pair {number}: both places lie in one object, which cannot be parted here.")
        if root.get(a, a) == root.get(b, b):
            raise FloodlineError(f"{path}, pair {number}: it forbids what other pairs of the file force together.")
