"""Split consensus: the definition, its laws, and what a block holds afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from floods import flood_with, make_experiment
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from floodline.experiment import Experiment
from floodline.inference.consensus import agree, held_together
from floodline.inference.result import Result
from floodline.inference.subvolume import FORWARD, REVERSE, forget_passes
from floodline.segmentation.consensus import split

# Without a fill every voxel is drawn by itself, so that most pairs of objects share some.
LABELS = arrays.arrays(np.int32, (2, 3, 5), elements=st.sampled_from([0, 1, 2, 5]), fill=st.nothing())


def by_hand(a: np.ndarray, b: np.ndarray, min_size: int) -> np.ndarray:
    """The definition, pair by pair."""
    pairs = Counter(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    largest: dict[int, int] = {}
    for in_a, in_b in sorted(pairs):
        if in_a not in largest or pairs[in_a, in_b] > pairs[in_a, largest[in_a]]:
            largest[in_a] = in_b
    ids, last = {}, int(a.max())
    for in_a, in_b in sorted(pairs, key=lambda pair: pair[::-1]):
        if in_a == 0 or pairs[in_a, in_b] < min_size:
            ids[in_a, in_b] = 0
        elif in_b == largest[in_a]:
            ids[in_a, in_b] = in_a
        else:
            last += 1
            ids[in_a, in_b] = last
    flat = [ids[pair] for pair in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)]
    return np.array(flat).reshape(a.shape)


def split_of(a: np.ndarray, b: np.ndarray, min_size: int, whole: int = 0) -> np.ndarray:
    return split(a, b, min_size, whole)(a, b)


@given(LABELS, LABELS, st.integers(0, 12))
def test_split_is_its_definition(a, b, min_size):
    np.testing.assert_array_equal(split_of(a, b, min_size), by_hand(a, b, min_size))


def test_a_case_by_hand():
    a = np.array([[[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 3, 3]]])
    b = np.array([[[7, 7, 8, 8, 8, 0, 0, 0, 9, 9, 9, 9, 4, 4]]])
    # Object 1 keeps its id where b has 8. Object 2 is halved: the smaller id of b, which is background, keeps it.
    # New ids above 3 follow b, then a: the voxel of 1 that b leaves out, 1 in 7, 2 in 9.
    np.testing.assert_array_equal(split_of(a, b, 1), [[[5, 5, 1, 1, 1, 4, 2, 2, 6, 6, 0, 0, 3, 3]]])
    # The lonely voxel goes, and takes no id; with 3 the largest parts go, too.
    np.testing.assert_array_equal(split_of(a, b, 2), [[[4, 4, 1, 1, 1, 0, 2, 2, 5, 5, 0, 0, 3, 3]]])
    np.testing.assert_array_equal(split_of(a, b, 3), [[[0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]])


@given(LABELS, LABELS, st.integers(0, 12))
def test_no_part_holds_what_either_keeps_apart(a, b, min_size):
    result = split_of(a, b, min_size)
    for identifier, size in zip(*np.unique(result[result > 0], return_counts=True), strict=True):
        part = result == identifier
        assert len(np.unique(a[part])) == len(np.unique(b[part])) == 1
        assert size >= min_size


@given(LABELS, st.integers(0, 12), st.permutations([1, 2, 5]))
def test_what_agrees_up_to_its_ids_stays(a, min_size, names):
    renamed = np.array([0, names[0], names[1], 0, 0, names[2]])[a]
    sizes = np.bincount(a.ravel(), minlength=6)
    np.testing.assert_array_equal(split_of(a, renamed, min_size), np.where(sizes[a] >= min_size, a, 0))


@given(LABELS, LABELS, st.integers(0, 12))
def test_objects_that_are_to_stay_whole_do(a, b, min_size):
    result = split_of(a, b, min_size, whole=2)
    np.testing.assert_array_equal(result[a <= 2], a[a <= 2])
    others = np.where(a > 2, a, 0)
    np.testing.assert_array_equal(np.where(a > 2, result, 0), split_of(others, np.where(a > 2, b, 0), min_size))


# --- the block -------------------------------------------------------------------------------------------------------


def result_of(segmentation: np.ndarray, origins: list, overlaps: list, initial: int = 0) -> Result:
    return Result(
        segmentation=segmentation.astype(np.int32),
        qprob=np.where(segmentation > 0, 200, 0).astype(np.uint8),
        candidate_voxels=np.flatnonzero(segmentation == 0),
        candidate_ids=np.resize(np.unique(segmentation[segmentation > 0]), (segmentation == 0).sum()).astype(np.int32),
        origins=np.array(origins, np.int32).reshape(-1, 4),
        calls=np.arange(len(origins)) + 10,
        overlaps=np.array(overlaps, np.int64).reshape(-1, 3),
        held_together=np.zeros((0, 2), np.int64),
        initial_ids=np.arange(initial, dtype=np.uint64) + 1000,
        counts=Counter(network_calls=5, attempts=2),
        object_seconds=np.arange(len(origins)) + 0.5,
        seconds=2.0,
    )


def test_what_a_block_holds_is_of_the_objects_that_are_left():
    a = np.repeat([1, 2, 3, 0], [6, 8, 2, 4]).reshape(1, 2, 10)
    b = np.repeat([1, 2, 5, 0], [4, 2, 10, 4]).reshape(1, 2, 10)
    origins = [(1, 0, 0, 0), (2, 0, 0, 7), (3, 0, 1, 5)]
    forward = result_of(a, origins, [(2, 1, 5), (3, 1, 1), (3, 2, 2)])
    both = agree(forward, result_of(b, [], []), 3)
    # 1 loses two voxels to a part that is too small; 3 goes altogether.
    np.testing.assert_array_equal(both.segmentation.ravel(), np.repeat([1, 0, 2, 0], [4, 2, 8, 6]))
    np.testing.assert_array_equal(both.qprob > 0, both.segmentation > 0)
    np.testing.assert_array_equal(both.origins, origins[:2])
    assert both.calls.tolist() == [10, 11]
    assert both.object_seconds.tolist() == [0.5, 1.5]
    assert both.overlaps.tolist() == [[2, 1, 4]], "no more than is left of the earlier object"
    assert both.counts == Counter(network_calls=10, attempts=4, consensus_voxels_removed=4)
    assert both.seconds == 4.0
    block = both.block()
    assert (block["ids"].tolist(), block["sizes"].tolist()) == ([1, 2], [4, 8])


def test_candidates_by_hand():
    """Each voxel has its case: what the passes held and their candidates, and the part that it may go to."""
    a = np.array([1, 1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 3])
    b = np.array([1, 1, 1, 1, 2, 2, 2, 2, 0, 1, 2, 0, 0, 0, 0])
    forward, reverse = result_of(a.reshape(1, 3, 5), [], []), result_of(b.reshape(1, 3, 5), [], [])
    forward = replace(forward, candidate_voxels=np.array([9, 11]), candidate_ids=np.array([2, 1], np.int32))
    reverse = replace(reverse, candidate_voxels=np.array([11, 12, 14]), candidate_ids=np.array([2, 2, 1], np.int32))
    both = agree(forward, reverse, 2)
    # 1 keeps where b has 1; where b has 2 it becomes 4. 2 keeps where b has 2, and 3 goes.
    assert both.segmentation.ravel().tolist() == [1, 1, 1, 1, 4, 4, 2, 2, 0, 0, 0, 0, 0, 0, 0]
    candidates = dict(zip(both.candidate_voxels.tolist(), both.candidate_ids.tolist(), strict=True))
    assert candidates == {
        8: 2,  # the forward pass held it in 2
        9: 1,  # the reverse pass held it in its 1, and that is more than the forward pass's candidate
        10: 2,  # the reverse pass's 2 became 2 and 4, equally large
        11: 1,  # the forward pass's candidate comes first
        12: 2,  # the reverse pass's candidate
        14: 1,  # 3, which held it, has no part; so the reverse pass's candidate
    }
    assert both.held_together.tolist() == [[1, 4], [2, 4]], "by the forward pass, and by the reverse pass"


@given(LABELS, LABELS, st.integers(0, 5), st.sampled_from([0, 1, 2]))
def test_parts_that_a_pass_held_together_are_pairs(a, b, min_size, whole):
    parts = split(a, b, min_size, whole)
    result = parts(a, b)
    ids = np.unique(result[result > 0])
    pairs = [
        (one, other)
        for one, other in combinations(ids.tolist(), 2)
        if any(set(held[result == one]) & set(held[result == other]) - {0} for held in (a, b))
    ]
    assert list(map(tuple, held_together(parts).tolist())) == pairs


@given(LABELS, LABELS, st.integers(0, 5), st.sampled_from([0, 1, 2]))
def test_a_block_speaks_of_objects_that_it_holds(a, b, min_size, initial):
    there = np.unique(a[a > initial])
    overlaps = [(later, earlier, 3) for later in there for earlier in np.unique(a[a > 0]) if earlier < later]
    forward = result_of(a.copy(), [(i, 0, 0, 0) for i in there], overlaps, initial)
    block = agree(forward, result_of(b, [], []), min_size).block()
    ids = np.unique(block["segmentation"])
    assert block["ids"].tolist() == ids[ids > 0].tolist()
    assert block["sizes"].tolist() == [(block["segmentation"] == i).sum() for i in block["ids"]]
    assert set(block["origins"][:, 0]) <= set(ids) & set(there)
    assert set(block["overlaps"][:, :2].ravel()) | set(block["candidate_ids"]) <= set(ids)
    assert (block["segmentation"].ravel()[block["candidate_voxels"]] == 0).all()
    assert (np.diff(block["candidate_voxels"]) > 0).all()
    np.testing.assert_array_equal(block["segmentation"][a <= initial], a[a <= initial])
    assert block["qprob"][block["segmentation"] == 0].sum() == 0


# --- two passes ------------------------------------------------------------------------------------------------------


def greedy(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """A network that takes all that is not darker than the middle of its view for the object."""
    centre = np.array(image.shape[1:]).reshape(3, 1, 1, 1) // 2
    middle = image[:, image.shape[1] // 2, image.shape[2] // 2, image.shape[3] // 2].reshape(-1, 1, 1, 1)
    distance = np.abs(np.indices(image.shape[1:]) - centre).sum(axis=0).astype(np.float32)
    return np.where(image >= middle - 1e-3, 5 - distance / 100, np.float32(-5))


def experiment(folder: Path, **inference) -> Experiment:
    """A dim and a bright body side by side: a flood from the dim one takes both, one from the bright one itself."""
    image = np.full((9, 9, 40), 100, np.uint8)
    image[:, :, 20:] = 200
    keys = {
        "subvolume_size_xyz": [40, 9, 9],
        "overlap_xyz": [0, 0, 0],
        "checkpoint_seconds": 1e6,
        "flood": {"min_segment_size": 10},
        "seeds": [{"policy": "grid", "step": 3, "offsets": [2]}],
        **inference,
    }
    network = {"weights": "none", "fov_xyz": [5, 5, 5], "deltas_xyz": [2, 2, 2]}
    return make_experiment(folder, image, (1, 1, 1), (0, 0, 0), inference=keys, network=network)


def flood(exp: Experiment, network=greedy) -> Result:
    (box,) = exp.subvolumes
    return flood_with(network, exp, box, "parameters")


def test_forward_and_reverse_disagree_where_the_order_decides(tmp_path):
    once = flood(experiment(tmp_path / "once"))
    reverse = flood(experiment(tmp_path / "r", seeds=[{"policy": "grid", "step": 3, "offsets": [2], "reversed": True}]))
    assert len(once.origins) == 1, "the first flood, from the dim body, takes all"
    assert len(reverse.origins) == 2
    twice = flood(experiment(tmp_path / "t", consensus="split", consensus_order="reversed_seeds", consensus_min_size=5))
    np.testing.assert_array_equal(twice.segmentation, by_hand(once.segmentation, reverse.segmentation, 5))
    assert len(np.unique(twice.segmentation)) >= 2
    assert twice.counts["network_calls"] == once.counts["network_calls"] + reverse.counts["network_calls"]


def test_inverted_origins_start_the_second_pass_where_the_first_one_s_objects_did(tmp_path):
    exp = experiment(tmp_path, consensus="split")
    (box,) = exp.subvolumes
    both = flood(exp)
    assert len(both.origins) == 1
    assert both.counts["attempts"] == 2, "one in each pass"
    assert (both.segmentation == 1).mean() > 0.9, "the two passes are the same flood"
    path = exp.block(box)
    assert path.with_suffix(FORWARD).is_file()
    assert path.with_suffix(REVERSE).is_file()
    forget_passes(path)
    assert list(path.parent.iterdir()) == []


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("order", ["invert_origins", "reversed_seeds"])
def test_a_consensus_that_was_interrupted_goes_on_in_its_pass(tmp_path, order):
    keys = {"consensus": "split", "consensus_order": order, "consensus_min_size": 5}
    whole = flood(experiment(tmp_path / "whole", **keys)).block()
    exp = experiment(tmp_path / "cut", checkpoint_seconds=1e-9, **keys)
    total = 0
    for calls in (0, 1, 90, 1, 120, 40, 10**6):
        left = calls

        def network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
            nonlocal left, total
            if left == 0:
                raise Interrupted
            left, total = left - 1, total + 1
            return greedy(image, seed)

        try:
            result = flood(exp, network)
        except Interrupted:
            continue
        break
    resumed = result.block()
    for name in whole:
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)
    assert total == result.counts["network_calls"], "no call was made twice"
