"""What is handed over is read back by the tools' own libraries, and says what the agglomeration and skeletons say."""

from __future__ import annotations

import csv

import networkx as nx
import numpy as np
import pandas as pd
import published
import pytest
from cloudvolume import Skeleton
from neuroglancer.viewer_state import ViewerState

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing import handover, skeletons

LARGE = 2**60 + 7
NEURON_OF = {1: 1, 5: 1, LARGE: 2, 9: 1, 11: 3}


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Two crossing rods as one neuron, with a table of supervoxels."""
    made = published.experiment(tmp_path_factory.mktemp("exp"), publishing={"min_voxels": 50})
    array = np.zeros((40, 40, 60), np.uint64)
    array[18:22, 18:22, 4:56] = array[18:22, 4:36, 28:32] = 1
    published.add(made, "image", (array > 0).astype(np.uint8))
    published.add(made, "neurons", array)
    published.add(made, "supervoxels", array)
    made.agglomeration.mkdir()
    edges = pd.DataFrame({"a": [1, 1, 5], "b": [5, LARGE, 9], "score": [0.9, 0.1, 0.75], "contact_area": [40, 20, 12]})
    edges.assign(x=[100, 110, 120], y=-3, z=9, unwanted=1.0).to_parquet(made.agglomeration / "edges.parquet")
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
    assert rows == [(1, 5, 0.9, 40, "1", 100), (1, LARGE, 0.1, 20, "0", 110), (5, 9, 0.75, 12, "1", 120)]


def test_the_mapping_keeps_every_digit(exp):
    with (exp.folder / "handover/mapping.csv").open() as file:
        assert {int(row["supervoxel"]): int(row["neuron"]) for row in csv.DictReader(file)} == NEURON_OF


def test_neuroglancer_joins_the_supervoxels_of_a_neuron(exp):
    state = ViewerState(read_json(exp.folder / "handover/neuroglancer.json"))
    equivalences = state.layers["supervoxels"].equivalences
    assert equivalences[1] == equivalences[5] == equivalences[9]
    assert len({equivalences[1], equivalences[LARGE], equivalences[11]}) == 3
    assert [layer.name for layer in state.layers if layer.visible is not False] == ["image", "supervoxels"]


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
        "edges": 3, "supervoxels": 5, "neurons": 3, "skeletons": 1,
    }  # fmt: skip


def test_without_an_agglomeration_there_is_nothing_to_hand_over(tmp_path):
    made = published.experiment(tmp_path)
    with pytest.raises(FloodlineError, match=r"edges\.parquet is missing"):
        handover.run(made)
    assert not (tmp_path / "handover").exists()
