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
    others have none. `qprob` is the forward pass's, where voxels still have an object. Overlaps are the forward pass's
    between objects that kept their ids, each with at most as many voxels as are left of the earlier one. Counts are
    those of both passes together.
    """
    segmentation, last = forward.segmentation, int(forward.segmentation.max())
    before = np.count_nonzero(segmentation)
    split(segmentation, reverse.segmentation, min_size, whole=len(forward.initial_ids))
    forward.qprob[segmentation == 0] = 0
    ids, voxels = label_sizes([segmentation])
    sizes = np.zeros(max(last, int(ids.max(initial=0))) + 1, np.int64)
    sizes[ids] = voxels
    kept = sizes[forward.origins[:, 0]] > 0
    overlaps = forward.overlaps[(sizes[forward.overlaps[:, :2]] > 0).all(axis=1)]
    overlaps[:, 2] = np.minimum(overlaps[:, 2], sizes[overlaps[:, 1]])
    counts = Counter(forward.counts)
    counts.update(reverse.counts)
    counts["consensus_voxels_removed"] = before - int(voxels.sum())
    return replace(
        forward,
        origins=forward.origins[kept],
        calls=forward.calls[kept],
        overlaps=overlaps,
        counts=counts,
        object_seconds=forward.object_seconds[kept],
        seconds=forward.seconds + reverse.seconds,
    )
