"""Solvers against plain implementations, the limits of sizes, and files of pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from floods import make_experiment, same_up_to_ids, write_floods
from hypothesis import given
from hypothesis import strategies as st

from floodline.agglomeration import edges, graph, neurons, solve
from floodline.agglomeration.solvers import partition
from floodline.assembly import run as assembly
from floodline.config import Solver
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.segmentation.pairs import Wishes, read_wishes
from floodline.volumes.layer import Layer

ALGORITHMS = ("threshold", "greedy", "multicut", "mutex_watershed")


def groups(cluster: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(cluster == one).tolist()) for one in np.unique(cluster)}


@st.composite
def problems(draw):
    """Nodes with sizes, edges with weights of both signs, all different; and pairs to force and to forbid."""
    count = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = np.array([(i, j) for i in range(count) for j in range(i + 1, count)], np.int64).reshape(-1, 2)
    chosen = pairs[rng.random(len(pairs)) < draw(st.sampled_from([0.3, 0.7, 1.0]))]
    weight = rng.normal(draw(st.sampled_from([-0.5, 0.0, 1.0])), 1, len(chosen))
    forced, forbidden = (
        pairs[rng.random(len(pairs)) < share] for share in draw(st.sampled_from([(0, 0), (0.05, 0.1)]))
    )
    apart = groups_of(count, forced)
    forbidden = forbidden[[apart[a] != apart[b] for a, b in forbidden.tolist()]]
    return chosen, weight, rng.integers(1, 50, count), Wishes(forced, forbidden)


def groups_of(count: int, pairs: np.ndarray) -> list[int]:
    """The group of each node where every pair joins two."""
    group = list(range(count))
    for a, b in pairs.tolist():
        group = [group[a] if one == group[b] else one for one in group]
    return group


def by_strength(count: int, pairs: np.ndarray, weight: np.ndarray, against: bool, wishes: Wishes) -> list[int]:
    """Edges by falling strength: one for a merger makes it unless it is forbidden, one against forbids it."""
    group = groups_of(count, wishes.forced)
    forbidden = [tuple(pair) for pair in wishes.forbidden.tolist()]
    merged: dict[tuple[int, int], float] = {}
    for (a, b), one in zip(pairs.tolist(), weight.tolist(), strict=True):
        key = (min(group[a], group[b]), max(group[a], group[b]))
        if key[0] != key[1]:
            merged[key] = merged.get(key, 0.0) + one
    for (a, b), one in sorted(merged.items(), key=lambda item: -abs(item[1])):
        apart = any({group[a], group[b]} == {group[c], group[d]} for c, d in forbidden)
        if one > 0 and not apart:
            group = [group[a] if each == group[b] else each for each in group]
        elif one < 0 and against and group[a] != group[b]:
            forbidden.append((a, b))
    return group


@given(problems())
def test_threshold_is_connected_components_of_what_speaks_for_a_merger(problem):
    pairs, weight, voxels, _ = problem
    found = partition(pairs, weight, voxels, Solver(algorithm="threshold"))
    assert groups(found) == groups(np.array(groups_of(len(voxels), pairs[weight > 0])))


@given(problems())
def test_threshold_and_mutex_watershed_equal_a_reading_of_their_definitions(problem):
    pairs, weight, voxels, wishes = problem
    for algorithm in ("threshold", "mutex_watershed"):
        found = partition(pairs, weight, voxels, Solver(algorithm=algorithm), wishes)
        expected = by_strength(len(voxels), pairs, weight, algorithm == "mutex_watershed", wishes)
        assert groups(found) == groups(np.array(expected))


@given(problems())
def test_multicut_cuts_no_more_weight_than_greedy_contraction(problem):
    pairs, weight, voxels, _ = problem
    kept = []
    for algorithm in ("greedy", "multicut"):
        found = partition(pairs, weight, voxels, Solver(algorithm=algorithm))
        kept.append(weight[found[pairs[:, 0]] == found[pairs[:, 1]]].sum())
    assert kept[1] >= kept[0] - 1e-9


@given(problems(), st.sampled_from(ALGORITHMS))
def test_forced_pairs_are_together_and_forbidden_ones_apart(problem, algorithm):
    pairs, weight, voxels, wishes = problem
    found = partition(pairs, weight, voxels, Solver(algorithm=algorithm), wishes)
    assert (found[wishes.forced[:, 0]] == found[wishes.forced[:, 1]]).all()
    assert (found[wishes.forbidden[:, 0]] != found[wishes.forbidden[:, 1]]).all()


@given(problems(), st.sampled_from(ALGORITHMS), st.integers(30, 150))
def test_no_neuron_of_several_supervoxels_exceeds_the_limit(problem, algorithm, limit):
    pairs, weight, voxels, _ = problem
    free = partition(pairs, weight, voxels, Solver(algorithm=algorithm))
    found = partition(pairs, weight, voxels, Solver(algorithm=algorithm, max_neuron_voxels=limit))
    size = np.bincount(found, voxels)
    assert all(size[one] <= limit or (found == one).sum() == 1 for one in range(len(size)))
    for group in groups(free):
        if voxels[list(group)].sum() <= limit:
            assert group in groups(found), "what was small enough stays as it was"
        else:
            assert all(one <= group or not one & group for one in groups(found)), "nothing new comes together"


def test_two_large_supervoxels_are_not_merged_over_their_own_contact():
    pairs, voxels = np.array([(0, 1), (1, 2)]), np.array([500, 400, 10])
    for limit, expected in ((None, [0, 0, 0]), (400, [0, 0, 0]), (399, [0, 1, 1])):
        found = partition(pairs, np.array([5.0, 3.0]), voxels, Solver(max_smaller_voxels=limit))
        assert groups(found) == groups(np.array(expected))


# --- files of pairs --------------------------------------------------------------------------------------------------

HEAD = "action,ax,ay,az,bx,by,bz\n"


def slabs() -> np.ndarray:
    """Four slabs along x, 1 to 4, the middle ones with a gap of one voxel between."""
    labels = np.repeat(np.arange(1, 5), 6)[None, None, :] * np.ones((8, 8, 1), np.int64)
    labels[:, :, 11] = 0
    return labels


def prepared(folder: Path, pairs: str | None, **solver: object) -> Experiment:
    """An experiment whose supervoxels are the slabs, on an image that joins 1 with 2, and 3 with 4."""
    image = np.full((8, 8, 24), 150, np.uint8)
    image[:, :, 10:13] = 40
    image[0, 0, 0] = 200
    path = None
    if pairs is not None:
        path = folder / "pairs.csv"
        path.write_text(HEAD + pairs)
    experiment = make_experiment(
        folder, image, (24, 8, 8), (1, 1, 1),
        agglomeration={"solver": {"pairs": path and str(path), **solver}},
    )  # fmt: skip
    (box,) = experiment.subvolumes
    write_floods(experiment, {box: slabs()})
    assembly.run(experiment)
    for step in (graph, edges):
        step.run(experiment)
    return experiment


def solved(experiment: Experiment) -> tuple[np.ndarray, dict[str, int]]:
    solve.run(experiment)
    neurons.run(experiment)
    layer = Layer.open(experiment.layer("neurons"))
    counts = json.loads((experiment.agglomeration / "solved.json").read_text())["pairs"]
    return layer.read(layer.box)[4, 4, [1, 8, 14, 20]], counts


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_file_of_pairs_is_honoured_and_reported(tmp_path, algorithm):
    experiment = prepared(
        tmp_path, "forbid,1,1,1,8,1,1\nforce,8,4,4,14,4,4\nforce,14,0,0,20,7,7\n", algorithm=algorithm
    )
    found, counts = solved(experiment)
    assert same_up_to_ids(found, np.array([1, 2, 2, 2]))
    assert counts == {
        "forced": 2, "forced_that_were_apart": 1, "forbidden": 1, "forbidden_that_were_together": 1
    }  # fmt: skip


def test_without_a_file_the_image_decides(tmp_path):
    found, counts = solved(prepared(tmp_path, None))
    assert same_up_to_ids(found, np.array([1, 1, 2, 2]))
    assert set(counts.values()) == {0}


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ("forbid,1,1,1,2,2,2\n", r"pair 1: both places lie in one object"),
        ("force,1,1,1,8,1,1\nforbid,8,1,1,1,1,1\n", r"pair 2: it forbids what other pairs of the file force together"),
        ("force,1,1,1,11,1,1\n", r"pair 1: there is no object at \(11, 1, 1\)"),
        ("force,1,1,1,24,1,1\n", r"pair 1: \(24, 1, 1\) lies outside the volume, x 0\.\.24 y 0\.\.8 z 0\.\.8"),
        ("part,1,1,1,8,1,1\n", r"the action 'part' is unknown; force and forbid are known"),
        ("force,1,1,1,8,1,1.5\n", r"must be whole numbers"),
    ],
)
def test_an_impossible_pair_is_one_sentence_and_leaves_no_mapping(tmp_path, pairs, sentence):
    experiment = prepared(tmp_path, pairs)
    (experiment.agglomeration / "mapping.parquet").write_text("old")
    with pytest.raises(FloodlineError, match=r"pairs\.csv.*" + sentence):
        solve.run(experiment)
    assert not (experiment.agglomeration / "mapping.parquet").exists()


def test_a_file_that_is_no_table_of_pairs_is_one_sentence(tmp_path):
    box = Box((0, 0, 0), (9, 9, 9))
    with pytest.raises(FloodlineError, match="does not exist"):
        read_wishes(str(tmp_path / "none.csv"), box, lambda _: 0)
    path = tmp_path / "some.csv"
    path.write_text("action,ax,ay,az,bx,by\nforce,1,1,1,2,2\n")
    with pytest.raises(FloodlineError, match="lacks the column bz"):
        read_wishes(str(path), box, lambda _: 0)
    path.write_text("")
    with pytest.raises(FloodlineError, match="cannot be read as a table of pairs"):
        read_wishes(str(path), box, lambda _: 0)
    path.write_text(HEAD)
    assert len(read_wishes(str(path), box, lambda _: 0).forced) == 0
