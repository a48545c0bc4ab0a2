"""The rule that joins objects of two overlapping sub-volumes.

Inside the overlap every object of either sub-volume falls into connected *parts* (6-connected). A part p of object a
in the one sub-volume and a part q of object b in the other make a and b one when

1. of the voxels of p that both sub-volumes segmented, b holds at least `min_agreement`, and the same with p and q, a
   and b exchanged; more than a half, so that a part has one partner at most: where one sub-volume holds in one part
   what the other keeps apart, that part joins one of them or none;
2. p and q share at least `min_overlap_fraction` of the smaller one's voxels, and `min_overlap_voxels`: two parts that
   only brush each other along a border are not one;
3. p and q are not both *islands*: specks inside the overlap of objects that reach beyond it elsewhere.

The rule is symmetric in the two sub-volumes, asks about one overlap at a time and therefore does not depend on any
order. Unsegmented voxels count neither for nor against agreement (1), since a flood covers little near its
sub-volume's faces. When both sub-volumes cut the same connected objects, their parts are equal in pairs, and the rule
finds exactly those pairs, down to an overlap of one voxel. Shares of whole objects would not do: an object that enters
the overlap twice has two partners wherever the neighbour cannot see that the two are one.

A part is *contested* when nobody holds `min_agreement` of it though at least two objects of the neighbour lie mostly
inside its object: either its object is a false merger, or the neighbour splits it falsely. One overlap cannot tell
these two apart; nothing is joined there, and the object is not trusted to join others (see joining.py).

A match is *firm* if two parts share `min_overlap_fraction` of the larger one's voxels, too. Parts of the same connected
object always do. A match that is not firm may be a speck of the one object inside a large part of the other, where the
first sub-volume happened to segment nothing else: enough for two objects that have no other partner, and too little for
joining a second one (see joining.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np

from floodline.config import Assembly
from floodline.segmentation.contingency import tabulate


@dataclass(frozen=True)
class Objects:
    """The objects of a sub-volume."""

    ids: np.ndarray
    """(n,): ids, rising, without 0."""
    sizes: np.ndarray
    """(n,): voxels of each in the whole sub-volume."""

    @classmethod
    def of(cls, segmentation: np.ndarray) -> Objects:
        ids, sizes = np.unique(segmentation, return_counts=True)
        return cls(ids[ids > 0].astype(np.int64), sizes[ids > 0])

    def index(self, ids: np.ndarray) -> np.ndarray:
        """Where ids stand in the list."""
        return np.searchsorted(self.ids, ids)


@dataclass(frozen=True)
class Match:
    """What one overlap says about pairs of objects that share voxels, one a row.

    The first column of a pair stands for the lower sub-volume, the second for the upper one.
    """

    pairs: np.ndarray
    """(n, 2): ids; no row twice, in the order of the places where the two meet first, whatever the ids are."""
    voxels: np.ndarray
    """(n,): voxels that the two share."""
    sizes: np.ndarray
    """(n, 2): voxels of either in the overlap."""
    joined: np.ndarray
    """(n,) bool: whether the rule makes them one."""
    firm: np.ndarray
    """(n,) bool: whether it does so firmly."""
    contested: tuple[np.ndarray, np.ndarray]
    """Ids of the lower, and of the upper sub-volume that have a contested part."""


def match(
    lower: np.ndarray, upper: np.ndarray, lower_objects: Objects, upper_objects: Objects, rule: Assembly
) -> Match:
    """Compare two sub-volumes in their overlap.

    Args:
        lower: ids of the one sub-volume in the overlap, z, y, x; 0 is unsegmented.
        upper: ids of the other, same shape.
        lower_objects: the objects of the whole sub-volume.
        upper_objects: the same of the other.
        rule: the limits of the rule.
    """
    a, b = _Parts(lower, lower_objects), _Parts(upper, upper_objects)
    table = tabulate(a.labels, b.labels)
    table = table.where((table.a > 0) & (table.b > 0))
    p, q, shared = table.a.astype(np.int64), table.b.astype(np.int64), table.count
    object_a, object_b = a.object[p], b.object[q]

    p_in_b, q_in_a = _sums(shared, p, object_b), _sums(shared, q, object_a)
    p_agrees = p_in_b >= rule.min_agreement * _sums(shared, p)
    q_agrees = q_in_a >= rule.min_agreement * _sums(shared, q)
    smaller = np.minimum(a.size[p], b.size[q])
    enough = (shared >= rule.min_overlap_fraction * smaller) & (shared >= rule.min_overlap_voxels)
    matched = p_agrees & q_agrees & enough & ~(a.is_island[p] & b.is_island[q])
    is_firm = matched & (shared >= rule.min_overlap_fraction * np.maximum(a.size[p], b.size[q]))

    p_lies_in_b = p_agrees & (p_in_b >= rule.min_overlap_fraction * a.size[p])
    q_lies_in_a = q_agrees & (q_in_a >= rule.min_overlap_fraction * b.size[q])
    pairs, row = _unique_by_place(np.stack([object_a, object_b], axis=1))
    return Match(
        pairs=pairs,
        voxels=np.bincount(row, shared, len(pairs)).astype(np.int64),
        sizes=np.stack([a.object_sizes[lower_objects.index(pairs[:, 0])],
                        b.object_sizes[upper_objects.index(pairs[:, 1])]], axis=1),
        joined=np.bincount(row, matched, len(pairs)) > 0,
        firm=np.bincount(row, is_firm, len(pairs)) > 0,
        contested=(
            np.unique(a.object[_contested(p, p_agrees, object_b, q_lies_in_a)]),
            np.unique(b.object[_contested(q, q_agrees, object_a, p_lies_in_b)]),
        ),
    )  # fmt: skip


class _Parts:
    """Connected parts of one sub-volume's objects in an overlap; arrays are indexed by part, and 0 is no part."""

    def __init__(self, ids: np.ndarray, objects: Objects) -> None:
        # Of an array that is not contiguous, cc3d 4.1 returns wrong components now and then.
        ids = np.ascontiguousarray(ids)
        self.labels, count = cc3d.connected_components(ids, connectivity=6, return_N=True)
        self.size = np.bincount(self.labels.ravel(), minlength=count + 1)
        self.object = np.zeros(count + 1, np.int64)
        self.object[self.labels] = ids
        index = objects.index(self.object[1:])
        self.object_sizes = np.bincount(index, self.size[1:], len(objects.ids)).astype(np.int64)
        inside = np.ones(count + 1, bool)
        for axis in range(3):
            inside[np.take(self.labels, [0, -1], axis)] = False
        self.is_island = inside & np.append(False, (self.object_sizes < objects.sizes)[index])


def _sums(values: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """For each row the sum of the values of all rows with the same keys."""
    _, group = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    group = group.ravel()
    return np.bincount(group, values)[group]


def _unique_by_place(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows in the order in which they occur first, and which of them each row is."""
    unique, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return unique[order], rank[inverse.ravel()]


def _contested(
    part: np.ndarray, agrees: np.ndarray, partner: np.ndarray, partner_lies_inside: np.ndarray
) -> np.ndarray:
    """Parts that no partner holds `min_agreement` of, and inside whose object at least two partners mostly lie."""
    inside = np.unique(np.stack([part, partner], axis=1)[partner_lies_inside], axis=0)
    parts, partners = np.unique(inside[:, 0], return_counts=True)
    return np.setdiff1d(parts[partners > 1], part[agrees])
