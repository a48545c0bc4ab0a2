"""The agglomeration as webKnossos takes it: an agglomerate attachment, version 4, a group in Zarr 3.

It goes into the folder `agglomerates/` of a segmentation layer with the supervoxels. Format: webKnossos' documentation
of its attachments (scalableminds/webknossos-libs, agglomerate.md). Its numbers of segments and agglomerates have no
holes; a supervoxel that does not exist is therefore an agglomerate of its own, and agglomerates are numbered by their
smallest supervoxel.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from floodline.errors import FloodlineError

ATTRIBUTES = {"voxelytics": {"artifact_schema_version": 4, "artifact_class": "AgglomerateViewArtifact"}}
MOST_HOLES = 10
"""Numbers without a supervoxel for each one with; beyond, the file would be mostly holes."""


def write(folder: Path, mapping: pd.DataFrame, edges: pd.DataFrame, places_xyz: pd.DataFrame) -> None:
    """Write the group, in place of an earlier one.

    Args:
        mapping: columns `supervoxel`, `neuron`.
        edges: columns `a`, `b`, `score`: contacts; those inside of a neuron are kept.
        places_xyz: columns x, y, z: a voxel of each supervoxel, which is the index.

    Raises:
        FloodlineError: the supervoxels' numbers are mostly holes.
    """
    known = mapping["supervoxel"].to_numpy(np.uint64)
    count = int(known.max(initial=0))
    if count > (1 + MOST_HOLES) * max(len(known), 1):
        raise FloodlineError(
            f"webKnossos numbers segments from 1 on without holes, and {len(known)} supervoxels with numbers up to "
            f"{count} have too many: assemble again, which numbers them so."
        )
    segments = np.arange(count + 1, dtype=np.uint64)
    smallest = segments.copy()
    smallest[known] = mapping.groupby("neuron")["supervoxel"].transform("min").to_numpy(np.uint64)
    # Numbered from 0 on, and 0 is the background's.
    agglomerate = np.unique(smallest, return_inverse=True)[1].astype(np.uint64)
    order = np.argsort(agglomerate[1:], kind="stable") + 1
    agglomerates = int(agglomerate.max(initial=0))
    local = np.zeros(count + 1, np.int64)
    offsets = _offsets(agglomerate[1:], agglomerates)
    local[order] = np.arange(count) - offsets[agglomerate[order]].astype(np.int64)

    a, b = (edges[name].to_numpy(np.uint64) for name in ("a", "b"))
    inside = agglomerate[a] == agglomerate[b]
    a, b, affinity = np.minimum(a, b)[inside], np.maximum(a, b)[inside], edges["score"].to_numpy(np.float32)[inside]
    rising = np.lexsort((local[b], local[a], agglomerate[a]))
    a, b, affinity = a[rising], b[rising], affinity[rising]

    dtype = np.uint32 if count < 2**32 else np.uint64
    places = places_xyz.reindex(segments[order]).fillna(0)[["x", "y", "z"]].to_numpy(np.int32)
    shutil.rmtree(folder, ignore_errors=True)
    group = zarr.create_group(folder, zarr_format=3, attributes=ATTRIBUTES)
    for name, array in {
        "segment_to_agglomerate": agglomerate,
        "agglomerate_to_segments_offsets": offsets,
        "agglomerate_to_segments": segments[order].astype(dtype),
        "agglomerate_to_edges_offsets": _offsets(agglomerate[a], agglomerates),
        "agglomerate_to_edges": np.stack([local[a], local[b]], axis=1).astype(dtype),
        "agglomerate_to_affinities": affinity,
        "agglomerate_to_positions": places,
    }.items():
        group.create_array(name, data=array, chunks=(max(1, min(len(array), 2**16)), *array.shape[1:]))


def _offsets(agglomerate: np.ndarray, agglomerates: int) -> np.ndarray:
    """Where the rows of each agglomerate begin, in rows that are sorted by it; 0 has none, and the end comes last."""
    counts = np.bincount(agglomerate.astype(np.int64), minlength=agglomerates + 1)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
