"""Label volumes: union-find, relabelling, sizes, contingency tables and scores."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan, sqrt

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import metrics

from floodline.segmentation import contingency, relabel, scores, sizes, union_find

ids = st.integers(0, 6) | st.integers(2**64 - 3, 2**64 - 1)
pair_lists = st.lists(st.tuples(ids, ids), max_size=12)
volumes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint64, shape, elements=st.integers(0, 4))] * 2)
)


def as_pairs(pairs):
    return np.array(pairs, np.uint64).reshape(-1, 2)


# --- union-find ------------------------------------------------------------------------------------------------------


@given(pair_lists)
def test_united_ids_share_the_smallest_member_as_their_root(pairs):
    groups = {i: {i} for pair in pairs for i in pair}
    for a, b in pairs:
        merged = groups[a] | groups[b]
        for member in merged:
            groups[member] = merged
    members, roots = union_find.unite(as_pairs(pairs))
    assert members.dtype == roots.dtype == np.uint64
    assert members.tolist() == sorted(groups)
    assert roots.tolist() == [min(groups[member]) for member in sorted(groups)]


@given(pair_lists, st.randoms())
def test_union_does_not_depend_on_the_order_of_pairs(pairs, random):
    shuffled = [(b, a) for a, b in pairs]
    random.shuffle(shuffled)
    for one, other in zip(union_find.unite(as_pairs(pairs)), union_find.unite(as_pairs(shuffled)), strict=True):
        assert np.array_equal(one, other)


# --- relabelling and sizes -------------------------------------------------------------------------------------------


@given(volumes, st.dictionaries(ids, ids))
def test_mapping_replaces_keys_and_keeps_other_labels(pair, mapping):
    labels, _ = pair
    keys = np.array(sorted(mapping), np.uint64)
    values = np.array([mapping[key] for key in sorted(mapping)], np.uint64)
    mapped = relabel.apply_mapping(labels, keys, values)
    expected = [mapping.get(label, label) for label in labels.ravel().tolist()]
    assert mapped.dtype == np.uint64
    assert mapped.shape == labels.shape
    assert mapped.ravel().tolist() == expected


def test_mapping_leaves_its_input_alone():
    labels = np.array([[[1, 2]]], np.uint64)
    relabel.apply_mapping(labels, np.array([1], np.uint64), np.array([9], np.uint64))
    assert labels.tolist() == [[[1, 2]]]


@given(hnp.arrays(np.uint64, (2, 3, 4), elements=ids))
def test_compact_numbers_stand_for_the_labels(labels):
    numbers, table = relabel.compact(labels)
    assert table[0] == 0
    assert np.array_equal(table[numbers], labels)
    assert sorted(set(numbers.ravel().tolist()) | {0}) == list(range(len(table)))


@given(volumes)
def test_sizes_add_up_over_parts(pair):
    labels, _ = pair
    members, counts = sizes.label_sizes([labels[:1], labels[1:]])
    expected = {label: (labels == label).sum() for label in np.unique(labels).tolist() if label}
    assert dict(zip(members.tolist(), counts.tolist(), strict=True)) == expected


# --- contingency tables ----------------------------------------------------------------------------------------------


@given(volumes)
def test_table_counts_the_voxels_of_each_pair(pair):
    a, b = pair
    table = contingency.tabulate(a, b)
    rows = list(zip(table.a.tolist(), table.b.tolist(), strict=True))
    assert rows == sorted(set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)))
    assert table.count.tolist() == [int(((a == i) & (b == j)).sum()) for i, j in rows]


@given(volumes, st.integers(0, 5))
def test_tables_of_parts_add_up_to_the_table_of_the_whole(pair, cut):
    a, b = pair
    parts = [contingency.tabulate(a[:cut], b[:cut]), contingency.tabulate(a[cut:], b[cut:])]
    whole, added = contingency.tabulate(a, b), contingency.add(parts)
    for name in ("a", "b", "count"):
        assert np.array_equal(getattr(whole, name), getattr(added, name))


def test_no_tables_add_up_to_an_empty_one():
    assert contingency.add([]).voxels == 0


def test_table_refuses_arrays_of_different_shapes():
    with pytest.raises(ValueError, match="shapes"):
        contingency.tabulate(np.zeros((1, 2, 3), int), np.zeros((1, 3, 2), int))


# --- scores ----------------------------------------------------------------------------------------------------------


def scored(truth, segmentation, convention="all_labelled"):
    return scores.score(scores.CONVENTIONS[convention](contingency.tabulate(truth, segmentation)))


@given(volumes, st.sampled_from(list(scores.CONVENTIONS)))
def test_scores_equal_those_of_scikit_image(pair, convention):
    truth, segmentation = pair
    counted = truth != 0
    if convention == "labelled_by_both":
        counted &= segmentation != 0
    ours = scored(truth, segmentation, convention)
    assert ours.voxels == counted.sum()
    if ours.voxels == 0:
        assert isnan(ours.voi_split)
        assert isnan(ours.adapted_rand_error)
        return
    a, b = truth[counted], segmentation[counted]
    split, merge = metrics.variation_of_information(a, b)
    assert (ours.voi_split, ours.voi_merge) == pytest.approx((split, merge), abs=1e-12)
    with np.errstate(invalid="ignore", divide="ignore"):
        # scikit-image returns recall before precision, whatever its documentation says: see the next test.
        error, recall, precision = metrics.adapted_rand_error(a, b, ignore_labels=())
    assert ours.adapted_rand_error == pytest.approx(error, abs=1e-12, nan_ok=True)
    assert (ours.precision, ours.recall) == pytest.approx((precision, recall), abs=1e-12, nan_ok=True)
    assert ours.cremi == pytest.approx(sqrt((split + merge) * max(error, 0)), abs=1e-6, nan_ok=True)


@given(volumes)
def test_rand_error_is_the_share_of_pairs_judged_differently(pair):
    truth, segmentation = (array.ravel() for array in pair)
    same_truth = truth[:, None] == truth[None]
    same_segment = segmentation[:, None] == segmentation[None]
    pairs = ~np.eye(len(truth), dtype=bool)
    expected = (same_truth != same_segment)[pairs].mean() if pairs.any() else np.nan
    assert scores.score(contingency.tabulate(truth, segmentation)).rand_error == pytest.approx(expected, nan_ok=True)


def test_a_split_costs_recall_and_split_bits_only():
    split = scored(np.ones(8, int), np.repeat([1, 2], 4))
    assert (split.voi_split, split.voi_merge) == pytest.approx((1, 0))
    assert split.precision == 1
    assert split.recall == pytest.approx(2 * 4 * 3 / (8 * 7))


def test_a_merger_costs_precision_and_merge_bits_only():
    merger = scored(np.repeat([1, 2], 4), np.ones(8, int))
    assert (merger.voi_split, merger.voi_merge) == pytest.approx((0, 1))
    assert merger.recall == 1
    assert merger.precision == pytest.approx(2 * 4 * 3 / (8 * 7))


def test_unsegmented_voxels_are_one_object_or_left_out():
    truth, segmentation = np.repeat([1, 2], 4), np.array([1, 1, 0, 0, 2, 2, 0, 0])
    assert scored(truth, segmentation, "labelled_by_both").voi_merge == 0
    both = scored(truth, segmentation, "all_labelled")
    assert both.voxels == 8
    assert both.voi_merge == pytest.approx(0.5)  # half of all voxels lie in an object that holds two neurons equally
    assert scores.coverage(contingency.tabulate(truth, segmentation)) == 0.5


@given(volumes, st.randoms())
def test_scores_do_not_depend_on_ids(pair, random):
    truth, segmentation = pair
    new = list(range(1, 5))
    random.shuffle(new)
    renamed = np.array([0, *new], np.uint64)[segmentation]
    for convention in scores.CONVENTIONS:
        one, other = scored(truth, segmentation, convention), scored(truth, renamed, convention)
        assert asdict(one) == pytest.approx(asdict(other), nan_ok=True)


def test_shuffled_labels_score_worse():
    truth = np.kron(np.arange(1, 9).reshape(2, 2, 2), np.ones((4, 4, 4), int))
    shuffled = np.random.default_rng(0).permutation(truth.ravel()).reshape(truth.shape)
    assert scored(truth, truth).adapted_rand_error == 0
    assert scored(truth, shuffled).adapted_rand_error > 0.8


def test_published_result_has_its_published_scores(fib25):
    with h5py.File(fib25 / "groundtruth.h5") as file:
        supervoxels, table = file["stack"][()], file["transforms"][()]
    with h5py.File(fib25 / "published_segmentation.h5") as file:
        segmentation = file["segmentation"][: len(supervoxels)]
    keys, values = table[np.argsort(table[:, 0])].T
    table = contingency.tabulate(relabel.apply_mapping(supervoxels, keys, values), segmentation)
    both, all_labelled = (scores.score(convention(table)) for convention in scores.CONVENTIONS.values())
    assert (both.voi_split, both.voi_merge) == pytest.approx((0.556, 0.243), abs=5e-4)
    assert both.adapted_rand_error == pytest.approx(0.101, abs=5e-4)
    assert all_labelled.voi_split + all_labelled.voi_merge == pytest.approx(1.612, abs=5e-4)
    assert all_labelled.adapted_rand_error == pytest.approx(0.195, abs=5e-4)
    assert scores.coverage(table) == pytest.approx(0.903, abs=5e-4)
