"""Synapses of tables and of label volumes are given to the neurons that they lie between."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import published
import pytest
from published import START_XYZ

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.publishing import synapses

LARGE = 2**60 + 3


def neurons() -> np.ndarray:
    """Three slabs along x with membranes of two voxels between them, and beyond the last a wide space."""
    array = np.zeros((16, 20, 80), np.uint64)
    array[..., :20], array[..., 22:40], array[..., 42:60] = 5, 9, LARGE
    return array


def experiment(folder, wanted) -> Experiment:
    made = published.experiment(folder, publishing={"synapses": wanted, "contact_gap_nm": 40})
    published.add(made, "neurons", neurons())
    return made


def table(*rows: tuple[int, int]) -> pd.DataFrame:
    """Synapses from one voxel along x to another, both in the middle of y and z."""
    x, y, z = START_XYZ
    middle = {"pre_y": y + 10, "post_y": y + 10, "pre_z": z + 8, "post_z": z + 8}
    return pd.DataFrame([{"pre_x": x + pre, "post_x": x + post, **middle} for pre, post in rows])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_makes_a_directed_graph_with_counts(tmp_path, suffix):
    path = tmp_path / f"synapses.{suffix}"
    # The fifth begins and the sixth ends out of reach; the seventh is a neuron with itself; the last outside.
    given = table((10, 30), (12, 31), (30, 10), (20, 45), (75, 50), (50, 66), (3, 9), (-40, 10))
    given.to_csv(path, index=False) if suffix == "csv" else given.to_parquet(path)
    made = experiment(tmp_path / "exp", {"kind": "table", "path": str(path)})
    synapses.run(made)

    rows = pd.read_parquet(made.connectome / "synapses.parquet")
    found = list(zip(rows["pre"].tolist(), rows["post"].tolist(), strict=True))
    assert found == [(5, 9), (5, 9), (9, 5), (5, LARGE), (0, LARGE), (LARGE, 0), (5, 5), (0, 5)]
    assert rows["x"].tolist()[:3] == [START_XYZ[0] + 20, START_XYZ[0] + 21, START_XYZ[0] + 20]
    pairs = pd.read_parquet(made.connectome / "synaptic_pairs.parquet")
    counted = {(row.pre, row.post): row.synapses for row in pairs.itertuples()}
    assert counted == {(5, 9): 2, (9, 5): 1, (5, LARGE): 1}
    graph = nx.read_graphml(made.connectome / "synapses.graphml", node_type=int)
    assert graph.is_directed()
    assert {(a, b): n for a, b, n in graph.edges(data="synapses")} == counted


def test_points_in_a_membrane_belong_to_the_nearest_neuron(tmp_path):
    path = tmp_path / "synapses.csv"
    table((20, 21), (41, 40)).to_csv(path, index=False)
    made = experiment(tmp_path / "exp", {"kind": "table", "path": str(path)})
    synapses.run(made)
    rows = pd.read_parquet(made.connectome / "synapses.parquet")
    assert list(zip(rows["pre"].tolist(), rows["post"].tolist(), strict=True)) == [(5, 9), (LARGE, 9)]


def test_clefts_make_an_undirected_graph_across_blocks(tmp_path):
    """Between the first two slabs a cleft across the border of chunks and one beside it; one inside of a neuron."""
    array = np.zeros(neurons().shape, np.uint32)
    array[2:6, 2:18, 18:25] = 70
    array[10:12, 4:8, 19:24] = 3
    array[4:8, 4:8, 50:54] = 8
    array[12:14, 4:8, 39:43] = 4
    published.layer(tmp_path / "clefts", array, chunk=8)
    made = published.experiment(
        tmp_path / "exp",
        publishing={
            "synapses": {"kind": "layer", "source": {"kind": "precomputed", "path": str(tmp_path / "clefts")}},
            "contact_gap_nm": 40,
        },
    )
    published.layer(made.layer("neurons"), neurons(), chunk=8)
    synapses.run(made)
    rows = pd.read_parquet(made.connectome / "synapses.parquet").set_index("synapse")
    found = dict(zip(rows.index, zip(rows["a"].tolist(), rows["b"].tolist(), strict=True), strict=True))
    assert found == {70: (5, 9), 3: (5, 9), 4: (9, LARGE), 8: (LARGE, 0)}
    assert rows.loc[70, ["x", "y", "z"]].tolist() == [START_XYZ[0] + 21, START_XYZ[1] + 9, START_XYZ[2] + 3]
    graph = nx.read_graphml(made.connectome / "synapses.graphml", node_type=int)
    assert not graph.is_directed()
    assert {frozenset(edge[:2]): edge[2] for edge in graph.edges(data="synapses")} == {
        frozenset({5, 9}): 2, frozenset({9, LARGE}): 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist: publishing.synapses names it"),
        ("pre_x,pre_y,pre_z,post_x,post_y\n1,2,3,4,5\n", "lacks post_z: a number in each of pre_x"),
        ("pre_x,pre_y,pre_z,post_x,post_y,post_z\n1,2,3,4,5,a\n", "lacks post_z"),
        ("pre_x,pre_y,pre_z,post_x,post_y,post_z\n1,2,3,4,5,\n", "has rows without a place"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_table_that_is_none_is_a_sentence(tmp_path, content, sentence):
    path = tmp_path / "synapses.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FloodlineError, match=sentence):
        synapses.read_table(path)


def test_no_synapses_at_all_are_no_failure(tmp_path):
    published.layer(tmp_path / "clefts", np.zeros(neurons().shape, np.uint32))
    source = {"kind": "precomputed", "path": str(tmp_path / "clefts")}
    made = experiment(tmp_path / "exp", {"kind": "layer", "source": source})
    synapses.run(made)
    assert pd.read_parquet(made.connectome / "synaptic_pairs.parquet").empty
