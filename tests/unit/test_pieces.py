"""Cleaning of labels: the same as on the whole array at once, however it is cut; and every change is counted."""

from __future__ import annotations

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from test_ingest import with_labels

from floodline import config
from floodline.geometry import Box, blocks
from floodline.ingest import cleaning, pieces
from floodline.ingest import labels as ingest_labels
from floodline.manifest import read_json
from floodline.publishing import inputs
from floodline.volumes.layer import Layer

START = (3, -5, 11)


def cleaned(
    labels: np.ndarray, block_xyz: tuple[int, int, int], **wanted: object
) -> tuple[np.ndarray, cleaning.Counts]:
    """Labels through pieces of blocks, as the stage does it."""
    whole = Box.of_array(labels.shape, START)
    boxes = blocks(whole, block_xyz)

    def read(box: Box) -> np.ndarray:
        return labels[box.slices_zyx(START)]

    described = (pieces.describe(read(pieces.grown(box, whole)), box, whole, True) for box in boxes)
    joined = pieces.join(boxes, described)
    label_of, counts = cleaning.decide(joined, config.Cleaning(**wanted))
    result = np.zeros_like(labels)
    for box, own in zip(boxes, joined.of_blocks, strict=True):
        numbers, _ = pieces.numbered(read(pieces.grown(box, whole)))
        result[box.slices_zyx(START)] = label_of[own][numbers[box.slices_zyx(box.start_xyz)]]
    return result, counts


def by_hand(labels: np.ndarray, disconnected: str, min_voxels: int, fill_holes: bool) -> np.ndarray:
    """The definition, object by object, on the whole array."""
    result = labels.copy()
    if disconnected != "keep":
        others = []
        for label in np.unique(labels[labels > 0]):
            parts, count = ndimage.label(labels == label, np.ones((3, 3, 3)))
            masks = [parts == number for number in range(1, count + 1)]
            # ndimage numbers parts in the order of their first voxels, and max takes the first of equals.
            largest = max(range(count), key=lambda number: masks[number].sum())
            others += [mask for number, mask in enumerate(masks) if number != largest]
        others.sort(key=lambda mask: np.flatnonzero(mask.ravel())[0])
        for number, mask in enumerate(others, start=1):
            result[mask] = labels.max() + np.uint64(number) if disconnected == "split" else 0
    for label, size in zip(*np.unique(result, return_counts=True), strict=True):
        if label and size < min_voxels:
            result[result == label] = 0
    if fill_holes:
        places, count = ndimage.label(result == 0)
        # An object that was removed is one place, also where its voxels touch at a corner only.
        for label in np.unique(labels[labels > 0]):
            parts, number = ndimage.label((labels == label) & (result == 0), np.ones((3, 3, 3)))
            for part in range(1, number + 1):
                joined = np.unique(places[parts == part])
                places[np.isin(places, joined)] = joined[0]
        padded = np.pad(result, 1, constant_values=np.iinfo(np.uint64).max)
        for number in range(1, count + 1):
            around = ndimage.binary_dilation(np.pad(places == number, 1)) & ~np.pad(places == number, 1)
            beside = np.unique(padded[around])
            if len(beside) == 1 and beside[0] != np.iinfo(np.uint64).max:
                result[places == number] = beside[0]
    return result


coarse = hnp.arrays(
    np.uint64, hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7), elements=st.integers(0, 3)
)


@settings(max_examples=60)
@given(
    coarse,
    st.tuples(*[st.integers(1, 2)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.sampled_from(["keep", "split", "largest"]),
    st.sampled_from([0, 3, 12]),
    st.booleans(),
)
def test_cleaning_by_blocks_is_cleaning_of_the_whole(labels, scale, block_xyz, disconnected, min_voxels, fill_holes):
    labels = np.kron(labels, np.ones(scale, np.uint64)).astype(np.uint64)
    result, _ = cleaned(labels, block_xyz, disconnected=disconnected, min_voxels=min_voxels, fill_holes=fill_holes)
    if disconnected == "keep" and min_voxels == 0 and not fill_holes:
        assert np.array_equal(result, labels)
    assert np.array_equal(result, by_hand(labels, disconnected, min_voxels, fill_holes))


def test_a_hole_is_filled_and_a_bay_is_not():
    labels = np.zeros((9, 9, 9), np.uint64)
    labels[1:8, 1:8, 1:8] = 5
    labels[4, 4, 4] = 0
    labels[4, 4, 6:9] = 0
    labels[2, 2, 2] = 9
    labels[6, 6, 5:7] = 0
    labels[6, 6, 6] = 8
    result, counts = cleaned(labels, (4, 4, 4), fill_holes=True, min_voxels=2)
    assert result[4, 4, 4] == 5
    assert (result[4, 4, 6:9] == 0).all(), "open to the outside"
    assert result[2, 2, 2] == 5, "what was removed is a hole, too"
    assert (result[6, 6, 5:7] == 5).all()
    assert counts == {"small_objects": {"objects": 2, "voxels": 2}, "holes": {"holes": 3, "voxels": 4}}


def test_pieces_that_touch_at_a_corner_are_one_and_equal_pieces_keep_their_order():
    labels = np.zeros((4, 4, 8), np.uint64)
    labels[0, 0, 0] = labels[1, 1, 1] = 1
    labels[3, 3, 5] = labels[3, 3, 7] = 2
    result, counts = cleaned(labels, (2, 2, 2), disconnected="split")
    assert result[0, 0, 0] == result[1, 1, 1] == 1
    assert (result[3, 3, 5], result[3, 3, 7]) == (2, 3)
    assert counts == {"disconnected": {"objects": 1, "pieces": 1, "voxels": 1}}


@given(coarse, st.tuples(*[st.integers(0, 2)] * 3))
def test_erosion_leaves_what_sees_its_own_label_alone(labels, radius):
    result = cleaning.eroded(labels, radius)
    for place in np.ndindex(labels.shape):
        box = tuple(slice(max(0, p - r), p + r + 1) for p, r in zip(place, radius, strict=True))
        alone = (labels[box] == labels[place]).all()
        assert result[place] == (labels[place] if alone else 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_stage_cleans_counts_and_leaves_the_source_alone(tmp_path, workers, monkeypatch):
    """... in blocks of a few chunks, with everything at once."""
    monkeypatch.setattr("floodline.ingest.blocks.FEWEST_VOXELS", 300 if workers == 1 else 2**22)
    rng = np.random.default_rng(4)
    array = np.kron(rng.integers(0, 5, (5, 5, 6)), np.ones((3, 4, 4), int))[:13, :17, :21].astype(np.uint64)
    array[6, 6, 6] = 77
    clean = {"disconnected": "split", "min_voxels": 20, "fill_holes": True, "erode_xyz": [1, 1, 0]}
    exp = with_labels(tmp_path, array, clean=clean)
    source = (tmp_path / "labels.h5").read_bytes()
    ingest_labels.run(exp, workers=workers)
    assert (tmp_path / "labels.h5").read_bytes() == source

    before_erosion = by_hand(array, "split", 20, True)
    expected = cleaning.eroded(before_erosion, (0, 1, 1))
    layer = Layer.open(exp.layer("labels"))
    assert np.array_equal(layer.read(layer.box), expected)
    told = read_json(exp.manifest("labels"))["cleaning"]
    assert told["before"] == {"objects": len(set(array.ravel()) - {0}), "labelled_voxels": np.count_nonzero(array)}
    assert told["after"] == {"objects": len(set(expected.ravel()) - {0}), "labelled_voxels": np.count_nonzero(expected)}
    assert told["eroded"]["voxels"] == np.count_nonzero(before_erosion) - np.count_nonzero(expected)
    assert told["small_objects"]["objects"] >= 1
    parts = cc3d.connected_components(array, connectivity=26).max()
    assert told["disconnected"]["pieces"] == parts - told["before"]["objects"]
    assert not exp.unfinished("labels").exists()
    html = inputs.sections(exp)
    for row in ("as the source has them", "small objects removed", "boundaries eroded", "as they were used"):
        assert row in html


def test_labels_that_are_not_cleaned_say_nothing_of_it(tmp_path):
    exp = with_labels(tmp_path, np.ones((13, 17, 21), int))
    ingest_labels.run(exp)
    assert read_json(exp.manifest("labels"))["cleaning"] is None
