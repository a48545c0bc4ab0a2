"""The places worth a look that the viewer marks: the most doubtful decisions, and the worst mistakes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import published
import pytest
from neuroglancer.viewer_state import ViewerState

from floodline.experiment import Experiment
from floodline.manifest import write_json
from floodline.publishing import places, state

THRESHOLD = 0.6


@pytest.fixture
def exp(tmp_path) -> Experiment:
    """A hundred times more contacts than are shown, one supervoxel with all others."""
    made = published.experiment(tmp_path, agglomeration={"solver": {"threshold": THRESHOLD}})
    published.add(made, "image", np.arange(20**3, dtype=np.uint8).reshape(20, 20, 20))
    scores = np.random.default_rng(0).random(100 * places.MAX_DECISIONS)
    count = len(scores)
    edges = pd.DataFrame({"a": 1, "b": np.arange(2, count + 2), "score": scores, "contact_area": 12})
    made.agglomeration.mkdir()
    edges.assign(x=105, y=-12, z=np.arange(count)).to_parquet(made.agglomeration / "edges.parquet")
    neuron = np.concatenate([[1], np.where(scores > THRESHOLD, 1, np.arange(2, count + 2))])
    mapping = pd.DataFrame({"supervoxel": np.arange(1, count + 2), "neuron": neuron}, dtype=np.uint64)
    mapping.to_parquet(made.agglomeration / "mapping.parquet")
    return made


def test_the_most_doubtful_decisions_are_shown_and_said(exp):
    edges = pd.read_parquet(exp.agglomeration / "edges.parquet")
    shown = ViewerState(state.build(exp, "url")).layers["decisions"].annotations
    doubt = np.sort(np.abs(edges["score"] - THRESHOLD))
    assert len(shown) == places.MAX_DECISIONS
    for point in shown:
        row = edges[edges["b"] == int(point.id.split("-")[1])].iloc[0]
        assert abs(row["score"] - THRESHOLD) <= doubt[places.MAX_DECISIONS - 1]
        # The middle of the voxel.
        assert point.point.tolist() == [105.5, -11.5, row["z"] + 0.5]
        assert [list(segments) for segments in point.segments] == [[1, row["b"]]]
        decided = "merged" if row["score"] > THRESHOLD else "kept apart"
        assert point.description == f"{row['score']:.3f}, {decided}: 1 and {row['b']:.0f}, 12 faces"


def test_mistakes_of_the_neurons_are_shown_by_kind(exp):
    mistake = {"box_name": "all", "voxels": 90, "position_xyz": [101, -3, 9], "neurons": [4, 5], "segments": [6]}
    kinds = [("neurons", "merger"), ("neurons", "split"), ("neurons", "split"), ("supervoxels", "split")]
    write_json(
        exp.metrics.with_name("worst.json"),
        [mistake | {"segmentation": segmentation, "kind": kind} for segmentation, kind in kinds],
    )
    layers = ViewerState(state.build(exp, "url")).layers
    assert (len(layers["mergers"].annotations), len(layers["splits"].annotations)) == (1, 2)
    (merger,) = layers["mergers"].annotations
    assert merger.point.tolist() == [101.5, -2.5, 9.5]
    assert merger.description == "merger 1 in all: 90 voxels, true neurons 4, 5, segments 6"
    assert layers["mergers"].linked_segmentation_layer["segments"] == "neurons"


def test_without_decisions_and_scores_there_are_no_marks(tmp_path):
    made = published.experiment(tmp_path)
    published.add(made, "image", np.arange(20**3, dtype=np.uint8).reshape(20, 20, 20))
    write_json(made.metrics.with_name("worst.json"), [])
    assert places.layers(made) == []
