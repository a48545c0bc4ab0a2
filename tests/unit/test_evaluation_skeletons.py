"""Scores along skeletons: hand-made cases with known answers, and skeletons that do not depend on the pieces."""

from __future__ import annotations

from math import isnan

import networkx
import numpy as np
import pytest

from floodline.evaluation import skeletons
from floodline.evaluation.run_length import score_skeletons
from floodline.evaluation.skeletons import Skeletons
from floodline.geometry import Box

VOXEL = (10.0, 10.0, 10.0)


def lines(*lengths):
    """Straight skeletons along x, one a neuron (1, 2, ...), of so many edges of 10 nm, far apart in y."""
    nodes, neurons, edges = [], [], []
    for neuron, length in enumerate(lengths, start=1):
        first = len(nodes)
        nodes += [(x, 100 * neuron, 0) for x in range(length + 1)]
        neurons += [neuron] * (length + 1)
        edges += [(first + i, first + i + 1) for i in range(length)]
    return Skeletons(np.array(nodes), np.array(neurons, np.uint64), np.array(edges).reshape(-1, 2))


def scores(truth, segments, threshold=0):
    return score_skeletons(truth, np.array(segments, np.uint64), VOXEL, threshold)


def shares(found):
    return [found[f"edges_{name}"] for name in ("correct", "split", "merged", "omitted")]


def test_a_perfect_segmentation_has_normalised_run_length_1():
    found = scores(lines(10, 30), [5] * 11 + [9] * 31)
    assert found["cable_nm"] == pytest.approx(400)
    # A point lies in the line of 100 nm with probability 1/4, in that of 300 nm with 3/4.
    assert found["erl_nm"] == pytest.approx(100 / 4 + 300 * 3 / 4)
    assert found["nerl"] == pytest.approx(1)
    assert shares(found) == [1, 0, 0, 0]


def test_a_split_in_the_middle_leaves_two_runs_and_loses_an_edge():
    found = scores(lines(11), [5] * 6 + [6] * 6)
    assert found["erl_nm"] == pytest.approx(2 * 50 * 50 / 110)
    assert found["nerl"] == pytest.approx(2 * 50 * 50 / 110**2)
    assert shares(found) == pytest.approx([10 / 11, 1 / 11, 0, 0])


def test_a_merger_leaves_no_run_in_all_that_it_covers():
    # Segment 5 covers all of neuron 1 and the first 11 nodes of neuron 2.
    found = scores(lines(10, 20), [5] * 11 + [5] * 11 + [6] * 10)
    assert found["erl_nm"] == pytest.approx(90 * 90 / 300)
    assert shares(found) == pytest.approx([9 / 30, 1 / 30, 20 / 30, 0])


def test_a_merger_counts_from_more_nodes_than_the_threshold_in_each_neuron():
    truth, segments = lines(10, 20), [5] * 11 + [5] * 4 + [6] * 17
    assert scores(truth, segments, threshold=3)["edges_merged"] > 0
    assert scores(truth, segments, threshold=4)["edges_merged"] == 0
    # Below the threshold both neurons keep their runs, the small one under the shared segment too.
    assert scores(truth, segments, threshold=4)["erl_nm"] == pytest.approx((100**2 + 30**2 + 160**2) / 300)


def test_unsegmented_nodes_omit_their_edges():
    found = scores(lines(10), [5] * 5 + [0] + [5] * 5)
    assert shares(found) == pytest.approx([8 / 10, 0, 0, 2 / 10])
    # One segment is one run, gap or not.
    assert found["erl_nm"] == pytest.approx(80 * 80 / 100)


def test_unsegmented_space_merges_nothing():
    assert shares(scores(lines(10, 10), [0] * 22)) == [0, 0, 0, 1]


def test_lengths_are_physical():
    diagonal = Skeletons(np.array([[0, 0, 0], [1, 0, 1]]), np.ones(2, np.uint64), np.array([[0, 1]]))
    found = score_skeletons(diagonal, np.ones(2, np.uint64), (3.0, 1.0, 4.0), 0)
    assert found["cable_nm"] == pytest.approx(5)


def test_without_cable_there_is_no_score():
    found = score_skeletons(skeletons.NONE, np.zeros(0, np.uint64), VOXEL, 0)
    assert found["cable_nm"] == 0
    assert isnan(found["erl_nm"])


# --- the skeletons themselves ----------------------------------------------------------------------------------------

START_XYZ = (-40, 7, 300)
VOXEL_NM = (40.0, 40.0, 40.0)


@pytest.fixture(scope="module")
def volume():
    """A long bar with a branch (label 2**63 + 3), and a bar of its own beside it (label 4)."""
    labels = np.zeros((30, 50, 90), np.uint64)
    labels[10:17, 10:17, 5:85] = 2**63 + 3
    labels[10:17, 10:45, 40:47] = 2**63 + 3
    labels[22:28, 10:16, 5:85] = 4
    return labels


def skeletonised(labels, block_xyz=(512, 512, 512)):
    box = Box.of_array(labels.shape, START_XYZ)
    return skeletons.skeletonise(lambda b: labels[b.slices_zyx(START_XYZ)], box, VOXEL_NM, block_xyz)


def test_skeletons_run_inside_their_labels_with_one_tree_each(volume):
    found = skeletonised(volume)
    x, y, z = (found.nodes_xyz - START_XYZ).T
    assert np.array_equal(volume[z, y, x], found.neurons)
    assert np.array_equal(found.neurons[found.edges[:, 0]], found.neurons[found.edges[:, 1]])
    steps = np.abs(found.nodes_xyz[found.edges[:, 0]] - found.nodes_xyz[found.edges[:, 1]])
    assert steps.max() == 1
    graph = networkx.Graph(found.edges.tolist())
    assert networkx.is_forest(graph)
    assert networkx.number_connected_components(graph) == 2
    lengths = found.edge_lengths(VOXEL_NM)
    of_bar = lengths[found.neurons[found.edges[:, 0]] == 4].sum()
    assert of_bar == pytest.approx(80 * 40, rel=0.1)
    assert lengths.sum() - of_bar == pytest.approx((80 + 30) * 40, rel=0.1)


def test_pieces_of_a_volume_give_connected_skeletons_too(volume):
    whole, pieces = skeletonised(volume), skeletonised(volume, (32, 50, 30))
    graph = networkx.Graph(pieces.edges.tolist())
    assert networkx.is_forest(graph)
    assert networkx.number_connected_components(graph) == 2
    assert pieces.edge_lengths(VOXEL_NM).sum() == pytest.approx(whole.edge_lengths(VOXEL_NM).sum(), rel=0.2)


def test_a_cut_keeps_nodes_and_edges_inside(volume):
    found = skeletonised(volume)
    box = Box((-20, 7, 300), (10, 57, 330))
    part = found.cut(box)
    assert 0 < len(part.edges) < len(found.edges)
    assert all(box.contains_point(node) for node in part.nodes_xyz)

    def as_lines(lines):
        return {frozenset(map(tuple, lines.nodes_xyz[edge].tolist())) for edge in lines.edges}

    inside = {line for line in as_lines(found) if all(box.contains_point(node) for node in line)}
    assert as_lines(part) == inside


def test_skeletons_are_made_once_for_the_same_labels(tmp_path, volume):
    path, box, reads = tmp_path / "skeletons.block", Box.of_array(volume.shape, START_XYZ), []

    def read(wanted):
        reads.append(wanted)
        return volume[wanted.slices_zyx(START_XYZ)]

    made, again, of_other_labels = (skeletons.kept(path, read, box, VOXEL_NM, v) for v in (1, 1, 2))
    assert len(reads) == 2
    for name in ("nodes_xyz", "neurons", "edges"):
        assert np.array_equal(getattr(made, name), getattr(again, name))
        assert np.array_equal(getattr(made, name), getattr(of_other_labels, name))
