"""What is handed over is read back by the tools' own libraries, and says what the agglomeration and skeletons say."""

from __future__ import annotations

import csv
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import published
import pytest
import yaml
import zarr
import zstandard
from cloudvolume import Skeleton
from neuroglancer.viewer_state import ViewerState

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.manifest import read_json, write_json
from floodline.publishing import agglomerate_view, chunkedgraph, handover, skeletons
from floodline.volumes.layer import Layer

NEURON_OF = {1: 1, 2: 1, 3: 2, 5: 1, 6: 3}
PLATES = {1: (0, 20), 2: (20, 30), 3: (30, 41), 5: (41, 50), 6: (50, 60)}


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Two crossing rods as one neuron; the supervoxels are plates of some thickness, one behind the other along x."""
    made = published.experiment(tmp_path_factory.mktemp("exp"), publishing={"min_voxels": 50})
    array = np.zeros((40, 40, 60), np.uint64)
    array[18:22, 18:22, 4:56] = array[18:22, 4:36, 28:32] = 1
    published.add(made, "image", (array > 0).astype(np.uint8))
    published.add(made, "neurons", array)
    supervoxels = np.zeros_like(array)
    for number, (start, stop) in PLATES.items():
        supervoxels[..., start:stop] = number
    published.layer(made.layer("supervoxels"), supervoxels, chunk=8)
    write_json(made.manifest("supervoxels"), {})
    made.agglomeration.mkdir()
    edges = pd.DataFrame({"a": [1, 2, 3, 5], "b": [2, 3, 5, 6], "score": [0.9, 0.1, 0.2, 0.3]})
    edges.loc[4] = [2, 5, 0.75]
    edges = edges.astype({"a": np.uint64, "b": np.uint64}).sort_values(["a", "b"], ignore_index=True)
    x = [120, 130, 135, 141, 150]
    edges = edges.assign(contact_area=[40, 20, 12, 14, 16], x=x, y=-3, z=9, unwanted=1.0)
    edges.to_parquet(made.agglomeration / "edges.parquet")
    mapping = pd.DataFrame({"supervoxel": [*NEURON_OF], "neuron": [*NEURON_OF.values()]}, dtype=np.uint64)
    mapping.to_parquet(made.agglomeration / "mapping.parquet")
    skeletons.run(made)
    handover.run(made)
    return made


def test_the_edge_list_says_what_was_decided(exp):
    with (exp.folder / "handover/edges.csv").open() as file:
        rows = [
            (int(r["a"]), int(r["b"]), float(r["score"]), int(r["contact_area"]), r["merged"], int(r["x"]))
            for r in csv.DictReader(file)
        ]
    assert rows == [
        (1, 2, 0.9, 40, "1", 120), (2, 3, 0.1, 20, "0", 130), (2, 5, 0.75, 12, "1", 135), (3, 5, 0.2, 14, "0", 141),
        (5, 6, 0.3, 16, "0", 150),
    ]  # fmt: skip


def test_the_mapping_keeps_every_digit(exp):
    with (exp.folder / "handover/mapping.csv").open() as file:
        assert {int(row["supervoxel"]): int(row["neuron"]) for row in csv.DictReader(file)} == NEURON_OF


def test_neuroglancer_joins_the_supervoxels_of_a_neuron(exp):
    state = ViewerState(read_json(exp.folder / "handover/neuroglancer.json"))
    equivalences = state.layers["supervoxels"].equivalences
    assert equivalences[1] == equivalences[2] == equivalences[5]
    assert len({equivalences[1], equivalences[3], equivalences[6]}) == 3
    assert [layer.name for layer in state.layers if layer.visible is not False] == ["image", "supervoxels"]


def test_webknossos_reads_the_agglomeration(exp):
    """As its documentation says: what belongs to an agglomerate lies between two offsets, edges count inside of it."""
    group = zarr.open_group(exp.folder / "handover/webknossos/agglomerates/neurons", mode="r")
    assert group.metadata.zarr_format == 3
    assert group.attrs["voxelytics"] == {"artifact_schema_version": 4, "artifact_class": "AgglomerateViewArtifact"}
    array = {name: values[:] for name, values in group.arrays()}
    types = {
        "segment_to_agglomerate": "uint64", "agglomerate_to_segments_offsets": "uint64",
        "agglomerate_to_segments": "uint32", "agglomerate_to_edges_offsets": "uint64",
        "agglomerate_to_edges": "uint32", "agglomerate_to_affinities": "float32", "agglomerate_to_positions": "int32",
    }  # fmt: skip
    assert {name: values.dtype.name for name, values in array.items()} == types
    # There is no supervoxel 4.
    assert array["segment_to_agglomerate"].tolist() == [0, 1, 1, 2, 3, 1, 4]
    found, edges = {}, {}
    for agglomerate in range(5):
        segments, edge = (
            slice(*array[f"agglomerate_to_{what}_offsets"][agglomerate : agglomerate + 2].tolist())
            for what in ("segments", "edges")
        )
        members = array["agglomerate_to_segments"][segments]
        found[agglomerate] = members.tolist()
        for pair, affinity in zip(
            members[array["agglomerate_to_edges"][edge]].tolist(), array["agglomerate_to_affinities"][edge], strict=True
        ):
            edges[tuple(pair)] = float(affinity)
        for member, place in zip(members.tolist(), array["agglomerate_to_positions"][segments], strict=True):
            x = place[0] - published.START_XYZ[0]
            assert member not in PLATES or PLATES[member][0] <= x < PLATES[member][1]
    assert found == {0: [], 1: [1, 2, 5], 2: [3], 3: [4], 4: [6]}
    assert edges == pytest.approx({(1, 2): 0.9, (2, 5): 0.75})


def test_numbers_with_many_holes_are_refused_by_a_sentence(tmp_path):
    mapping = pd.DataFrame({"supervoxel": [1, 1000], "neuron": [1, 1]})
    with pytest.raises(FloodlineError, match="2 supervoxels with numbers up to 1000 have too many"):
        agglomerate_view.write(tmp_path / "a", mapping, pd.DataFrame(), pd.DataFrame())


class ChunkEdges:
    """The edges of a chunk by kind, as PyChunkedGraph reads them."""

    def __init__(self, path: Path) -> None:
        message = chunkedgraph.messages()["ChunkEdgesMsg"].FromString(zstandard.decompress(path.read_bytes()))
        self.kinds = {
            kind: list(
                zip(
                    np.frombuffer(part.node_ids1, "<u8").tolist(),
                    np.frombuffer(part.node_ids2, "<u8").tolist(),
                    np.frombuffer(part.affinities, "<f4").tolist(),
                    np.frombuffer(part.areas, "<u8").tolist(),
                    strict=True,
                )
            )
            for kind in ("in_chunk", "between_chunk", "cross_chunk")
            for part in [getattr(message, kind)]
        }


def test_pychunkedgraph_can_ingest_the_graph(exp):
    folder = exp.folder / "handover/chunkedgraph"
    config = yaml.safe_load((folder / "dataset.yml").read_text())["graph_config"]
    assert config == {"CHUNK_SIZE": [32, 32, 32], "FANOUT": 2, "SPATIAL_BITS": 1, "LAYER_ID_BITS": 8}
    watershed = Layer.open(folder / "watershed")
    supervoxels = Layer.open(exp.layer("supervoxels")).read(watershed.box)
    pieces = watershed.read(watershed.box)
    of_piece: dict[int, int] = {}
    for z, y, x in np.ndindex(2, 2, 2):
        part = tuple(slice(32 * place, 32 * place + 32) for place in (z, y, x))
        numbers, first = np.unique(pieces[part], return_index=True)
        of_piece |= dict(zip(numbers.tolist(), supervoxels[part].ravel()[first].tolist(), strict=True))
        for number in numbers.tolist():
            # Layer 1, then a bit each for x, y and z of the chunk.
            assert (number >> 56, number >> 55 & 1, number >> 54 & 1, number >> 53 & 1) == (1, x, y, z)
    assert (np.vectorize(of_piece.get, otypes=[np.uint64])(pieces) == supervoxels).all()

    chunk_of = {number: tuple(number >> shift & 1 for shift in (55, 54, 53)) for number in of_piece}
    graph, active, files = nx.Graph(), nx.Graph(), 0
    for x, y, z in np.ndindex(2, 2, 2):
        kinds = ChunkEdges(folder / f"edges/edges_{x}_{y}_{z}.proto.zst").kinds
        files += 1
        for kind, rows in kinds.items():
            for one, other, affinity, area in rows:
                apart = np.abs(np.subtract(chunk_of[one], chunk_of[other])).sum()
                assert chunk_of[one] == (x, y, z)
                assert apart == (0 if kind == "in_chunk" else 1)
                assert (of_piece[one] == of_piece[other]) == (kind == "cross_chunk") == (affinity == np.inf)
                assert area > 0
                graph.add_edge(one, other, affinity=affinity)
        message = chunkedgraph.messages()["ChunkComponentsMsg"].FromString(
            (folder / f"components/components_{x}_{y}_{z}.proto").read_bytes()
        )
        flat = list(message.components)
        while flat:
            together, flat = flat[1 : flat[0] + 1], flat[flat[0] + 1 :]
            assert len({NEURON_OF[of_piece[number]] for number in together}) == 1
            active.add_nodes_from(together)
    assert files == len(list((folder / "edges").iterdir()))
    # Joined where the neuron is the same, the pieces are the neurons again: nothing is missing.
    active.add_edges_from((a, b) for a, b in graph.edges if NEURON_OF[of_piece[a]] == NEURON_OF[of_piece[b]])
    neurons = {frozenset(of_piece[number] for number in part) for part in nx.connected_components(active)}
    assert neurons == {frozenset({1, 2, 5}), frozenset({3}), frozenset({6})}
    assert nx.number_connected_components(active) == 3
    assert len(active) == 24


def test_a_skeleton_is_the_same_tree_in_nanometres_with_radii(exp):
    (original,) = skeletons.read(exp.layer("neurons"))
    text = (exp.folder / "handover/skeletons/1.swc").read_text()
    back = Skeleton.from_swc(text)

    def graph(skeleton: Skeleton) -> nx.Graph:
        places = [tuple(np.round(v, 1).tolist()) for v in skeleton.vertices]
        made = nx.Graph((places[a], places[b]) for a, b in skeleton.edges)
        nx.set_node_attributes(made, dict(zip(places, np.round(skeleton.radii, 1).tolist(), strict=True)), "radius")
        return made

    assert nx.utils.graphs_equal(graph(back), graph(original))
    assert back.cable_length() == pytest.approx(original.cable_length(), rel=1e-3)
    # The longer rod, along x, from end to end: 52 voxels of 8 nm, from voxel 104 on.
    assert np.ptp(back.vertices[:, 0]) == pytest.approx(52 * 8, rel=0.1)
    assert back.vertices[:, 0].min() == pytest.approx(104 * 8, abs=30)
    parents = {int(row.split()[6]) for row in text.splitlines() if not row.startswith("#")}
    assert -1 in parents


def test_the_same_results_give_the_same_bytes(exp):
    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in (exp.folder / "handover").rglob("*") if p.is_file()}

    before = content()
    handover.run(exp)
    assert content() == before
    assert read_json(exp.folder / "handover/manifest.json") == {
        "edges": 5, "supervoxels": 5, "neurons": 3, "skeletons": 1,
        "chunkedgraph": {"pieces": 24, "joints": 28, "left_out": 0},
    }  # fmt: skip


def test_without_an_agglomeration_there_is_nothing_to_hand_over(tmp_path):
    made = published.experiment(tmp_path)
    with pytest.raises(FloodlineError, match=r"edges\.parquet is missing"):
        handover.run(made)
    assert not (tmp_path / "handover").exists()
