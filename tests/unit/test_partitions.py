"""Partitions of the labels equal a brute-force reading of their definition."""

from __future__ import annotations

from itertools import product

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from floodline import config, pool, steps
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.sites import read_coordinates
from floodline.geometry import Box, blocks
from floodline.labels import coordinates, held_out, partitions
from floodline.labels.partitions import Definition
from floodline.manifest import write_json
from floodline.volumes.layer import Layer

START_XYZ = (-3, 5, 100)
THRESHOLDS = (0.1, 1 / 3, 0.5, 0.75)


def brute_force(labels, definition, mask):
    """The definition, voxel by voxel."""
    labels = np.where(np.isin(labels, definition.removed), 0, labels)
    rx, ry, rz = definition.radius_xyz
    result = np.full(labels.shape, 255, np.uint8)
    for z, y, x in product(*(range(r, n - r) for r, n in zip((rz, ry, rx), labels.shape, strict=True))):
        around = np.s_[z - rz : z + rz + 1, y - ry : y + ry + 1, x - rx : x + rx + 1]
        point = [x + START_XYZ[0], y + START_XYZ[1], z + START_XYZ[2]]
        if mask[around].any():
            continue
        if any(
            sum((p - c) ** 2 for p, c in zip(point, ball, strict=False)) <= ball[3] ** 2
            for ball in definition.balls_xyzr
        ):
            continue
        if any(box.contains_point(point) for box in definition.boxes):
            continue
        label = labels[z, y, x]
        fraction = (labels[around] == label).mean()
        below = [i for i, threshold in enumerate(definition.thresholds) if fraction < threshold]
        result[z, y, x] = 0 if label == 0 else 1 + (below[0] if below else len(definition.thresholds))
    return result


def computed(labels, definition, mask, block_xyz):
    """Partitions, and where removed labels are, put together from blocks; nothing may be read outside the volume."""
    box = Box.of_array(labels.shape, START_XYZ)

    def reader(array):
        def read(wanted):
            assert box.contains(wanted)
            return array[wanted.slices_zyx(START_XYZ)]

        return read

    definition = Definition(**{**vars(definition), "mask": reader(mask)})
    result, is_removed = np.zeros(labels.shape, np.uint8), np.zeros(labels.shape, bool)
    for block in blocks(box, block_xyz):
        here = block.slices_zyx(START_XYZ)
        result[here], is_removed[here] = partitions.partition(reader(labels), box, definition, block)
    return result, is_removed


shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=3, max_side=11)
points = st.tuples(st.integers(-3, 8), st.integers(5, 16), st.integers(100, 111))


@given(st.data())
def test_partitions_equal_the_definition_whatever_the_block_size(data):
    shape = data.draw(shapes)
    # Few values in a coarse pattern give objects of many sizes, huge ids among them.
    values = st.sampled_from([0, 1, 2, 3, 2**64 - 1])
    coarse = data.draw(hnp.arrays(np.uint64, tuple(-(-n // 3) for n in shape), elements=values))
    labels = np.kron(coarse, np.ones((3, 3, 3), np.uint64))[: shape[0], : shape[1], : shape[2]]
    mask = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 60).map(lambda v: v == 60), fill=st.just(0)))
    definition = Definition(
        thresholds=THRESHOLDS,
        radius_xyz=data.draw(st.tuples(*[st.integers(0, 3)] * 3)),
        removed=np.array(data.draw(st.lists(values, max_size=2)), np.uint64),
        balls_xyzr=data.draw(st.lists(st.builds(lambda p, r: (*p, r), points, st.integers(0, 3)), max_size=2)),
        boxes=data.draw(st.lists(st.builds(lambda p: Box.sized(p, (2, 3, 1)), points), max_size=2)),
    )
    block_xyz = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    found, is_removed = computed(labels, definition, mask, block_xyz)
    assert np.array_equal(found, brute_force(labels, definition, mask))
    valid = np.zeros(shape, bool)
    rx, ry, rz = definition.radius_xyz
    valid[rz : shape[0] - rz, ry : shape[1] - ry, rx : shape[2] - rx] = True
    assert np.array_equal(is_removed, np.isin(labels, definition.removed) & (labels > 0) & valid)


def test_windows_of_more_than_a_byte_are_counted_exactly():
    """One object fills everything: the counts are those of the whole box, 27 * 21 * 15 = 8505 voxels."""
    labels = np.ones((40, 30, 20), np.uint64)
    definition = Definition((0.5, 1.0 - 1e-5), (7, 10, 13), np.array([], np.uint64))
    labels[20, 15, 10] = 2
    result, _ = computed(labels, definition, np.zeros(labels.shape), (64, 64, 64))
    inner = result[13:-13, 10:-10, 7:-7]
    assert result.size - (result == 255).sum() == inner.size
    # Every box holds the one voxel of object 2, so nothing is quite full; that voxel's own fraction is tiny.
    assert (inner == 2).sum() == inner.size - 1
    assert result[20, 15, 10] == 1


def test_a_fraction_equal_to_a_threshold_reaches_it():
    labels = np.array([[[1, 1, 0, 1, 1]]], np.uint64)
    result, _ = computed(labels, Definition((2 / 3,), (1, 0, 0), np.array([], np.uint64)), labels * 0, (8, 8, 8))
    assert result.tolist() == [[[255, 2, 0, 2, 255]]]


# --- the stage -------------------------------------------------------------------------------------------------------


def experiment_with(tmp_path, labels, start_xyz=START_XYZ, **sites):
    """An experiment's folder that holds labels."""
    values = {
        "name": "tiny",
        "image": {"source": {"kind": "phantom"}},
        "labels": {"source": {"kind": "phantom"}},
        "network": {"fov_xyz": [3, 3, 3], "deltas_xyz": [1, 1, 1]},
        "inference": {"subvolume_size_xyz": [8, 8, 8]},
        "training": {},
        "sites": sites,
    }
    (tmp_path / "config.yaml").write_text(config.dump(config.parse(values)))
    experiment = Experiment(tmp_path)
    box = Box.of_array(labels.shape, start_xyz)
    layer = Layer.create(
        experiment.layer("labels"),
        box=box,
        dtype="uint64",
        voxel_size_nm_xyz=(8, 8, 8),
        chunk_size_xyz=(64, 64, 64),
        kind="segmentation",
    )
    layer.write(box, labels.astype(np.uint64))
    write_json(experiment.manifest("labels"), {"box_xyz": box.corners, "boxes_xyz": [box.corners]})
    return experiment


@pytest.fixture
def labels():
    coarse = np.random.default_rng(3).integers(0, 5, (4, 4, 4))
    return np.kron(coarse, np.ones((4, 4, 4), int))


def test_the_stage_crops_first_and_keeps_the_coordinates_of_the_source(tmp_path, labels):
    corners = [[-2, 6, 101], [11, 20, 113]]
    crop = labels[Box.of(corners).slices_zyx(START_XYZ)]
    ids, counts = np.unique(crop, return_counts=True)
    min_size = int(np.median(counts))  # an object of just this size stays
    small = ids[counts < min_size]
    experiment = experiment_with(tmp_path, labels, box_xyz=corners, min_size=min_size, thresholds=THRESHOLDS)
    partitions.run(experiment)
    expected = brute_force(crop, Definition(THRESHOLDS, (2, 2, 2), small), np.zeros(crop.shape))
    with h5py.File(experiment.partitions) as file:
        dataset = file["partitions"]
        assert dataset.dtype == np.uint8
        assert dataset.fillvalue == 255
        assert dataset.compression == "gzip"
        assert np.array_equal(dataset[()], expected)
        assert dataset.attrs["start_xyz"].tolist() == corners[0]
        assert dataset.attrs["bounding_boxes"].tolist() == [[[0, 8, 103], [9, 10, 8]]]
        assert dataset.attrs["partition_counts"].tolist() == [list(c) for c in np.unique(expected, return_counts=True)]


def test_only_listed_labels_are_trained_on(tmp_path, labels):
    experiment = experiment_with(tmp_path, labels, only_labels=[2], min_size=0)
    partitions.run(experiment)
    with h5py.File(experiment.partitions) as file:
        result = file["partitions"][()]
    inner = np.s_[2:-2, 2:-2, 2:-2]
    assert np.array_equal(result[inner] > 0, labels[inner] == 2)
    coordinates.run(experiment)
    x, y, z = (read_coordinates(experiment.coordinates) - START_XYZ).T
    assert set(labels[z, y, x]) == {0, 2}


def test_held_out_boxes_have_no_site_within_a_field_of_view(tmp_path, labels):
    experiment = experiment_with(tmp_path, labels, START_XYZ, held_out_xyz=[[[0, 9, 103], [2, 10, 105]]], min_size=0)
    partitions.run(experiment)
    with h5py.File(experiment.partitions) as file:
        result = file["partitions"][()]
    free = np.zeros(labels.shape, bool)
    free[2:-2, 2:-2, 2:-2] = True
    free[0 : 105 - 100 + 3, 9 - 5 - 3 : 10 - 5 + 3, 0 + 3 - 3 : 2 + 3 + 3] = False
    assert np.array_equal(result != 255, free)


def test_exclusion_regions_have_no_site(tmp_path, labels):
    """The voxels at the radius itself included."""
    *centre_xyz, radius = ball = [2, 9, 104, 3]
    experiment = experiment_with(tmp_path, labels, exclusion_xyzr=[ball], min_size=0)
    partitions.run(experiment)
    with h5py.File(experiment.partitions) as file:
        result = file["partitions"][()]
    z, y, x = np.indices(labels.shape)
    near = sum((a + s - c) ** 2 for a, s, c in zip((x, y, z), START_XYZ, centre_xyz, strict=True)) <= radius**2
    inner = np.s_[2:-2, 2:-2, 2:-2]
    assert near[inner].any()
    assert np.array_equal(result[inner] == 255, near[inner])


def held_out_sites(experiment):
    found = []

    def lead(hand_out):
        with steps.Steps(experiment.unfinished("held-out sites"), "", hand_out) as todo:
            found.append(held_out.sites(experiment, todo))

    pool.run(pool.Crew(lambda: experiment, steps.do), lead)
    return found[0]


def test_held_out_sites_keep_away_from_what_training_sites_do(tmp_path, labels):
    """A removed label, an exclusion region and a mask."""
    held_out_xyz = [Box.of_array(labels.shape, START_XYZ).corners]
    ball = [2, 9, 104, 3]
    experiment_with(tmp_path, labels, held_out_xyz=held_out_xyz, min_size=0, only_labels=[1, 2], exclusion_xyzr=[ball])
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    masked = [[p + 12 for p in START_XYZ], [p + 13 for p in START_XYZ]]
    values["masks"] = [{"kind": "box", "boxes_xyz": [masked], "closed_to": ["sites"]}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    sites_xyz = held_out_sites(Experiment(tmp_path))
    x, y, z = (sites_xyz - START_XYZ).T
    assert set(labels[z, y, x]) == {0, 1, 2}
    assert ((sites_xyz - ball[:3]) ** 2).sum(axis=1).min() > ball[3] ** 2
    # The surroundings of a site reach two voxels from it.
    assert np.abs(np.stack([x, y, z]) - 12).max(axis=0).min() > 2


def test_a_held_out_box_without_labels_has_no_held_out_sites_and_that_is_said(tmp_path, labels, caplog):
    experiment = experiment_with(tmp_path, labels, START_XYZ, held_out_xyz=[[[0, 9, 120], [9, 19, 130]]], min_size=0)
    assert len(held_out_sites(experiment)) == 0
    assert caplog.messages == ["the held-out box x 0..9 y 9..19 z 120..130 lies outside of the labels: no scores there"]


def test_the_same_configuration_gives_the_same_bytes(tmp_path, labels):
    experiment = experiment_with(tmp_path, labels)
    partitions.run(experiment)
    first = experiment.partitions.read_bytes()
    partitions.run(experiment)
    assert experiment.partitions.read_bytes() == first


@pytest.mark.parametrize(
    ("sites", "sentence"),
    [
        ({"box_xyz": [[-3, 5, 100], [50, 21, 116]]}, "labels cover only x -3..13 y 5..21 z 100..116"),
        ({"lom_radius_xyz": [4, 9, 4]}, "no training site fits"),
    ],
)
def test_an_impossible_box_is_one_sentence_and_leaves_nothing(tmp_path, labels, sites, sentence):
    experiment = experiment_with(tmp_path, labels, **sites)
    experiment.partitions.write_bytes(b"of an earlier run")
    with pytest.raises(FloodlineError, match=sentence):
        partitions.run(experiment)
    assert not experiment.partitions.exists()
