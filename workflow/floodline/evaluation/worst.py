"""The largest mergers and splits, with the place to look at: what a person proofreads first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import edt
import numpy as np
from scipy.ndimage import find_objects

from floodline.evaluation.scan import Scan
from floodline.evaluation.skeletons import Read, Size
from floodline.geometry import Box, to_zyx
from floodline.segmentation.contingency import Table

MARGIN_XYZ = (8, 8, 8)
"""Voxels around a piece, and around the tile that holds it, in which the other side of the mistake is looked for."""

Pair = tuple[int, int]
"""A neuron and a segment: the voxels that belong to both."""


@dataclass(frozen=True)
class Mistake:
    """A piece that is on the wrong side. A merger joins the pieces of two neurons; a split parts one neuron's."""

    kind: Literal["merger", "split"]
    piece: Pair
    rest: Pair
    """For a merger the piece that most of the segment is, for a split the one that most of the neuron is."""
    voxels: int
    """Size of the piece."""


def find(table: Table, count: int) -> list[Mistake]:
    """The largest mergers and the largest splits, `count` of each at most, largest first.

    Args:
        table: contingency table of the truth and a segmentation.
        count: how many of each kind.
    """
    table = table.where((table.a != 0) & (table.b != 0))
    return [
        *_largest("merger", table, _main_row(table.b, table.count), count),
        *_largest("split", table, _main_row(table.a, table.count), count),
    ]


def _main_row(groups: np.ndarray, count: np.ndarray) -> np.ndarray:
    """For each row the row of its group that has most voxels (the first of equals)."""
    order = np.lexsort((np.arange(len(count)), -count, groups))
    _, first, group = np.unique(groups[order], return_index=True, return_inverse=True)
    main = np.empty(len(count), np.int64)
    main[order] = order[first][group]
    return main


def _largest(kind: Literal["merger", "split"], table: Table, main: np.ndarray, count: int) -> list[Mistake]:
    pieces = np.flatnonzero(main != np.arange(len(main)))
    largest = pieces[np.argsort(-table.count[pieces], kind="stable")][:count]

    def pair(row: int) -> Pair:
        return int(table.a[row]), int(table.b[row])

    return [Mistake(kind, pair(row), pair(main[row]), int(table.count[row])) for row in largest]


def locate(
    mistakes: Sequence[Mistake],
    found: Scan,
    truth: Read,
    segmentation: Read,
    box: Box,
    voxel_size_nm_xyz: Size,
) -> list[list[int]]:
    """Where to look at each mistake: the voxel of the piece that comes closest to the rest.

    They need not touch: floods leave gaps. The rest is looked for near the voxels of the piece; where it is not near
    any of them, a voxel in the middle of the piece is the place.

    Args:
        mistakes: what to locate.
        found: the scan that they come from.
        truth, segmentation: read labels (z, y, x) of a box.
        box: what was scanned.
        voxel_size_nm_xyz: for distances.

    Returns:
        x, y, z of each.
    """
    best: list[tuple[float, int, list[int]]] = [(np.inf, 0, [])] * len(mistakes)
    for tile, table in zip(found.tiles, found.tables, strict=True):
        held = set(zip(table.a.tolist(), table.b.tolist(), strict=True))
        here = [i for i, mistake in enumerate(mistakes) if mistake.piece in held]
        if not here:
            continue
        around = tile.grown(MARGIN_XYZ).intersection(box)
        a, b = truth(around), segmentation(around)
        for i in here:
            piece, rest = _mask(a, b, mistakes[i].piece), _mask(a, b, mistakes[i].rest)
            best[i] = min(best[i], _closest(piece, rest, around, voxel_size_nm_xyz))
    return [place for _, _, place in best]


def _mask(truth: np.ndarray, segmentation: np.ndarray, pair: Pair) -> np.ndarray:
    return (truth == pair[0]) & (segmentation == pair[1])


def _closest(piece: np.ndarray, rest: np.ndarray, box: Box, voxel_size_nm_xyz: Size) -> tuple[float, int, list[int]]:
    """Distance of piece and rest, minus the number of voxels of the piece at that distance, and one of them: the one
    nearest to the middle of all of them."""
    near = _near(piece)
    if rest[near].any():
        distances = edt.edt(~rest[near], anisotropy=voxel_size_nm_xyz[::-1])
        nearest = float(distances[piece[near]].min())
        places = np.argwhere(piece[near] & (distances <= nearest))
    else:
        nearest = np.inf
        places = np.argwhere(piece[near])
    middle = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
    first = np.array([s.start for s in near])
    return nearest, -len(places), [int(p) for p in (middle + first)[::-1] + np.array(box.start_xyz)]


def _near(piece: np.ndarray) -> tuple[slice, ...]:
    """The piece's bounding box with a margin."""
    (extent,) = find_objects(piece.view(np.uint8))
    margin_zyx = to_zyx(MARGIN_XYZ)
    return tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(extent, margin_zyx, strict=True))


def records(mistakes: Sequence[Mistake], places_xyz: Sequence[list[int]]) -> list[dict[str, Any]]:
    """Plain data for worst.json: kind, voxels, place, and the neurons and segments, those of the piece first."""
    return [
        {
            "kind": mistake.kind,
            "voxels": mistake.voxels,
            "position_xyz": place,
            "neurons": list(dict.fromkeys([mistake.piece[0], mistake.rest[0]])),
            "segments": list(dict.fromkeys([mistake.piece[1], mistake.rest[1]])),
        }
        for mistake, place in zip(mistakes, places_xyz, strict=True)
    ]
