"""Connected pieces of labels, block by block: what cleaning must know of whole objects, without holding them.

Each block is read with one more layer of voxels on its upper sides. Its pieces are numbered, and two blocks' pieces are
one where they hold the same voxel of a shared plane. Objects are connected across corners, emptiness across faces only,
so that no diagonal line of one crosses one of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cc3d
import fastremap
import numpy as np

from floodline.geometry import Box, to_zyx
from floodline.segmentation.union_find import unite
from floodline.steps import Arrays


def grown(block: Box, whole: Box) -> Box:
    """The block with one more voxel on its upper sides, where the volume has one."""
    x, y, z = (min(b + 1, w) for b, w in zip(block.stop_xyz, whole.stop_xyz, strict=True))
    return Box(block.start_xyz, (x, y, z))


def numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected pieces of an array of labels (z, y, x), those of 0 included.

    Returns:
        numbers: uint32, from 1 on; no voxel has 0.
        label_of: (pieces + 1,) uint64, the label of each number.
    """
    # Of an array of one row that is a view of a larger one, cc3d 4.1.1 reads the wrong voxels.
    labels = np.ascontiguousarray(labels)
    objects, count = cc3d.connected_components(labels, connectivity=26, return_N=True, out_dtype=np.uint32)
    empty, more = cc3d.connected_components(labels == 0, connectivity=6, return_N=True, out_dtype=np.uint32)
    numbers = np.where(empty > 0, empty + np.uint32(count), objects)
    label_of = np.zeros(count + more + 1, np.uint64)
    label_of[numbers.ravel()] = labels.ravel()
    return numbers, label_of


def describe(labels: np.ndarray, block: Box, whole: Box, with_contacts: bool) -> Arrays:
    """What must be known of the pieces of a block.

    Args:
        labels: of the grown block, z, y, x.
        with_contacts: whether it must be known which pieces share a face.

    Returns:
        label_of, voxels (of the block itself), first (place of the first voxel in the order z, y, x of the whole
        volume), outside (whether the piece is on a face of the volume), each by the piece's number; contacts (n, 2);
        and for each axis the numbers on the block's lower plane and on the one shared with the block above.
    """
    numbers, label_of = numbered(labels)
    own = numbers[block.slices_zyx(block.start_xyz)]
    # Assigned from the last voxel to the first, so that the first one stays.
    local = np.zeros(len(label_of), np.int64)
    local[numbers.ravel()[::-1]] = np.arange(numbers.size)[::-1]
    z, y, x = (
        place + start
        for place, start in zip(np.unravel_index(local, numbers.shape), to_zyx(block.start_xyz), strict=True)
    )
    z0, y0, x0 = to_zyx(whole.start_xyz)
    outside = np.zeros(len(label_of), bool)
    result: Arrays = {
        "label_of": label_of,
        "voxels": np.bincount(own.ravel(), minlength=len(label_of)),
        "first": ((z - z0) * whole.shape_zyx[1] + (y - y0)) * whole.shape_zyx[2] + (x - x0),
        "outside": outside,
    }
    for axis, name in enumerate("zyx"):
        start, stop = (to_zyx(corner)[axis] for corner in (block.start_xyz, block.stop_xyz))
        first, last = (to_zyx(corner)[axis] for corner in (whole.start_xyz, whole.stop_xyz))
        lower, upper = numbers.take(0, axis), numbers.take(-1, axis)
        if start == first:
            outside[lower] = True
        else:
            result[f"lower_{name}"] = lower
        if stop == last:
            outside[upper] = True
        else:
            result[f"upper_{name}"] = upper
    result["contacts"] = _contacts(numbers) if with_contacts else np.zeros((0, 2), np.int64)
    return result


def _contacts(numbers: np.ndarray) -> np.ndarray:
    """Pairs of numbers, the smaller one first, that share a face of two voxels."""
    found = []
    for axis in range(3):
        below, above = (numbers[(slice(None),) * axis + (part,)] for part in (slice(None, -1), slice(1, None)))
        apart = below != above
        a, b = below[apart].astype(np.uint64), above[apart].astype(np.uint64)
        found.append(fastremap.unique(np.minimum(a, b) << np.uint64(32) | np.maximum(a, b)))
    packed = fastremap.unique(np.concatenate(found))
    return np.stack([packed >> np.uint64(32), packed & np.uint64(2**32 - 1)], axis=1).astype(np.int64)


@dataclass(frozen=True)
class Pieces:
    """The pieces of the whole volume, in the order of their first voxels; so nothing here depends on the blocks.

    Attributes:
        label, voxels, outside: of each piece.
        contacts: (n, 2) pieces that share a face.
        of_blocks: for each block the piece of each of its numbers.
    """

    label: np.ndarray
    voxels: np.ndarray
    outside: np.ndarray
    contacts: np.ndarray
    of_blocks: list[np.ndarray]


def join(boxes: Sequence[Box], described: Iterator[Arrays]) -> Pieces:
    """The pieces of the volume from those of its blocks, in the order of `boxes`.

    Memory grows with the number of pieces and with the shared planes of neighbouring blocks that wait for each other.
    """
    index_of = {box.start_xyz: index for index, box in enumerate(boxes)}
    offsets, tables, pairs, contacts = [0], [], [], []
    waiting: dict[tuple[int, str], tuple[np.ndarray, int]] = {}
    for index, (box, block) in enumerate(zip(boxes, described, strict=True)):
        offset = offsets[index]
        offsets.append(offset + len(block["label_of"]))
        tables.append({name: block[name] for name in ("label_of", "voxels", "first", "outside")})
        contacts.append(block["contacts"] + offset)
        # x runs fastest, so a block's lower neighbours have come before it.
        for axis, name in enumerate("xyz"):
            if f"upper_{name}" in block:
                above = list(box.start_xyz)
                above[axis] = box.stop_xyz[axis]
                waiting[index_of[above[0], above[1], above[2]], name] = (block[f"upper_{name}"], offset)
            if f"lower_{name}" in block:
                theirs, their_offset = waiting.pop((index, name))
                a, b = theirs.ravel().astype(np.uint64), block[f"lower_{name}"].ravel().astype(np.uint64)
                packed = fastremap.unique(a << np.uint64(32) | b)
                both = np.stack([packed >> np.uint64(32), packed & np.uint64(2**32 - 1)], axis=1).astype(np.int64)
                pairs.append(both + np.array([their_offset, offset]))
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return _united(whole, offsets, np.concatenate([*pairs, np.zeros((0, 2), np.int64)]), np.concatenate(contacts))


def _united(whole: Arrays, offsets: list[int], pairs: np.ndarray, contacts: np.ndarray) -> Pieces:
    roots = np.arange(offsets[-1])
    if len(pairs):
        ids, root_of = unite(pairs)
        roots[ids] = root_of
    # The number 0 of a block is no piece.
    real = np.ones(offsets[-1], bool)
    real[offsets[:-1]] = False
    first = np.full(offsets[-1], np.iinfo(np.int64).max)
    np.minimum.at(first, roots[real], whole["first"][real])
    kept = np.flatnonzero(first < np.iinfo(np.int64).max)
    kept = kept[np.argsort(first[kept], kind="stable")]
    place = np.zeros(offsets[-1], np.int64)
    place[kept] = np.arange(len(kept))
    piece = place[roots]
    voxels = np.bincount(piece[real], weights=whole["voxels"][real], minlength=len(kept)).astype(np.int64)
    outside = np.bincount(piece[real], weights=whole["outside"][real], minlength=len(kept)) > 0
    joined = np.unique(np.sort(piece[contacts], axis=1), axis=0) if len(contacts) else contacts
    return Pieces(
        label=whole["label_of"][kept],
        voxels=voxels,
        outside=outside,
        contacts=joined[joined[:, 0] != joined[:, 1]],
        of_blocks=[piece[a:b] for a, b in pairwise(offsets)],
    )
