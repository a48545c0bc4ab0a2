"""From what the overlaps say to supervoxels.

Objects of all sub-volumes are numbered through as *pieces*; the joined pairs of all overlaps are edges, and a
supervoxel is a connected component of pieces.

Two pieces of one sub-volume can come together through a third piece in its neighbour: a neuron that leaves and comes
back (a U-turn), or a false merger in the neighbour. The overlap shows which where it shows anything: an object that
holds in one connected part what the other sub-volume keeps apart is contested, and its other joins are doubtful too; so
are joins that rest on a match that is not firm (matching.py). The key `assembly.through_neighbour` says what becomes of
such joins:

always              all are made;
unless_contradicted of several partners in one neighbour, a piece keeps the one with which it shares most voxels, and
                    another one only if the piece is not contested and the match is firm;
never               no supervoxel holds two pieces of one sub-volume, on whatever way they would come together: where
                    some would, joins are made by falling number of shared voxels, and a join that would bring such
                    two together is left out.

A file of pairs (segmentation/pairs.py) overrules all this. Pairs to force are joined before everything else; where two
pieces that are to stay apart would come together, joins are made by falling number of shared voxels as above, without
those that would bring them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floodline.assembly.grid import Overlap
from floodline.assembly.matching import Match, Objects
from floodline.segmentation.pairs import NONE, Wishes
from floodline.segmentation.union_find import unite


@dataclass(frozen=True)
class Pieces:
    """The objects of all sub-volumes, one a row, by sub-volume and id."""

    subvolume: np.ndarray
    """(n,): index of the sub-volume."""
    id: np.ndarray
    """(n,): id inside the sub-volume."""
    voxels: np.ndarray
    """(n,): voxels inside the sub-volume."""
    first: np.ndarray
    """(sub-volumes + 1,): row of each sub-volume's first piece; then the number of pieces."""

    @classmethod
    def of(cls, objects: list[Objects]) -> Pieces:
        counts = [len(one.ids) for one in objects]
        return cls(
            subvolume=np.repeat(np.arange(len(objects)), counts),
            id=np.concatenate([np.zeros(0, np.int64), *(one.ids for one in objects)]),
            voxels=np.concatenate([np.zeros(0, np.int64), *(one.sizes for one in objects)]),
            first=np.cumsum([0, *counts]),
        )

    def rows(self, subvolume: int, ids: np.ndarray) -> np.ndarray:
        """Rows of ids of one sub-volume."""
        start, stop = self.first[subvolume], self.first[subvolume + 1]
        return start + np.searchsorted(self.id[start:stop], ids)


@dataclass(frozen=True)
class Contacts:
    """All pairs of pieces that share voxels in an overlap, one a row."""

    pairs: np.ndarray
    """(n, 2): pieces."""
    voxels: np.ndarray
    """(n,): voxels they share."""
    sizes: np.ndarray
    """(n, 2): voxels of either in the overlap."""
    joined: np.ndarray
    """(n,) bool: whether the rule makes them one."""
    firm: np.ndarray
    """(n,) bool: whether the match is firm."""
    contested: np.ndarray
    """(pieces,) bool: whether a piece has a contested part in any overlap."""

    @classmethod
    def of(cls, matches: list[tuple[Overlap, Match]], pieces: Pieces) -> Contacts:
        pairs = [
            np.stack([pieces.rows(at.lower, one.pairs[:, 0]), pieces.rows(at.upper, one.pairs[:, 1])], axis=1)
            for at, one in matches
        ]
        contested = np.zeros(len(pieces.id), bool)
        for at, one in matches:
            contested[pieces.rows(at.lower, one.contested[0])] = True
            contested[pieces.rows(at.upper, one.contested[1])] = True
        return cls(
            pairs=np.concatenate([np.zeros((0, 2), np.int64), *pairs]),
            voxels=np.concatenate([np.zeros(0, np.int64), *(one.voxels for _, one in matches)]),
            sizes=np.concatenate([np.zeros((0, 2), np.int64), *(one.sizes for _, one in matches)]),
            joined=np.concatenate([np.zeros(0, bool), *(one.joined for _, one in matches)]),
            firm=np.concatenate([np.zeros(0, bool), *(one.firm for _, one in matches)]),
            contested=contested,
        )


@dataclass(frozen=True)
class Joining:
    """Which piece is which supervoxel."""

    supervoxel: np.ndarray
    """(pieces,): 1, 2, 3, ... in the order of each one's first piece."""
    counts: dict[str, int]
    """For the manifest."""


def join(pieces: Pieces, contacts: Contacts, through_neighbour: str, wishes: Wishes = NONE) -> Joining:
    """Join pieces into supervoxels.

    Args:
        through_neighbour: the configuration's `assembly.through_neighbour`.
        wishes: pairs of pieces to force together, and to keep apart.
    """
    pairs, voxels, firm = (values[contacts.joined] for values in (contacts.pairs, contacts.voxels, contacts.firm))
    turns = _turns(pairs, voxels, firm, pieces.subvolume, contacts.contested)
    wanted = ~turns.doubtful if through_neighbour == "unless_contradicted" else np.ones(len(pairs), bool)
    made, voxels = pairs[wanted], voxels[wanted]
    root = plain = _roots(made, len(pieces.id))
    if through_neighbour == "never" or len(wishes.forced) or len(wishes.forbidden):
        together = _roots(np.concatenate([wishes.forced, made]), len(pieces.id))
        in_question = _holding(together, wishes.forbidden)
        if through_neighbour == "never":
            in_question = np.union1d(in_question, _repeated(together, pieces.subvolume))
        apart = _Apart(pieces.subvolume if through_neighbour == "never" else None, wishes)
        made = _keep_apart(made, voxels, np.isin(together[made[:, 0]], in_question), apart)
        root = _roots(np.concatenate([wishes.forced, made]), len(pieces.id))
    _, supervoxel = np.unique(root, return_inverse=True)
    return Joining(
        supervoxel=supervoxel + 1,
        counts={
            "pieces": len(pieces.id),
            "pieces_contested": int(contacts.contested.sum()),
            "joins": len(made),
            "joins_left_out": len(pairs) - len(made),
            "u_turns": turns.uncontradicted,
            "u_turns_contradicted": turns.contradicted,
            "supervoxels_with_several_pieces_of_a_subvolume": len(_repeated(root, pieces.subvolume)),
            "pairs_forced": len(wishes.forced),
            "pairs_forced_that_were_apart": int((plain[wishes.forced[:, 0]] != plain[wishes.forced[:, 1]]).sum()),
            "pairs_forbidden": len(wishes.forbidden),
            "pairs_forbidden_that_were_together": len(_holding(plain, wishes.forbidden)),
        },
    )


def _roots(pairs: np.ndarray, pieces: int) -> np.ndarray:
    """For each piece the smallest piece that it is joined with."""
    root = np.arange(pieces)
    joined, roots = unite(pairs)
    root[joined] = roots
    return root


def _repeated(root: np.ndarray, subvolume: np.ndarray) -> np.ndarray:
    """Roots that hold two pieces of one sub-volume."""
    subvolumes = int(subvolume.max(initial=0)) + 1
    key, count = np.unique(root * subvolumes + subvolume, return_counts=True)
    return np.unique(key[count > 1] // subvolumes)


@dataclass(frozen=True)
class _Turns:
    """Joins of one piece with several pieces of one neighbour."""

    uncontradicted: int
    contradicted: int
    doubtful: np.ndarray
    """(joins,) bool: of a piece with one neighbour, all but the strongest that are contested or not firm."""


def _turns(
    pairs: np.ndarray, voxels: np.ndarray, firm: np.ndarray, subvolume: np.ndarray, contested: np.ndarray
) -> _Turns:
    subvolumes = int(subvolume.max(initial=0)) + 1
    turns = contradicted = 0
    doubtful = np.zeros(len(pairs), bool)
    for piece, partner in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
        key, group, partners = np.unique(
            piece * subvolumes + subvolume[partner], return_inverse=True, return_counts=True
        )
        most = np.zeros(len(key), np.int64)
        np.maximum.at(most, group, voxels)
        is_most = voxels == most[group]
        # Of equals neither is the strongest: a choice between them would depend on their ids.
        is_strongest = is_most & (np.bincount(group, is_most)[group] == 1)
        one_too_many = (partners > 1)[group] & (contested[piece] | ~firm) & ~is_strongest
        turns += int((partners > 1).sum())
        contradicted += len(np.unique(group[one_too_many]))
        doubtful |= one_too_many
    return _Turns(turns - contradicted, contradicted, doubtful)


def _holding(root: np.ndarray, forbidden: np.ndarray) -> np.ndarray:
    """Roots that hold both pieces of a pair, one for each such pair."""
    of_pair = root[forbidden]
    return of_pair[of_pair[:, 0] == of_pair[:, 1], 0]


class _Apart:
    """Groups of pieces, joined step by step, and which of them must not become one."""

    def __init__(self, subvolume: np.ndarray | None, wishes: Wishes) -> None:
        self.subvolume = subvolume
        self.enemies: dict[int, set[int]] = {}
        for a, b in wishes.forbidden.tolist():
            self.enemies.setdefault(a, set()).add(b)
            self.enemies.setdefault(b, set()).add(a)
        self.head: dict[int, int] = {}
        self.members: dict[int, list[int]] = {}
        self.held: dict[int, set[int]] = {}
        self.hostile: dict[int, set[int]] = {}
        for a, b in wishes.forced.tolist():
            self.join(a, b, forced=True)

    def _group(self, piece: int) -> int:
        if piece not in self.head:
            self.head[piece], self.members[piece] = piece, [piece]
            self.held[piece] = set() if self.subvolume is None else {int(self.subvolume[piece])}
            self.hostile[piece] = set(self.enemies.get(piece, ()))
        return self.head[piece]

    def join(self, a: int, b: int, forced: bool = False) -> bool:
        """Make the groups of two pieces one, unless that is forbidden; whether they are one now."""
        large, small = sorted((self._group(a), self._group(b)), key=lambda group: -len(self.members[group]))
        if large == small:
            return True
        met = not self.held[large].isdisjoint(self.held[small])
        if not forced and (met or any(self.head.get(one) == large for one in self.hostile[small])):
            return False
        self.held[large] |= self.held[small]
        self.hostile[large] |= self.hostile[small]
        self.members[large] += self.members[small]
        self.head.update(dict.fromkeys(self.members[small], large))
        return True


def _keep_apart(pairs: np.ndarray, voxels: np.ndarray, in_question: np.ndarray, apart: _Apart) -> np.ndarray:
    """The joins that can be made, strongest first; those that are not in question are all made.

    Equally strong ones are taken in the order of the overlaps and of the places in them, which no ids decide.
    """
    rows = np.flatnonzero(in_question)
    rows = rows[np.argsort(-voxels[rows], kind="stable")]
    made = ~in_question
    made[rows] = [apart.join(a, b) for a, b in pairs[rows].tolist()]
    return pairs[made]
