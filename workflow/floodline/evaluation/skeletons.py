"""Skeletons of the truth, made once and kept.

TEASAR comes from bioimage-cpp: it has a permissive licence, works on pieces of a volume, and needs no detour through
files of another format, as kimimaro behind igneous does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from floodline.geometry import Box, Triple, blocks, to_zyx, triple
from floodline.manifest import hash_of, read_block, write_block
from floodline.progress import Meter

BLOCK_XYZ = (512, 512, 512)
"""Voxels that are skeletonised at once."""

INVALIDATION_SCALE, INVALIDATION_NM = 1.5, 300.0
"""A path of the skeleton stands for all within scale * radius + constant around it: kimimaro's usual values."""

Read = Callable[[Box], np.ndarray]
Size = tuple[float, float, float]


@dataclass(frozen=True)
class Skeletons:
    """Skeletons of many neurons. A node is a voxel of its neuron; an edge joins neighbouring voxels."""

    nodes_xyz: np.ndarray
    """(n, 3) int64, coordinates of the source."""
    neurons: np.ndarray
    """(n,) uint64: the label that each node belongs to."""
    edges: np.ndarray
    """(m, 2) int64: rows of `nodes_xyz`."""

    def nodes_in(self, box: Box) -> np.ndarray:
        """Indices of the nodes in a box."""
        inside = (self.nodes_xyz >= box.start_xyz) & (self.nodes_xyz < box.stop_xyz)
        return np.flatnonzero(inside.all(axis=1))

    def cut(self, box: Box) -> Skeletons:
        """The part inside a box."""
        nodes = self.nodes_in(box)
        new = np.full(len(self.nodes_xyz), -1)
        new[nodes] = np.arange(len(nodes))
        edges = new[self.edges]
        return Skeletons(self.nodes_xyz[nodes], self.neurons[nodes], edges[(edges >= 0).all(axis=1)])

    def edge_lengths(self, voxel_size_nm_xyz: Size) -> np.ndarray:
        """(m,) lengths of the edges in nanometres."""
        steps = self.nodes_xyz[self.edges[:, 0]] - self.nodes_xyz[self.edges[:, 1]]
        return np.linalg.norm(steps * np.array(voxel_size_nm_xyz), axis=1)


NONE = Skeletons(np.zeros((0, 3), np.int64), np.zeros(0, np.uint64), np.zeros((0, 2), np.int64))


def kept(path: Path, read: Read, box: Box, voxel_size_nm_xyz: Size, version: Any) -> Skeletons:
    """The skeletons of labels, from a file if it has them, else made and written there.

    Args:
        path: the file.
        read, box, voxel_size_nm_xyz: as for `skeletonise`.
        version: plain data that change when the labels do.
    """
    how = [INVALIDATION_SCALE, INVALIDATION_NM, BLOCK_XYZ]
    parameters = hash_of([version, box.corners, voxel_size_nm_xyz, how])
    stored = read_block(path, parameters)
    if stored is not None:
        return Skeletons(stored["nodes_xyz"], stored["neurons"], stored["edges"])
    made = skeletonise(read, box, voxel_size_nm_xyz)
    write_block(path, parameters, vars(made))
    return made


def skeletonise(read: Read, box: Box, voxel_size_nm_xyz: Size, block_xyz: Triple = BLOCK_XYZ) -> Skeletons:
    """Skeletons of all labels but 0, piece by piece; pieces meet in nodes that both of them have.

    Args:
        read: reads labels (z, y, x) of a box.
        box: the volume.
        voxel_size_nm_xyz: for distances.
        block_xyz: size of a piece.
    """
    from bioimage_cpp.skeleton import distributed

    spacing = voxel_size_nm_xyz[::-1]
    todo = blocks(box, block_xyz)
    pieces = []
    with Meter("skeletons of the labels", len(todo), "blocks") as meter:
        for block in todo:
            # One voxel more on the high sides, so that neighbours share the plane in which they meet.
            piece = Box(block.start_xyz, triple(np.minimum(np.array(block.stop_xyz) + 1, box.stop_xyz)))
            faces = _inner_faces(piece, box)
            array, origin = read(piece), to_zyx(piece.start_xyz)
            targets = distributed.block_border_targets_labels(array, faces, origin=origin, spacing=spacing)
            pieces.append(
                distributed.block_teasar_labels(
                    array,
                    open_faces=faces,
                    origin=origin,
                    required_targets=targets,
                    spacing=spacing,
                    scale=INVALIDATION_SCALE,
                    constant=INVALIDATION_NM,
                )
            )
            meter.advance()
    whole = distributed.merge_block_skeleton_maps(pieces)
    return _joined(
        {label: distributed.minimum_spanning_forest(whole[label], spacing=spacing) for label in sorted(whole)}
    )


def _inner_faces(piece: Box, volume: Box) -> list[tuple[int, str]]:
    """Faces of a piece that cut the volume: array axis and side."""
    faces = []
    for axis, name in ((0, "z"), (1, "y"), (2, "x")):
        k = "xyz".index(name)
        if piece.start_xyz[k] > volume.start_xyz[k]:
            faces.append((axis, "low"))
        if piece.stop_xyz[k] < volume.stop_xyz[k]:
            faces.append((axis, "high"))
    return faces


def _joined(forests: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Skeletons:
    """One list of nodes and edges from those of each label (nodes z, y, x)."""
    parts, first = [NONE], 0
    for label, (nodes_zyx, edges, _) in forests.items():
        nodes_xyz = np.asarray(nodes_zyx, np.int64)[:, ::-1]
        neurons = np.full(len(nodes_xyz), label, np.uint64)
        parts.append(Skeletons(nodes_xyz, neurons, edges.astype(np.int64) + first))
        first += len(nodes_xyz)
    return Skeletons(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("nodes_xyz", "neurons", "edges"))
    )
