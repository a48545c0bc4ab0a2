"""The worst mistakes with their places, objects found by size, and intervals of the scores."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from floodline.evaluation import bootstrap, worst
from floodline.evaluation.detection import detect
from floodline.evaluation.scan import BLOCK_XYZ, gather, scan_block
from floodline.evaluation.skeletons import NONE, Skeletons
from floodline.geometry import Box, blocks
from floodline.segmentation.contingency import tabulate

START_XYZ = (50, -60, 7)
VOXEL_NM = (8.0, 8.0, 8.0)


def reader(array):
    return lambda box: array[box.slices_zyx(START_XYZ)]


def scanned(truth, segmentation, lines=NONE):
    box = Box.of_array(truth.shape, START_XYZ)
    found = [scan_block(reader(truth), reader(segmentation), block, lines) for block in blocks(box, BLOCK_XYZ)]
    return gather(box, lines, found), box


# --- the worst mistakes ----------------------------------------------------------------------------------------------


def located(truth, segmentation, count=5):
    found, box = scanned(truth, segmentation)
    mistakes = worst.find(found.table, count)
    places = worst.locate(mistakes, found, reader(truth), reader(segmentation), box, VOXEL_NM)
    return worst.records(mistakes, places)


@pytest.fixture
def truth():
    """Two neurons side by side along x, with a gap between, longer than a tile."""
    labels = np.zeros((20, 40, 150), np.uint64)
    labels[5:15, 5:15] = 1
    labels[5:15, 25:35] = 2
    return labels


def test_a_merger_is_found_where_the_neurons_are_joined(truth):
    segmentation = np.where(truth == 1, 7, 0).astype(np.uint64)
    segmentation[5:15, 25:35, 100:] = 7  # the end of neuron 2 goes with neuron 1 ...
    segmentation[5:15, 25:35, :100] = 8
    truth[10, 15:25, 120] = 1  # ... and at x = 120 a thin bridge leads there
    segmentation[10, 15:25, 120] = 7
    merger, split = located(truth, segmentation)
    assert merger == {
        "kind": "merger",
        "voxels": 50 * 100,
        "position_xyz": [120 + 50, 25 - 60, 10 + 7],
        "neurons": [2, 1],
        "segments": [7],
    }
    assert split["kind"] == "split"
    assert split["neurons"] == [2]
    assert split["segments"] == [7, 8]
    # The two parts of neuron 2 touch in the plane between x = 99 and 100; the middle of the piece's side of it:
    x, y, z = (p - s for p, s in zip(split["position_xyz"], START_XYZ, strict=True))
    assert x == 100
    assert 28 <= y <= 31
    assert 8 <= z <= 11


def test_a_split_is_found_across_a_gap(truth):
    segmentation = truth.copy()
    segmentation[5:15, 5:15, 60:65] = 0
    segmentation[5:15, 5:15, 65:] = 3
    (split,) = located(truth, segmentation)
    assert split["voxels"] == 60 * 100
    assert split["segments"] == [1, 3]
    assert split["position_xyz"][0] == 59 + 50


def test_a_piece_far_from_the_rest_is_shown_in_its_middle(truth):
    segmentation = truth.copy()
    segmentation[5:15, 25:35, 140:149] = 1
    mistakes = located(truth, segmentation)
    assert mistakes[0]["kind"] == "merger"
    x, y, z = (p - s for p, s in zip(mistakes[0]["position_xyz"], START_XYZ, strict=True))
    assert truth[z, y, x] == 2
    assert segmentation[z, y, x] == 1


def test_the_largest_come_first_and_only_as_many_as_wanted():
    truth = np.repeat([1, 2, 3, 4], [50, 30, 20, 40]).reshape(1, 1, -1)
    segmentation = np.where(truth < 4, 9, 8)
    segmentation[0, 0, -5:] = 7
    mistakes = located(truth, segmentation)
    assert [(m["kind"], m["voxels"], m["neurons"]) for m in mistakes] == [
        ("merger", 30, [2, 1]),
        ("merger", 20, [3, 1]),
        ("split", 5, [4]),
    ]
    assert [m["voxels"] for m in located(truth, segmentation, 1)] == [30, 5]


def test_unlabelled_and_unsegmented_voxels_are_no_mistakes():
    truth = np.array([[[1, 1, 0, 0, 2, 2]]])
    segmentation = np.array([[[5, 5, 5, 6, 6, 0]]])
    assert located(truth, segmentation) == []


# --- nodes -----------------------------------------------------------------------------------------------------------


def test_the_scan_looks_up_the_segment_of_each_node():
    rng = np.random.default_rng(0)
    truth, segmentation = rng.integers(1, 9, (2, 70, 30, 140)).astype(np.uint64)
    nodes_zyx = np.stack([rng.integers(0, size, 100) for size in truth.shape], axis=1)
    lines = Skeletons(nodes_zyx[:, ::-1] + START_XYZ, np.ones(100, np.uint64), np.zeros((0, 2), int))
    found, _ = scanned(truth, segmentation, lines)
    assert np.array_equal(found.node_segments, segmentation[tuple(nodes_zyx.T)])


# --- detection -------------------------------------------------------------------------------------------------------


def test_objects_are_found_by_more_than_half_of_the_union():
    # Neurons of 9, 99 and 100 voxels: one is found, one is cut in halves, one is merged with a smaller one.
    truth = np.repeat([1, 2, 3], [9, 99, 100])
    segmentation = np.repeat([4, 5, 6], [9, 50, 149])
    by_size = {found["voxels_from"]: found for found in detect(tabulate(truth, segmentation))}
    assert list(by_size) == [1, 10, 100]
    assert (by_size[1]["neurons"], by_size[1]["neurons_found"]) == (1, 1)
    assert (by_size[10]["neurons"], by_size[10]["neurons_found"]) == (1, 1)  # 50 of 99
    assert (by_size[100]["neurons"], by_size[100]["neurons_found"]) == (1, 1)  # 100 of 149
    halves = np.repeat([4, 5, 6], [9, 49, 150])
    by_size = {found["voxels_from"]: found for found in detect(tabulate(truth, halves))}
    assert by_size[10]["neurons_found"] == 0
    assert (by_size[100]["segments"], by_size[100]["segments_matched"]) == (1, 1)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(*[hnp.arrays(int, n, elements=st.integers(0, 4))] * 2)))
def test_detection_equals_a_reading_of_its_definition(pair):
    truth, segmentation = pair
    segmentation = np.where(truth == 0, 0, segmentation)
    found = 0
    for a in set(truth.tolist()) - {0}:
        for b in set(segmentation.tolist()) - {0}:
            both, either = (truth == a) & (segmentation == b), (truth == a) | (segmentation == b)
            found += both.sum() > 0.5 * either.sum()
    rows = detect(tabulate(*pair))
    assert sum(row["neurons"] for row in rows) == len(set(truth.tolist()) - {0})
    assert sum(row["segments"] for row in rows) == len(set(segmentation.tolist()) - {0})
    assert sum(row["neurons_found"] for row in rows) == sum(row["segments_matched"] for row in rows) == found


# --- intervals -------------------------------------------------------------------------------------------------------


def noisy_tiles(count, errors):
    """Tiles of two neurons each; in some of them a part of one neuron is cut off."""
    rng = np.random.default_rng(1)
    tables = []
    for i in range(count):
        truth = np.repeat([2 * i + 1, 2 * i + 2], 500)
        segmentation = truth.copy()
        if i < errors:
            segmentation[: rng.integers(50, 250)] = 1000 + i
        tables.append(tabulate(truth, segmentation))
    return tables


def test_an_interval_holds_the_score_and_narrows_with_more_tiles():
    widths = []
    for count in (8, 80):
        tables = noisy_tiles(count, count // 2)
        found = bootstrap.intervals(tables, 300, np.random.default_rng(0))
        from floodline.segmentation.contingency import add
        from floodline.segmentation.scores import score

        scores = asdict(score(add(tables)))
        for name, (low, high) in found.items():
            assert low <= scores[name] <= high
        widths.append(found["adapted_rand_error"][1] - found["adapted_rand_error"][0])
    assert 0 < widths[1] < widths[0] / 2


def test_equal_tiles_leave_no_doubt():
    tables = [tabulate(np.repeat([1, 2], 4), np.repeat([3, 4, 5, 5], 2))] * 6
    low, high = bootstrap.intervals(tables, 50, np.random.default_rng(0))["voi_split"]
    assert low == pytest.approx(high)


def test_the_same_generator_gives_the_same_interval():
    one, other = (bootstrap.intervals(noisy_tiles(9, 4), 50, np.random.default_rng(3)) for _ in range(2))
    assert one == other


def test_one_tile_or_no_voxels_has_no_interval():
    assert bootstrap.intervals(noisy_tiles(1, 1), 50, np.random.default_rng(0)) == {}
    empty = [tabulate(np.zeros(0, int), np.zeros(0, int))] * 3
    assert bootstrap.intervals(empty, 50, np.random.default_rng(0)) == {}
