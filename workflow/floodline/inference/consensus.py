"""Split consensus of the two passes over a sub-volume."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from floodline.inference.result import Result
from floodline.segmentation.consensus import split
from floodline.segmentation.sizes import label_sizes


def agree(forward: Result, reverse: Result, min_size: int) -> Result:
    """Split the objects of the forward pass, whose arrays it takes over, where the reverse pass does.

    Objects of an initial segmentation stay whole. Origins, calls and times are those of objects that kept their id: the
    others have none. `qprob` is the forward pass's, where voxels still have an object, and so are the candidates of
    objects that stayed whole. Overlaps are the forward pass's
    between objects that kept their ids, each with at most as many voxels as are left of the earlier one. Counts are
    those of both passes together.
    """
    segmentation, last = forward.segmentation, int(forward.segmentation.max())
    before = _sizes(segmentation, last)
    split(segmentation, reverse.segmentation, min_size, whole=len(forward.initial_ids))
    forward.qprob[segmentation == 0] = 0
    sizes = _sizes(segmentation, max(last, int(segmentation.max())))
    whole = (sizes[: last + 1] == before)[forward.candidate_ids]
    kept = sizes[forward.origins[:, 0]] > 0
    overlaps = forward.overlaps[(sizes[forward.overlaps[:, :2]] > 0).all(axis=1)]
    overlaps[:, 2] = np.minimum(overlaps[:, 2], sizes[overlaps[:, 1]])
    counts = Counter(forward.counts)
    counts.update(reverse.counts)
    counts["consensus_voxels_removed"] = int(before.sum() - sizes.sum())
    return replace(
        forward,
        candidate_voxels=forward.candidate_voxels[whole],
        candidate_ids=forward.candidate_ids[whole],
        origins=forward.origins[kept],
        calls=forward.calls[kept],
        overlaps=overlaps,
        counts=counts,
        object_seconds=forward.object_seconds[kept],
        seconds=forward.seconds + reverse.seconds,
    )


def _sizes(segmentation: np.ndarray, last: int) -> np.ndarray:
    """Voxels of the ids 0 .. last; none of 0."""
    sizes = np.zeros(last + 1, np.int64)
    ids, voxels = label_sizes([segmentation])
    sizes[ids] = voxels
    return sizes
