"""Split consensus of the two passes over a sub-volume.

Where the passes disagree, either may be right: objects are split there, and which of them one pass held together is
kept as evidence for agglomeration. Voxels that no object has any more become candidates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from floodline.inference.result import Result
from floodline.segmentation.consensus import Split, split
from floodline.segmentation.sizes import label_sizes


def agree(forward: Result, reverse: Result, min_size: int) -> Result:
    """Split the objects of the forward pass, whose arrays it takes over, where the reverse pass does.

    Objects of an initial segmentation stay whole. Origins, calls and times are those of objects that kept their id: the
    others have none. `qprob` is the forward pass's, where voxels still have an object. Overlaps are the forward pass's
    between objects that kept their ids, each with at most as many voxels as are left of the earlier one. Counts are
    those of both passes together.

    The candidate of a free voxel is the largest part of the object that held it: in the forward pass, else in the
    reverse one; else of its candidate, in the same order.
    """
    segmentation, last = forward.segmentation, int(forward.segmentation.max(initial=0))
    before = _sizes(segmentation, last)
    parts = split(segmentation, reverse.segmentation, min_size, whole=len(forward.initial_ids))
    voxels, ids = _split_in_place(parts, forward, reverse)
    sizes = _sizes(segmentation, max(last, int(segmentation.max(initial=0))))
    kept = sizes[forward.origins[:, 0]] > 0
    overlaps = forward.overlaps[(sizes[forward.overlaps[:, :2]] > 0).all(axis=1)]
    overlaps[:, 2] = np.minimum(overlaps[:, 2], sizes[overlaps[:, 1]])
    counts = Counter(forward.counts)
    counts.update(reverse.counts)
    counts["consensus_voxels_removed"] = int(before.sum() - sizes.sum())
    return replace(
        forward,
        candidate_voxels=voxels,
        candidate_ids=ids,
        origins=forward.origins[kept],
        calls=forward.calls[kept],
        overlaps=overlaps,
        held_together=held_together(parts),
        counts=counts,
        object_seconds=forward.object_seconds[kept],
        seconds=forward.seconds + reverse.seconds,
    )


def held_together(parts: Split) -> np.ndarray:
    """The pairs of parts that one of the two segmentations held in one object: (n, 2) int64, sorted, each once."""
    kept = parts.id > 0
    pairs = [np.zeros((0, 2), np.int64)]
    for parents in (parts.a, parts.b):
        rows = np.flatnonzero(kept & (parents > 0))
        rows = rows[np.argsort(parents[rows], kind="stable")]
        for of_one in np.split(parts.id[rows], np.flatnonzero(np.diff(parents[rows])) + 1):
            ids = np.unique(of_one)
            first, second = np.triu_indices(len(ids), 1)
            pairs.append(np.stack([ids[first], ids[second]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _split_in_place(parts: Split, forward: Result, reverse: Result) -> tuple[np.ndarray, np.ndarray]:
    """Give the forward pass's voxels their new ids, slice by slice; `candidate_voxels` and `candidate_ids`.

    Voxels that have no object any more lose their probability.
    """
    heirs = [parts.heirs(parents) for parents in (parts.a, parts.b)]
    voxels, ids = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for z, (a, b) in enumerate(zip(forward.segmentation, reverse.segmentation, strict=True)):
        weaker = [_candidates(one, z, a.shape) for one in (forward, reverse)]
        found = np.zeros(a.shape, np.int64)
        for heir, held in zip((*heirs, *heirs), (a, b, *weaker), strict=True):
            found = np.where(found == 0, heir[held], found)
        a[:] = parts(a, b)
        forward.qprob[z][a == 0] = 0
        free = np.flatnonzero((a == 0) & (found > 0))
        voxels.append(free + z * a.size)
        ids.append(found.ravel()[free].astype(np.int32))
    return np.concatenate(voxels), np.concatenate(ids)


def _candidates(result: Result, z: int, shape: tuple[int, ...]) -> np.ndarray:
    """The candidates of a slice, 0 where there is none."""
    size = int(np.prod(shape))
    first, last = np.searchsorted(result.candidate_voxels, [z * size, (z + 1) * size])
    found = np.zeros(size, np.int64)
    found[result.candidate_voxels[first:last] - z * size] = result.candidate_ids[first:last]
    return found.reshape(shape)


def _sizes(segmentation: np.ndarray, last: int) -> np.ndarray:
    """Voxels of the ids 0 .. last; none of 0."""
    sizes = np.zeros(last + 1, np.int64)
    ids, voxels = label_sizes(iter(segmentation))
    sizes[ids] = voxels
    return sizes
