"""What came of a sub-volume, and how it lies in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from floodline.ffn.canvas import FAILED
from floodline.inference.passes import Pass
from floodline.segmentation.sizes import label_sizes


@dataclass(frozen=True)
class Result:
    """Objects of a sub-volume; arrays of voxels are z, y, x.

    Attributes:
        segmentation: int32 ids, 0 for background.
        qprob: uint8, quantised probability of the object that owns the voxel.
        candidate_voxels: (k,) int64, rising: free voxels that an object nearly holds, as indices into the flat array.
        candidate_ids: (k,) int32: that object.
        origins: (n, 4) int32: id, and z, y, x of the seed, of every object that grew from one.
        calls: (n,) int64: calls of the network for each row of `origins`.
        overlaps: (m, 3) int64: an object, an earlier one, and the voxels of the first one's flood that the earlier one
            held.
        held_together: (p, 2) int64: objects that one pass of a consensus held in one, and the other did not.
        initial_ids: (k,): what the objects 1 .. k are called in the initial segmentation.
        counts: seeds tried, skipped or failed, by reason, and calls of the network.
        object_seconds: (n,) float64: time for each row of `origins`.
        seconds: time for all.
    """

    segmentation: np.ndarray
    qprob: np.ndarray
    candidate_voxels: np.ndarray
    candidate_ids: np.ndarray
    origins: np.ndarray
    calls: np.ndarray
    overlaps: np.ndarray
    held_together: np.ndarray
    initial_ids: np.ndarray
    counts: Counter[str]
    object_seconds: np.ndarray
    seconds: float

    @classmethod
    def of(cls, done: Pass, initial_ids: np.ndarray) -> Self:
        """The result of a pass that has ended, whose arrays it takes over."""
        floods = done.floods
        segments = floods.segments
        segmentation, qprob = floods.canvas.segmentation, floods.canvas.qprob
        voxels = np.flatnonzero(segmentation < FAILED)
        ids = FAILED - segmentation.ravel()[voxels].astype(np.int32)
        qprob.ravel()[voxels] = 0
        overlaps = [(segment.id, earlier, voxels) for segment in segments for earlier, voxels in segment.overlaps]
        return cls(
            segmentation=floods.canvas.objects(),
            qprob=qprob,
            candidate_voxels=voxels,
            candidate_ids=ids,
            origins=np.array([(s.id, *s.start) for s in segments], np.int32).reshape(-1, 4),
            calls=np.array([s.calls for s in segments], np.int64),
            overlaps=np.array(overlaps, np.int64).reshape(-1, 3),
            held_together=np.zeros((0, 2), np.int64),
            initial_ids=initial_ids,
            counts=Counter({"network_calls": 0, **floods.counts}),
            object_seconds=np.array([s.seconds for s in segments], np.float64),
            seconds=done.seconds,
        )

    def block(self) -> dict[str, np.ndarray]:
        """The arrays of a block: everything but times, which differ from run to run; and all ids with their sizes."""
        ids, sizes = label_sizes(iter(self.segmentation))
        names = sorted(self.counts)
        return {
            "segmentation": self.segmentation,
            "qprob": self.qprob,
            "candidate_voxels": self.candidate_voxels,
            "candidate_ids": self.candidate_ids,
            "ids": ids.astype(np.int32),
            "sizes": sizes,
            "origins": self.origins,
            "calls": self.calls,
            "overlaps": self.overlaps,
            "held_together": self.held_together,
            "initial_ids": self.initial_ids,
            "count_names": np.array(names, dtype="U32"),
            "counts": np.array([self.counts[name] for name in names], dtype=np.int64),
        }

    def times(self) -> dict[str, Any]:
        """What lies beside a block."""
        return {"seconds": self.seconds, "object_seconds": self.object_seconds.tolist()}

    @classmethod
    def from_block(cls, block: Mapping[str, np.ndarray], times: Mapping[str, Any]) -> Self:
        """What `block` and `times` were made of."""
        voxels = ("segmentation", "qprob", "candidate_voxels", "candidate_ids")
        names = (*voxels, "origins", "calls", "overlaps", "held_together", "initial_ids")
        return cls(
            **{name: block[name] for name in names},
            counts=Counter(dict(zip(block["count_names"].tolist(), block["counts"].tolist(), strict=True))),
            object_seconds=np.array(times["object_seconds"], np.float64),
            seconds=times["seconds"],
        )
