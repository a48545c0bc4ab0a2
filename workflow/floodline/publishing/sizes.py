"""How many voxels each object of a label layer has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from floodline.geometry import blocks
from floodline.manifest import read_json
from floodline.segmentation.sizes import label_sizes
from floodline.volumes.layer import Layer

CHUNKS_AT_A_TIME = 4


def sizes(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of every object of a layer.

    Returns:
        ids: the labels other than 0, rising, uint64.
        voxels: how many voxels each has, int64.
    """
    todo = blocks(layer.box, [CHUNKS_AT_A_TIME * chunk for chunk in layer.chunk_size_xyz])
    return label_sizes(layer.read(block) for block in todo)


def largest_neurons(neurons: Path | str, count: int | None, *manifests: Path) -> list[int]:
    """The largest neurons, largest first, that have everything that these manifests of meshes or skeletons list.

    Args:
        count: how many; None: all.
    """
    ids, voxels = sizes(Layer.open(neurons))
    lacking: set[int] = set()
    for manifest in manifests:
        made = read_json(manifest)
        lacking |= set(made["without"]) | set(ids[voxels < made["min_voxels"]].tolist())
    order = np.lexsort((ids, -voxels))
    return [label for label in ids[order].tolist() if label not in lacking][:count]
