"""What PyChunkedGraph ingests: supervoxels that end at the borders of chunks, and the graph of each chunk.

watershed/      the supervoxels, cut at the borders of chunks. A piece's number says its chunk: 8 bits for the layer,
                which is 1; SPATIAL_BITS each for x, y and z of the chunk; the rest is its own.
edges/          edges_x_y_z.proto.zst: contacts inside of the chunk, between it and those beside it, and the joints
                where it cuts a supervoxel, whose affinity is infinite.
components/     components_x_y_z.proto: which pieces of the chunk and of those beside it are one neuron.
dataset.yml     the graph's configuration; its paths are to be completed with where the folder is served.

Formats: chunkEdges.proto, chunkComponents.proto and docs/ of CAVEconnectome/PyChunkedGraph. A contact is between the
two pieces nearest to its place that lie in one chunk, or in two that share a face. Where there are no such two, it is
left out, and counted.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from functools import cache
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
import pandas as pd
import yaml
import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from floodline.geometry import Box, Triple, triple
from floodline.manifest import write_bytes, write_text
from floodline.volumes.layer import Layer

LAYER_BITS = 8
LAYER = 1
CHUNKS = 4
"""Chunks of the stored layer along each side of one of the graph's."""
EDGES = {"in_chunk": 1, "cross_chunk": 2, "between_chunk": 3}
FIELDS = ("node_ids1", "node_ids2", "affinities", "areas")
FACES = [triple(sign if i == axis else 0 for i in range(3)) for axis in range(3) for sign in (-1, 1)]

Piece = tuple[Triple, int]
"""A chunk, and the number of a supervoxel's part in it."""


@cache
def messages() -> dict[str, Any]:
    """The classes of the messages, by name."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="floodline_chunkedgraph.proto", syntax="proto3", package="edges")

    def message(name: str, fields: list[tuple[str, int, int, int, str]]) -> None:
        made = file.message_type.add(name=name)
        for title, number, kind, label, type_name in fields:
            made.field.add(name=title, number=number, type=kind, label=label, type_name=type_name or None)

    message(
        "EdgesMsg",
        [(name, i, field.TYPE_BYTES, field.LABEL_OPTIONAL, "") for i, name in enumerate(FIELDS, start=1)],
    )
    message(
        "ChunkEdgesMsg",
        [
            (name, i, field.TYPE_MESSAGE, field.LABEL_OPTIONAL, ".edges.EdgesMsg")
            for name, i in sorted(EDGES.items(), key=lambda item: item[1])
        ],
    )
    message("ChunkComponentsMsg", [("components", 1, field.TYPE_UINT64, field.LABEL_REPEATED, "")])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"edges.{name}"))
        for name in ("ChunkEdgesMsg", "ChunkComponentsMsg")
    }


def write(folder: Path, supervoxels: Layer, mapping: pd.DataFrame, edges: pd.DataFrame) -> dict[str, int]:
    """Write everything, in place of what was there.

    Args:
        mapping: columns `supervoxel`, `neuron`.
        edges: columns `a`, `b`, `score`, `contact_area`, and x, y, z, the place in voxels.

    Returns:
        how many `pieces` there are, how many `joints` of them, and how many contacts were `left_out`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    graph = _Graph(supervoxels)
    graph.cut(folder / "watershed")
    left_out = graph.connect(edges)
    neuron = dict(zip(mapping["supervoxel"].tolist(), mapping["neuron"].tolist(), strict=True))
    for chunk in graph.chunks:
        name = "_".join(map(str, chunk))
        write_bytes(folder / "edges" / f"edges_{name}.proto.zst", graph.edges_message(chunk))
        write_bytes(folder / "components" / f"components_{name}.proto", graph.components_message(chunk, neuron))
    settings = {
        "data_source": {"EDGES": "edges", "COMPONENTS": "components", "WATERSHED": "watershed"},
        "graph_config": {
            "CHUNK_SIZE": list(graph.chunk_size_xyz),
            "FANOUT": 2,
            "SPATIAL_BITS": graph.bits,
            "LAYER_ID_BITS": LAYER_BITS,
        },
    }
    write_text(folder / "dataset.yml", yaml.safe_dump(settings, sort_keys=False))
    return {"pieces": len(graph.supervoxel), "joints": graph.joints, "left_out": left_out}


class _Graph:
    """Pieces of supervoxels and what connects them, chunk by chunk."""

    def __init__(self, supervoxels: Layer) -> None:
        self.layer = supervoxels
        self.box = supervoxels.box
        self.chunk_size_xyz = triple(CHUNKS * size for size in supervoxels.chunk_size_xyz)
        self.grid = triple(ceil(n / size) for n, size in zip(self.box.size_xyz, self.chunk_size_xyz, strict=True))
        self.chunks = [triple((x, y, z)) for z, y, x in product(*(range(n) for n in reversed(self.grid)))]
        self.bits = max(1, (max(self.grid) - 1).bit_length())
        self.supervoxel: dict[int, int] = {}
        # Of each supervoxel, its piece in each chunk.
        self.pieces: defaultdict[int, dict[Triple, int]] = defaultdict(dict)
        self.of_chunk: dict[Triple, list[int]] = {}
        self.rows: defaultdict[Triple, dict[str, list[tuple[int, int, float, int]]]] = defaultdict(
            lambda: {name: [] for name in EDGES}
        )
        self.joints = 0

    def chunk_box(self, chunk: Triple) -> Box:
        start = [s + c * size for s, c, size in zip(self.box.start_xyz, chunk, self.chunk_size_xyz, strict=True)]
        return Box.sized(start, self.chunk_size_xyz).intersection(self.box)

    def first_id(self, chunk: Triple) -> int:
        """What is above the own bits of the numbers of a chunk's pieces."""
        number, used = LAYER << (64 - LAYER_BITS), LAYER_BITS
        for place in chunk:
            used += self.bits
            number |= place << (64 - used)
        return number

    def cut(self, path: Path) -> None:
        """Number the pieces, write them as a layer, and find where two are one supervoxel."""
        made = Layer.create(
            path,
            box=self.box,
            dtype="uint64",
            voxel_size_nm_xyz=self.layer.voxel_size_nm_xyz,
            chunk_size_xyz=self.layer.chunk_size_xyz,
            kind="segmentation",
        )
        ends: dict[tuple[Triple, int], np.ndarray] = {}
        for chunk in self.chunks:
            box = self.chunk_box(chunk)
            labels = self.layer.read(box)
            ids = fastremap.unique(labels[labels > 0])
            first = self.first_id(chunk)
            table = {0: 0} | {int(label): first + i for i, label in enumerate(ids.tolist(), start=1)}
            made.write(box, fastremap.remap(labels.astype(np.uint64), table))
            self.of_chunk[chunk] = [table[int(label)] for label in ids.tolist()]
            for label in ids.tolist():
                self.pieces[label][chunk] = table[label]
                self.supervoxel[table[label]] = label
            for axis in range(3):
                before = triple(place - (i == axis) for i, place in enumerate(chunk))
                if before in self.of_chunk:
                    self._join(before, chunk, ends.pop((before, axis)), labels.take(0, 2 - axis))
                ends[chunk, axis] = labels.take(-1, 2 - axis)

    def _join(self, one: Triple, other: Triple, last: np.ndarray, first: np.ndarray) -> None:
        same, voxels = np.unique(first[(last == first) & (first > 0)], return_counts=True)
        for label, area in zip(same.tolist(), voxels.tolist(), strict=True):
            self._add("cross_chunk", (one, self.pieces[label][one]), (other, self.pieces[label][other]), np.inf, area)
            self.joints += 1

    def _add(self, kind: str, one: Piece, other: Piece, affinity: float, area: int) -> None:
        """An edge between chunks is in the files of both, the own piece first."""
        self.rows[one[0]][kind].append((one[1], other[1], affinity, area))
        if kind != "in_chunk":
            self.rows[other[0]][kind].append((other[1], one[1], affinity, area))

    def connect(self, edges: pd.DataFrame) -> int:
        """Add the contacts; how many had to be left out."""
        left_out = 0
        for row in edges.to_dict("records"):
            place = np.array([row["x"], row["y"], row["z"]])
            pair = self._nearest(int(row["a"]), int(row["b"]), place)
            if pair is None:
                left_out += 1
                continue
            kind = "in_chunk" if pair[0][0] == pair[1][0] else "between_chunk"
            self._add(kind, *pair, float(row["score"]), int(row["contact_area"]))
        return left_out

    def _nearest(self, a: int, b: int, place_xyz: np.ndarray) -> tuple[Piece, Piece] | None:
        """The pieces of two supervoxels in chunks that are the same or share a face, nearest to a place."""

        def away(chunk: Triple) -> float:
            box = self.chunk_box(chunk)
            beside = np.clip(place_xyz, box.start_xyz, np.array(box.stop_xyz) - 1) - place_xyz
            return float(np.abs(beside).sum())

        best: tuple[float, Piece, Piece] | None = None
        for chunk, piece in self.pieces[a].items():
            for step in ((0, 0, 0), *FACES):
                other = triple(c + s for c, s in zip(chunk, step, strict=True))
                if other in self.pieces[b]:
                    found = (away(chunk) + away(other), (chunk, piece), (other, self.pieces[b][other]))
                    best = min(best, found) if best else found
        return best[1:] if best else None

    def edges_message(self, chunk: Triple) -> bytes:
        message = messages()["ChunkEdgesMsg"]()
        for kind, rows in self.rows[chunk].items():
            part = getattr(message, kind)
            columns = list(zip(*sorted(rows), strict=True)) or [(), (), (), ()]
            for name, column, dtype in zip(FIELDS, columns, ("<u8", "<u8", "<f4", "<u8"), strict=True):
                setattr(part, name, np.array(column, dtype).tobytes())
        return zstandard.ZstdCompressor(level=17).compress(message.SerializeToString(deterministic=True))

    def components_message(self, chunk: Triple, neuron: dict[int, int]) -> bytes:
        together: defaultdict[int, list[int]] = defaultdict(list)
        for step in ((0, 0, 0), *FACES):
            beside = triple(c + s for c, s in zip(chunk, step, strict=True))
            for piece in self.of_chunk.get(beside, []):
                together[neuron[self.supervoxel[piece]]].append(piece)
        # Each after its size.
        flat = [number for _, pieces in sorted(together.items()) for number in (len(pieces), *sorted(pieces))]
        content: bytes = messages()["ChunkComponentsMsg"](components=flat).SerializeToString(deterministic=True)
        return content
