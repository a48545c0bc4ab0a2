"""Agglomeration: laws of boxes, the solver against what is known, and cut neurons that become whole again."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from floods import make_experiment, same_up_to_ids, write_floods
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import roc_auc_score

from floodline.agglomeration import edges as edge_scores
from floodline.agglomeration import graph, neurons, solve
from floodline.agglomeration.contacts import Measure, combine, contacts
from floodline.agglomeration.features import features
from floodline.agglomeration.growth import grow, grow_along, halo_zyx, spacing_zyx
from floodline.agglomeration.score import score
from floodline.assembly import run as assembly
from floodline.config import Solver
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks, to_xyz
from floodline.volumes import phantom
from floodline.volumes.layer import Layer

NO_OVERLAPS = pd.DataFrame({"a": [], "b": [], "source": [], "voxels": [], "covered_a": [], "covered_b": []}).astype(
    {"a": np.uint64, "b": np.uint64}
)


# --- growth and contacts do not depend on boxes ----------------------------------------------------------------------


@st.composite
def volumes(draw):
    """Supervoxels with gaps, image, flood probability, how to measure, and a size of boxes."""
    shape = draw(st.tuples(*[st.integers(1, 12)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(1, draw(st.integers(2, 6)), shape).astype(np.uint64) * np.uint64(10**12)
    labels[rng.random(shape) < draw(st.sampled_from([0, 0.5, 0.9, 1]))] = 0
    image, quantised = rng.integers(0, 256, (2, *shape), np.uint8)
    voxel_size_nm_xyz = draw(st.sampled_from([(8, 8, 8), (8, 8, 16), (10, 7, 11)]))
    reach = draw(st.sampled_from([0.0, 1.0, 2.0, 2.9]))
    measure = Measure(reach, spacing_zyx(voxel_size_nm_xyz), draw(st.sampled_from([1, 3])), 33.0)
    size_xyz = draw(st.tuples(*[st.integers(1, 12)] * 3))
    return labels, image, quantised, measure, size_xyz


@given(volumes())
@settings(max_examples=150)
def test_contacts_of_a_volume_are_the_combined_contacts_of_its_boxes(volume):
    labels, image, quantised, measure, size_xyz = volume
    whole = Box.of_array(labels.shape, (5, -3, 2))
    parts = []
    for box in blocks(whole, size_xyz):
        outer = box.grown(measure.halo_xyz).intersection(whole)
        part = outer.slices_zyx(whole.start_xyz)
        parts.append(contacts(box, outer, labels[part], image[part], quantised[part], measure))
    at_once = contacts(whole, whole, labels, image, quantised, measure)
    pd.testing.assert_frame_equal(combine(parts), at_once, check_like=True)


@given(volumes())
@settings(max_examples=150)
def test_growth_of_a_volume_is_that_of_its_boxes(volume):
    labels, _, _, measure, size_xyz = volume
    whole = Box.of_array(labels.shape)
    grown = grow(labels, measure.reach, measure.spacing)
    for box in blocks(whole, size_xyz):
        outer = box.grown(to_xyz(halo_zyx(measure.reach, measure.spacing))).intersection(whole)
        part = grow(labels[outer.slices_zyx()], measure.reach, measure.spacing)
        core = box.slices_zyx(outer.start_xyz)
        np.testing.assert_array_equal(part.labels[core], grown.labels[box.slices_zyx()])
        np.testing.assert_array_equal(part.distance[core], grown.distance[box.slices_zyx()])


@given(volumes(), st.integers(0, 6))
def test_growth_along_the_image_is_that_of_its_boxes(volume, steps):
    labels, image, _, measure, size_xyz = volume
    whole = Box.of_array(labels.shape)
    grown = grow_along(labels, image, 128.0, 60.0, steps, measure.spacing)
    for box in blocks(whole, size_xyz):
        outer = box.grown((steps,) * 3).intersection(whole)
        part = outer.slices_zyx()
        found = grow_along(labels[part], image[part], 128.0, 60.0, steps, measure.spacing)
        np.testing.assert_array_equal(found[box.slices_zyx(outer.start_xyz)], grown[box.slices_zyx()])


def test_segments_grow_along_the_image_and_meet_in_the_membrane():
    labels = np.zeros((1, 1, 12), np.uint64)
    labels[..., 0], labels[..., 11] = 7, 5
    image = np.full(labels.shape, 200, np.uint8)
    image[..., 8] = 40
    for steps, expected in ((9, [7] * 9 + [5] * 3), (2, [7] * 3 + [0] * 6 + [5] * 3), (0, [7] + [0] * 10 + [5])):
        found = grow_along(labels, image, 150.0, 50.0, steps, (1.0, 1.0, 1.0))
        # The dark voxel is reached by the nearer side, over as bright a way.
        assert found.ravel().tolist()[:8] == expected[:8] and found.ravel().tolist()[9:] == expected[9:]
    assert same_up_to_ids(grow_along(labels[..., :8], image[..., :8], 150.0, 50.0, 9, (1, 1, 1)), np.ones((1, 1, 8)))


@given(volumes())
def test_an_unsegmented_voxel_takes_a_nearest_segment_and_no_farther_one(volume):
    labels, _, _, measure, _ = volume
    grown = grow(labels, measure.reach, measure.spacing)
    segmented = np.argwhere(labels)
    for voxel in np.argwhere(labels == 0)[::7]:
        distance = np.linalg.norm((segmented - voxel) * measure.spacing, axis=1)
        nearest = distance.min(initial=np.inf)
        near = {int(labels[tuple(at)]) for at in segmented[distance <= nearest + 1e-9]}
        assert int(grown.labels[tuple(voxel)]) in (near if nearest <= measure.reach else {0})
    np.testing.assert_array_equal(grown.labels[labels > 0], labels[labels > 0])


def two_slabs(membrane: int) -> tuple[np.ndarray, np.ndarray]:
    """Supervoxels 3 (x 0 to 7) and 9 (x 10 to 17), each 10 x 6 voxels in z, y; and what lies between them."""
    labels = np.zeros((10, 6, 18), np.uint64)
    labels[:, :, :8], labels[:, :, 10:] = 3, 9
    image = np.full(labels.shape, 160, np.uint8)
    image[:, :, 8:10] = membrane
    return labels, image


def test_a_contact_over_a_membrane_is_measured_as_it_is():
    labels, image = two_slabs(60)
    box = Box.of_array(labels.shape, (100, 200, 300))
    table = contacts(box, box, labels, image, np.full_like(image, 200), Measure(2.0, (1, 1, 1), 3, 50.0))
    nodes = pd.DataFrame({"supervoxel": np.array([3, 9], np.uint64), "voxels": [480, 480], "intensity": [0.6, 0.6]})
    overlaps = pd.DataFrame(
        {"a": np.uint64([3, 3, 3]), "b": np.uint64([9, 9, 9]), "source": ["flood", "neighbour", "pass"]}
        | {"voxels": [48, 144, 240], "covered_a": [0.1, 0.3, 0.5], "covered_b": [0.2, 0.4, 0.6]}
    )
    (edge,) = features(table, nodes, overlaps, mean=130, stddev=50).to_dict("records")
    assert (edge["a"], edge["b"], edge["contact_area"], edge["contact_share"]) == (3, 9, 60, 1)
    assert (edge["touching"], edge["gap"]) == (0, 2)
    assert edge["contrast"] == 2 and edge["contrast_q50"] == pytest.approx(2, abs=0.25)
    assert edge["intensity"] == pytest.approx(-1.4)
    assert edge["probability_a"] == edge["probability_b"] == pytest.approx(199.5 / 255)
    assert (edge["x"], edge["y"], edge["z"]) == (108, 202, 304)
    assert [edge[name] for name in ("flood_a", "flood_b", "neighbour_a", "neighbour_b")] == [0.1, 0.2, 0.3, 0.4]
    assert (edge["pass_a"], edge["pass_b"]) == (0.5, 0.6)
    assert (edge["flood_voxels"], edge["neighbour_voxels"], edge["pass_voxels"]) == (48, 144, 240)


@pytest.mark.parametrize("x, contrast", [(5, 2), (6, 1), (7, 2), (10, 2), (11, 1), (12, 2)])
def test_a_contact_is_compared_with_the_darker_of_the_voxels_at_the_profile_s_distance(x, contrast):
    """The face lies between x 8 and x 9; the third voxels from it are 6 and 11."""
    labels, image = two_slabs(60)
    image[:, :, x] = 110
    box = Box.of_array(labels.shape)
    (row,) = contacts(box, box, labels, image, image, Measure(2.0, (1, 1, 1), 3, 50.0)).to_dict("records")
    assert row["twice_contrast"] == 2 * 60 * 50 * contrast


# --- the score -------------------------------------------------------------------------------------------------------


def measured(labels: np.ndarray, image: np.ndarray) -> pd.DataFrame:
    """Scored contacts of a volume, without what floods say."""
    box = Box.of_array(labels.shape)
    table = contacts(box, box, labels, image, np.ones_like(image), Measure(2.0, (1, 1, 1), 3, float(image.std())))
    ids, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    mean, stddev = image.mean(), image.std()
    intensity = (np.bincount(index.ravel(), image.ravel()) / sizes - mean) / stddev
    nodes = pd.DataFrame({"supervoxel": ids, "voxels": sizes, "intensity": intensity})
    edges = features(table, nodes[nodes["supervoxel"] > 0].reset_index(drop=True), NO_OVERLAPS, mean, stddev)
    return edges.assign(score=score(edges))


EDGE = {
    "contact_area": 500,
    "contact_share": 0.3,
    "contrast": 0.0,
    "intensity": 0.0,
    "intensity_a": 0.3,
    "intensity_b": 0.2,
    "flood_a": 0.0,
    "flood_b": 0.0,
    "neighbour_a": 0.0,
    "neighbour_b": 0.0,
    "pass_a": 0.0,
    "pass_b": 0.0,
}


@pytest.mark.parametrize(
    "change, sign",
    [
        ({"contrast": 0.3}, -1),
        ({"contact_share": 0.6}, 1),
        ({"intensity": -0.5}, -1),
        ({"flood_b": 0.7}, 1),
        ({"neighbour_a": 0.7}, 1),
        ({"pass_a": 1.0}, 1),
    ],
)
def test_evidence_moves_the_score_the_right_way_and_for_both_sides_alike(change, sign):
    mirrored = {
        name.replace("_a", "_%").replace("_b", "_a").replace("_%", "_b"): value for name, value in change.items()
    }
    before, after, mirror = score(pd.DataFrame([EDGE, EDGE | change, EDGE | mirrored]))
    assert (after - before) * sign > 0
    assert after == mirror
    assert 0 < after < 1


def test_an_overlap_of_floods_alone_does_not_outweigh_a_membrane():
    membrane = EDGE | {"contrast": 0.3, "intensity": -0.5, "flood_a": 1.0}
    assert score(pd.DataFrame([membrane]))[0] < 0.5


def test_the_contrast_of_few_faces_counts_less():
    scores = [score(pd.DataFrame([EDGE | {"contact_area": n, "contrast": -0.2}]))[0] for n in (10, 100, 10_000)]
    assert scores[0] < scores[1] < scores[2]


def test_real_contacts_inside_neurons_rank_above_those_between_them(fib25, fib25_image):
    """On a part of FIB-25 that the coefficients were not fitted to; the published segments are cut across x."""
    part = (slice(110, 150), slice(0, 125), slice(0, 250))
    with h5py.File(fib25 / "groundtruth.h5") as file:
        rows, stack = file["transforms"][()], file["stack"][part]
    body = dict(rows.tolist())
    ids, index = np.unique(stack, return_inverse=True)
    truth = np.array([body[int(one)] for one in ids])[index].reshape(stack.shape)
    with h5py.File(fib25 / "published_segmentation.h5") as file:
        segments = file["segmentation"][part].astype(np.uint64)
    cut = np.where(segments > 0, 1000 * segments + np.uint64(1) + np.arange(250, dtype=np.uint64) // np.uint64(50), 0)
    edges = measured(cut, fib25_image[part])
    edges = edges[edges["contact_area"] >= 10]

    def neuron_of(supervoxel: int) -> int:
        bodies, counts = np.unique(truth[cut == supervoxel], return_counts=True)
        return int(bodies[counts.argmax()])

    neuron = {one: neuron_of(one) for one in np.unique(cut[cut > 0]).tolist()}
    same = edges["a"].map(neuron) == edges["b"].map(neuron)
    assert roc_auc_score(same, edges["score"]) > 0.9
    assert same[edges["score"] > 0.5].mean() > 0.9


# --- the solver ------------------------------------------------------------------------------------------------------


def greedy(count: int, pairs: np.ndarray, weight: np.ndarray) -> list[set[int]]:
    """Greedy additive contraction as its definition says it."""
    clusters = [{node} for node in range(count)]
    while True:
        at = {node: index for index, cluster in enumerate(clusters) for node in cluster}
        sums: dict[tuple[int, int], float] = {}
        for (u, v), one in zip(pairs.tolist(), weight, strict=True):
            i, j = sorted((at[u], at[v]))
            if i != j:
                sums[i, j] = sums.get((i, j), 0.0) + one
        best = max(sums, key=lambda pair: sums[pair], default=None)
        if best is None or sums[best] <= 0:
            return clusters
        i, j = best
        clusters = [cluster for k, cluster in enumerate(clusters) if k not in best] + [clusters[i] | clusters[j]]


def partition(numbers: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(numbers == one).tolist()) for one in np.unique(numbers)}


@st.composite
def graphs(draw):
    """Nodes and edges with scores and areas; no two sums of weights are equal."""
    count = draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = np.array([(i, j) for i in range(count) for j in range(i + 1, count)], np.int64).reshape(-1, 2)
    pairs = pairs[rng.random(len(pairs)) < draw(st.sampled_from([0.3, 0.6, 1.0]))]
    nodes = pd.DataFrame(
        {"supervoxel": np.sort(rng.choice(10**6, count, replace=False)).astype(np.uint64) + np.uint64(2**60)}
    ).assign(voxels=rng.integers(1, 5, count))
    ids = nodes["supervoxel"].to_numpy()
    edges = pd.DataFrame({"a": ids[pairs[:, 0]], "b": ids[pairs[:, 1]]}).assign(
        score=rng.uniform(0.05, 0.95, len(pairs)), contact_area=rng.integers(10, 500, len(pairs))
    )
    return nodes, edges, pairs, rng


@given(graphs())
def test_the_solver_contracts_greedily_in_whatever_order_the_contacts_come(problem):
    nodes, edges, pairs, rng = problem
    neuron = solve.solve(nodes, edges, Solver())
    assert partition(neuron) == {frozenset(one) for one in greedy(len(nodes), pairs, solve.weights(edges, 0.5))}
    np.testing.assert_array_equal(neuron, solve.solve(nodes, edges.iloc[rng.permutation(len(edges))], Solver()))


@given(graphs())
def test_equal_weights_are_merged_in_an_order_of_their_own(problem):
    nodes, edges, _, rng = problem
    equal = edges.assign(score=rng.choice([0.2, 0.8], len(edges)), contact_area=100)
    numbers = solve.solve(nodes, equal, Solver())
    np.testing.assert_array_equal(numbers, solve.solve(nodes, equal.iloc[rng.permutation(len(equal))], Solver()))


@given(graphs(), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_without_cycles_exactly_the_contacts_above_the_threshold_are_merged(problem, one, other):
    nodes, edges, pairs, _ = problem
    path = edges[pairs[:, 1] == pairs[:, 0] + 1]
    partitions = []
    for threshold in sorted((one, other)):
        neuron = solve.solve(nodes, path, Solver(threshold=threshold))
        neuron_of = dict(zip(nodes["supervoxel"], neuron, strict=True))
        for edge in path.itertuples():
            assert (neuron_of[edge.a] == neuron_of[edge.b]) == (edge.score > threshold)
        partitions.append(partition(neuron))
    coarse, fine = partitions
    assert all(any(part <= whole for whole in coarse) for part in fine)


def of(numbers: list[tuple[int, int, float]], threshold: float = 0.5) -> list[int]:
    """Neurons of the supervoxels 1 to 4 with equal contacts of these scores."""
    nodes = pd.DataFrame({"supervoxel": np.arange(1, 5, dtype=np.uint64), "voxels": [10, 20, 30, 40]})
    edges = pd.DataFrame(numbers, columns=["a", "b", "score"]).assign(contact_area=100)
    return solve.solve(nodes, edges, Solver(threshold=threshold)).tolist()


def test_known_answers():
    assert of([(1, 2, 0.9), (3, 4, 0.9), (2, 3, 0.1)]) == [2, 2, 1, 1]
    # After the surest merger, what is against the next one outweighs what is for it; or does not.
    assert of([(1, 2, 0.95), (2, 3, 0.8), (1, 3, 0.1)]) == [2, 2, 3, 1]
    assert of([(1, 2, 0.95), (2, 3, 0.9), (1, 3, 0.3)]) == [1, 1, 1, 2]
    assert of([(1, 2, 0.9), (3, 4, 0.9), (2, 3, 0.4)], threshold=0.3) == [1, 1, 1, 1]


def test_a_large_contact_outweighs_a_small_one():
    nodes = pd.DataFrame({"supervoxel": np.arange(1, 4, dtype=np.uint64), "voxels": [10, 20, 30]})
    edges = pd.DataFrame({"a": [1, 1, 2], "b": [2, 3, 3], "score": [0.95, 0.8, 0.2], "contact_area": [100, 100, 90]})
    assert len(set(solve.solve(nodes, edges, Solver()).tolist())) == 1
    assert len(set(solve.solve(nodes, edges.assign(contact_area=[100, 100, 110]), Solver()).tolist())) == 2


def test_neurons_are_numbered_by_size_and_then_by_smallest_supervoxel():
    nodes = pd.DataFrame({"supervoxel": np.array([2, 5, 7, 8], np.uint64), "voxels": [3, 10, 7, 4]})
    edges = pd.DataFrame({"a": [2], "b": [7], "score": [0.9], "contact_area": [50]})
    numbers = solve.solve(nodes, edges, Solver())
    assert numbers.tolist() == [1, 2, 1, 3]
    assert numbers.dtype == np.uint64


# --- the stage -------------------------------------------------------------------------------------------------------

SHAPE = (48, 64, 80)


@pytest.fixture(scope="module")
def anatomy() -> tuple[np.ndarray, np.ndarray]:
    return phantom.labels(SHAPE, 4), phantom.image(SHAPE, 4)


def prepared(
    folder: Path,
    segmentation: np.ndarray,
    image: np.ndarray,
    overlaps: tuple[tuple[int, int, int], ...] = (),
    candidates: np.ndarray | None = None,
    **agglomeration: object,
) -> Experiment:
    """An experiment of one sub-volume, whose supervoxels are the objects of a segmentation."""
    experiment = make_experiment(folder, image, to_xyz(image.shape), (1, 1, 1), agglomeration=agglomeration)
    (box,) = experiment.subvolumes
    weaker = None if candidates is None else {box: candidates}
    write_floods(experiment, {box: segmentation}, {box: list(overlaps)}, candidates=weaker)
    assembly.run(experiment)
    return experiment


def agglomerate(experiment: Experiment) -> np.ndarray:
    for step in (graph, edge_scores, solve, neurons):
        step.run(experiment)
    layer = Layer.open(experiment.layer("neurons"))
    return layer.read(layer.box)


def one_to_one_into(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether every object of `fine` lies in one object of `coarse`."""
    both = (fine > 0) & (coarse > 0)
    pairs = np.unique(np.stack([fine[both], coarse[both]]), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1]


@pytest.fixture(scope="module")
def cut(anatomy) -> tuple[np.ndarray, list[int]]:
    """Every third neurite cut in two by a plane across its longest side, two voxels left out; and which they are."""
    truth, _ = anatomy
    pieces, chosen = truth.copy(), []
    for label in np.unique(truth)[1::3].tolist():
        place = np.argwhere(truth == label)
        axis = int(np.ptp(place, axis=0).argmax())
        middle = int(np.median(place[:, axis]))
        at = place[:, axis]
        pieces[tuple(place[(at == middle) | (at == middle + 1)].T)] = 0
        pieces[tuple(place[at > middle + 1].T)] += np.uint64(1000)
        chosen.append(label)
    return pieces, chosen


@pytest.fixture(scope="module")
def agglomerated(tmp_path_factory, anatomy, cut) -> tuple[Experiment, np.ndarray]:
    experiment = prepared(tmp_path_factory.mktemp("agglomerated"), cut[0], anatomy[1])
    return experiment, agglomerate(experiment)


def test_cut_neurons_become_whole_and_neighbours_stay_apart(agglomerated, anatomy, cut):
    found, (truth, _), (pieces, chosen) = agglomerated[1], anatomy, cut
    assert one_to_one_into(found, truth)
    whole = [label for label in chosen if len(np.unique(found[pieces % 1000 == label])) == 1]
    # The score is cautious: one of the cut neurons may stay in two.
    assert len(whole) >= len(chosen) - 1


def test_mapping_manifest_and_layer_agree(agglomerated):
    experiment, found = agglomerated
    mapping = pd.read_parquet(experiment.agglomeration / "mapping.parquet")
    assert mapping.dtypes.tolist() == [np.uint64, np.uint64]
    assert mapping["supervoxel"].is_monotonic_increasing and mapping["supervoxel"].is_unique
    ids, sizes = np.unique(found[found > 0], return_counts=True)
    assert ids.tolist() == list(range(1, mapping["neuron"].max() + 1)) and (np.diff(sizes) <= 0).all()
    assert json.loads(experiment.manifest("neurons").read_text()) == {
        "box_xyz": [[0, 0, 0], [80, 64, 48]],
        "voxel_size_nm_xyz": [8, 8, 8],
        "dtype": "uint64",
        "neurons": len(ids),
    }


def test_a_person_can_open_the_graph(agglomerated):
    folder = agglomerated[0].agglomeration
    opened = nx.read_graphml(folder / "graph.graphml", node_type=int)
    nodes, edges = pd.read_parquet(folder / "nodes.parquet"), pd.read_parquet(folder / "edges.parquet")
    mapping = pd.read_parquet(folder / "mapping.parquet").set_index("supervoxel")["neuron"]
    assert {node: (data["voxels"], data["neuron"]) for node, data in opened.nodes(data=True)} == {
        row.supervoxel: (row.voxels, mapping[row.supervoxel]) for row in nodes.itertuples()
    }
    assert opened.number_of_edges() == len(edges) > 0
    for row in edges.itertuples():
        data = opened.edges[row.a, row.b]
        assert (data["score"], data["contact_area"]) == (row.score, row.contact_area)
        assert (data["x"], data["y"], data["z"]) == (row.x, row.y, row.z)
        assert data["merged"] == (mapping[row.a] == mapping[row.b])


def test_a_higher_threshold_merges_less(agglomerated):
    folder = agglomerated[0].agglomeration
    nodes, edges = pd.read_parquet(folder / "nodes.parquet"), pd.read_parquet(folder / "edges.parquet")
    assert edges["score"].between(0, 1).all()
    thresholds = (1e-9, 0.1, 0.3, 0.5, 0.7, 0.9, 1 - 1e-9)
    counts = [int(solve.solve(nodes, edges, Solver(threshold=threshold)).max()) for threshold in thresholds]
    assert counts == sorted(counts) and counts[0] < counts[3] < counts[-1] == len(nodes)


def test_a_second_run_gives_the_same_bytes(agglomerated):
    experiment, _ = agglomerated

    def contents() -> dict[Path, bytes]:
        files = [*experiment.agglomeration.iterdir(), *experiment.layer("neurons").rglob("*")]
        return {path: path.read_bytes() for path in files if path.is_file() and path.name != "provenance"}

    before = contents()
    agglomerate(experiment)
    assert contents() == before


def test_overlaps_of_floods_reach_the_score(tmp_path):
    labels, image = two_slabs(150)
    image[0, 0, 0] = 0
    scores = []
    for name, overlap in (("without", ()), ("with", ((9, 3, 300),))):
        experiment = prepared(tmp_path / name, labels, image, overlap)
        for step in (graph, edge_scores):
            step.run(experiment)
        (edge,) = pd.read_parquet(experiment.agglomeration / "edges.parquet").to_dict("records")
        scores.append(edge["score"])
    assert scores[0] < scores[1]


def test_neurons_grow_as_far_as_configured_whatever_the_boxes(tmp_path, anatomy, cut, monkeypatch):
    image = anatomy[1]
    grown = []
    for name, at_once in (("whole", 256), ("in_boxes", 16)):
        monkeypatch.setattr(neurons, "WRITTEN_AT_ONCE", at_once)
        grown.append(agglomerate(prepared(tmp_path / name, cut[0], image, grow={"voxels": 3.0})))
    np.testing.assert_array_equal(*grown)
    kept = cut[0] > 0
    distance = distance_transform_edt(~kept)
    np.testing.assert_array_equal(grown[0] > 0, distance <= 3)
    assert same_up_to_ids(grown[0] * kept, agglomerate(prepared(tmp_path / "as_they_are", cut[0], image)))


def test_supervoxels_without_contacts_are_neurons_each(tmp_path):
    labels = np.zeros((16, 16, 24), np.int32)
    labels[2:6, 2:6, 2:6], labels[2:6, 2:6, 16:20] = 1, 2
    experiment = prepared(tmp_path, labels, np.arange(labels.size, dtype=np.uint8).reshape(labels.shape))
    assert same_up_to_ids(agglomerate(experiment), labels)
    assert nx.read_graphml(experiment.agglomeration / "graph.graphml").number_of_edges() == 0


def test_no_supervoxels_make_no_neurons(tmp_path):
    labels = np.zeros((16, 16, 24), np.int32)
    experiment = prepared(tmp_path, labels, np.arange(labels.size, dtype=np.uint8).reshape(labels.shape))
    assert not agglomerate(experiment).any()
    assert json.loads(experiment.manifest("neurons").read_text())["neurons"] == 0
    assert pd.read_parquet(experiment.agglomeration / "mapping.parquet").empty


def test_neurons_take_their_candidates_first_and_then_the_nearest_voxels(tmp_path):
    labels, image = two_slabs(60)
    candidates = np.zeros_like(labels)
    candidates[2, 3, 8], candidates[2, 3, 9] = 9, 9  # beside 3, but the flood of 9 held both
    plain = agglomerate(prepared(tmp_path / "plain", labels, image, candidates=candidates))
    assert (plain[:, :, 8:10] == 0).all()
    wanted = {"candidates": True}
    taken = agglomerate(prepared(tmp_path / "taken", labels, image, candidates=candidates, grow=wanted))
    assert set(np.unique(taken[2, 3, 8:]).tolist()) == {taken[2, 3, 17]}
    assert (taken > 0).sum() == (plain > 0).sum() + 2
    grown = agglomerate(prepared(tmp_path / "grown", labels, image, candidates=candidates, grow=wanted | {"voxels": 1}))
    assert grown[2, 3, 8] == grown[0, 0, 9] == grown[2, 3, 17]
    assert grown[0, 0, 8] == grown[0, 0, 0] != grown[0, 0, 17]


# --- missing inputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step, missing",
    [
        (graph, "supervoxels/manifest.json"),
        (graph, "supervoxels/overlaps.parquet"),
        (graph, "image/manifest.json"),
        (edge_scores, "agglomeration/contacts.parquet"),
        (solve, "agglomeration/edges.parquet"),
        (solve, "agglomeration/nodes.parquet"),
        (neurons, "supervoxels/manifest.json"),
        (neurons, "agglomeration/mapping.parquet"),
    ],
)
def test_a_missing_input_is_one_sentence_and_leaves_no_output(tmp_path, step, missing):
    experiment = prepared(tmp_path, *two_slabs(60))
    agglomerate(experiment)
    (tmp_path / missing).unlink()
    output = {
        graph: "agglomeration/contacts.parquet",
        edge_scores: "agglomeration/edges.parquet",
        solve: "agglomeration/mapping.parquet",
        neurons: "neurons/manifest.json",
    }
    with pytest.raises(FloodlineError, match=f"{missing} is missing: run the stage that writes it first"):
        step.run(Experiment(tmp_path))
    assert not (tmp_path / output[step]).exists()


def test_a_mapping_of_other_supervoxels_is_refused(tmp_path):
    experiment = prepared(tmp_path, *two_slabs(60))
    agglomerate(experiment)
    path = experiment.agglomeration / "mapping.parquet"
    pd.read_parquet(path).iloc[:1].to_parquet(path)
    with pytest.raises(FloodlineError, match=r"mapping.parquet lacks the supervoxel 2"):
        neurons.run(experiment)
    assert not experiment.manifest("neurons").exists()


def test_a_damaged_table_is_one_sentence(tmp_path):
    experiment = prepared(tmp_path, *two_slabs(60))
    agglomerate(experiment)
    (experiment.agglomeration / "edges.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(FloodlineError, match=r"edges.parquet is not a whole parquet table"):
        solve.run(experiment)
