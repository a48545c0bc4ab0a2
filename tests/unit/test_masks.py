"""Masks: no field of view is centred in one, no flood starts in a seed mask, at whatever resolution they come."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from floods import flood_with, make_experiment
from hypothesis import given, settings
from hypothesis import strategies as st

from floodline.config import Flood
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.canvas import Canvas
from floodline.ffn.closed import restriction_of
from floodline.ffn.flood import Floods, drive
from floodline.ffn.restriction import Restriction, near
from floodline.geometry import Box, blocks
from floodline.labels import partitions
from floodline.manifest import write_json
from floodline.volumes.layer import Layer
from floodline.volumes.masks import masked

OPTIONS = Flood(policy="reference", min_segment_size=1)


def fill_bright(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """A network that takes the bright voxels for the object, and is surest in the middle of its view."""
    centre = np.array(image.shape[1:]).reshape(3, 1, 1, 1) // 2
    distance = np.abs(np.indices(image.shape[1:]) - centre).sum(axis=0).astype(np.float32)
    return np.where(image > 0, 5 - distance / 100, np.float32(-5))


class Watched(Canvas):
    """A canvas that remembers where the field of view was."""

    def update(self, position, logits):
        self.__dict__.setdefault("visited", []).append(position)
        return super().update(position, logits)


def flood(image: np.ndarray, seeds, **masks: np.ndarray | None) -> tuple[Watched, Floods]:
    canvas = Watched(image, 128, 1, (5, 5, 5), OPTIONS, Restriction(**masks))
    floods = Floods(canvas, OPTIONS, (2, 2, 2), seeds)
    drive([floods.flood_all()], fill_bright)
    return canvas, floods


# --- floods ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.6))
def test_no_field_of_view_is_centred_in_a_mask_and_no_flood_starts_in_a_seed_mask(seed, share):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random((12, 14, 16)) < 0.9, 255, 0).astype(np.uint8)
    closed, more = rng.random(image.shape) < share, rng.random(image.shape) < 0.3
    seeds = rng.integers(2, 10, (30, 3))
    canvas, floods = flood(image, seeds, closed=closed, seedless=closed | more)
    assert not any(closed[position] for position in canvas.__dict__.get("visited", []))
    assert not any((closed | more)[segment.start] for segment in floods.segments)
    reasons = ("seeds_masked", "seeds_covered", "seeds_near_a_segment", "attempts")
    assert sum(floods.counts[reason] for reason in reasons) == len(seeds)


def test_masks_of_nothing_change_nothing():
    image = np.full((12, 14, 16), 255, np.uint8)
    nothing = np.zeros(image.shape, bool)
    without, floods_without = flood(image, [(6, 6, 6)])
    masked, floods_masked = flood(image, [(6, 6, 6)], closed=nothing, seedless=nothing)
    np.testing.assert_array_equal(without.segmentation, masked.segmentation)
    assert without.visited == masked.visited
    assert floods_without.counts == floods_masked.counts


def test_a_wall_stops_a_flood():
    image = np.full((10, 10, 60), 255, np.uint8)
    wall = np.zeros(image.shape, bool)
    wall[:, :, 30:36] = True
    canvas, floods = flood(image, [(5, 5, 10), (5, 5, 32), (5, 5, 45)], closed=wall, seedless=wall)
    first, second = (np.argwhere(canvas.segmentation == identifier)[:, 2] for identifier in (1, 2))
    assert first.max() <= 29 + 2, "the field of view reaches two voxels beyond its centre"
    assert second.min() >= 36 - 2
    assert second.max() == 59
    assert floods.counts["seeds_masked"] == 1
    assert floods.counts["moves_masked"] > 0


# --- from the configuration ------------------------------------------------------------------------------------------


START = (10, 20, 30)
SIZE_ZYX = (16, 18, 20)
BOX = Box.of_array(SIZE_ZYX, START)


def experiment(folder: Path, image: np.ndarray | None = None, masks=(), **inference) -> Experiment:
    """One sub-volume at START, 8 nm voxels, with these masks and keys of `inference`."""
    image = np.zeros(SIZE_ZYX, np.uint8) if image is None else image
    network = {"weights": "none", "fov_xyz": [3, 3, 3], "deltas_xyz": [1, 1, 1]}
    keys = {"subvolume_size_xyz": image.shape[::-1], "overlap_xyz": [0, 0, 0], "checkpoint_seconds": 1e6, **inference}
    return make_experiment(
        folder, image, (1, 1, 1), (0, 0, 0), START, inference=keys, network=network, masks=list(masks)
    )


def hdf5(path: Path, array: np.ndarray) -> dict:
    with h5py.File(path, "w") as file:
        file["data"] = array
    return {"kind": "hdf5", "path": str(path), "dataset": "data"}


def closed_of(exp: Experiment) -> np.ndarray | None:
    return restriction_of(exp, BOX).closed


def test_without_masks_there_is_no_restriction(tmp_path):
    assert restriction_of(experiment(tmp_path), BOX) == Restriction(None, None)


def test_boxes_are_in_the_source_s_coordinates(tmp_path):
    boxes = [[[12, 20, 30], [14, 22, 33]], [[0, 0, 0], [11, 100, 100]], [[90, 90, 90], [99, 99, 99]]]
    expected = np.zeros(SIZE_ZYX, bool)
    expected[0:3, 0:2, 2:4] = True
    expected[:, :, 0] = True
    np.testing.assert_array_equal(
        closed_of(experiment(tmp_path, masks=[{"kind": "box", "boxes_xyz": boxes}])), expected
    )
    inverted = experiment(tmp_path, masks=[{"kind": "box", "boxes_xyz": boxes, "invert": True}])
    np.testing.assert_array_equal(closed_of(inverted), ~expected)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(("lowest", "highest"), [(100, None), (None, 50), (20, 60)])
def test_grey_values_of_the_image(tmp_path, lowest, highest, invert):
    image = np.random.default_rng(0).integers(0, 256, SIZE_ZYX).astype(np.uint8)
    mask = {"kind": "intensity", "min": lowest, "max": highest, "invert": invert}
    within = (image >= (lowest or 0)) & (image <= (255 if highest is None else highest))
    np.testing.assert_array_equal(closed_of(experiment(tmp_path, image, masks=[mask])), within != invert)


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        ({}, {1, 2, 3, 4, 5}),
        ({"values": [2, 5]}, {2, 5}),
        ({"min": 2, "max": 3}, {2, 3}),
        ({"values": [5], "max": 1}, {0, 1, 5}),
        ({"values": [0], "invert": True}, {1, 2, 3, 4, 5}),
    ],
)
def test_values_of_a_volume(tmp_path, options, masked):
    labels = np.random.default_rng(0).integers(0, 6, (50, 40, 31))
    mask = {"kind": "volume", "source": hdf5(tmp_path / "mask.h5", labels), **options}
    part = labels[BOX.slices_zyx()]
    np.testing.assert_array_equal(closed_of(experiment(tmp_path, masks=[mask])), np.isin(part, list(masked)))


@settings(max_examples=15)
@given(st.tuples(*[st.integers(1, 4)] * 3))
def test_a_coarser_volume_masks_all_voxels_that_its_own_cover(tmp_path_factory, scale_xyz):
    folder = tmp_path_factory.mktemp("coarse")
    shape = [-(-stop // scale) for stop, scale in zip(BOX.stop_xyz, scale_xyz, strict=True)][::-1]
    coarse = np.random.default_rng(0).random(shape) < 0.5
    mask = {"kind": "volume", "source": hdf5(folder / "m.h5", coarse.astype(np.uint8)), "scale_xyz": scale_xyz}
    closed = closed_of(experiment(folder, masks=[mask]))
    for z, y, x in np.ndindex(SIZE_ZYX):
        place = [(p + s) // scale for p, s, scale in zip((x, y, z), START, scale_xyz, strict=True)]
        assert closed[z, y, x] == coarse[tuple(place[::-1])]


def coarse_layer(folder: Path, nanometres: tuple[float, float, float]) -> tuple[dict, np.ndarray]:
    """A layer of voxels twice as wide in x and y; it starts at a voxel of its own that is not 0."""
    box = Box((5, 10, 30), (15, 19, 46))
    array = (np.random.default_rng(1).random(box.shape_zyx) < 0.3).astype(np.uint8)
    layer = Layer.create(
        folder, box=box, dtype="uint8", voxel_size_nm_xyz=nanometres, chunk_size_xyz=(8, 8, 8), kind="image"
    )
    layer.write(box, array)
    return {"kind": "precomputed", "path": str(folder)}, array


def test_a_layer_states_its_own_resolution(tmp_path):
    source, array = coarse_layer(tmp_path / "mask", (16, 16, 8))
    closed = closed_of(experiment(tmp_path, masks=[{"kind": "volume", "source": source}]))
    np.testing.assert_array_equal(closed, array.repeat(2, axis=1).repeat(2, axis=2) != 0)


def test_masks_that_cannot_be_laid_over_the_image_are_one_sentence(tmp_path):
    source, _ = coarse_layer(tmp_path / "mask", (12, 16, 8))
    with pytest.raises(FloodlineError, match=r"masks.0 has voxels of .* whole voxels of the image"):
        closed_of(experiment(tmp_path, masks=[{"kind": "volume", "source": source}]))
    small = {"kind": "volume", "source": hdf5(tmp_path / "m.h5", np.zeros((20, 20, 20), np.uint8))}
    with pytest.raises(FloodlineError, match=r"masks.0 covers .* does not hold all of x 10..30"):
        closed_of(experiment(tmp_path, masks=[small]))


def test_several_masks_are_one_and_seeds_may_lie_in_none(tmp_path):
    a, b, c = (
        {"kind": "box", "boxes_xyz": [[list(START), [START[0] + i, START[1] + 5, START[2] + 5]]]} for i in (1, 2, 4)
    )
    for_seeds = {**c, "closed_to": ["seeds"]}
    found = restriction_of(experiment(tmp_path, masks=[a, b, for_seeds]), BOX)
    assert (found.closed.sum(), found.seedless.sum()) == (2 * 25, 4 * 25)
    assert found.forbids((0, 0, 1))
    assert not found.forbids((0, 0, 2))
    assert found.forbids_seed((0, 0, 2))
    only_seeds = restriction_of(experiment(tmp_path, masks=[for_seeds]), BOX)
    assert not only_seeds.forbids((0, 0, 0))
    assert only_seeds.forbids_seed((0, 0, 0))


# --- shifts ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.sampled_from([1, 3, 5])] * 3))
def test_near_is_a_look_into_every_box(seed, fov):
    large = np.random.default_rng(seed).random((6, 7, 8)) < 0.02
    found = near(large, fov)
    for place in np.ndindex(large.shape):
        box = tuple(slice(max(p - f // 2, 0), p + f // 2 + 1) for p, f in zip(place, fov, strict=True))
        assert found[place] == large[box].any()


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("fov_xyz", [None, (7, 5, 3)])
def test_no_position_sees_a_large_shift(tmp_path, scale, fov_xyz):
    rng = np.random.default_rng(0)
    shape = (46, -(-38 // scale), -(-30 // scale))
    dx, dy = (np.where(rng.random(shape) < 0.003, rng.choice([-6.0, 4.0, 3.9], shape), 0) for _ in range(2))
    shift = {"dx": hdf5(tmp_path / "x.h5", dx), "dy": hdf5(tmp_path / "y.h5", dy), "scale": scale, "fov_xyz": fov_xyz}
    closed = closed_of(experiment(tmp_path, shift_mask=shift))
    rx, ry, rz = (size // 2 for size in fov_xyz or (3, 3, 3))
    assert closed.any()
    assert not closed.all()
    for z, y, x in np.ndindex(SIZE_ZYX):
        gz, gy, gx = z + START[2], y + START[1], x + START[0]
        # The image ends with the sub-volume: nothing is looked at beyond.
        low = [max(g - r, s) for g, r, s in zip((gx, gy, gz), (rx, ry, rz), START, strict=True)]
        high = [min(g + r, s - 1) for g, r, s in zip((gx, gy, gz), (rx, ry, rz), BOX.stop_xyz, strict=True)]
        box = (
            slice(low[2], high[2] + 1),
            slice(low[1] // scale, high[1] // scale + 1),
            slice(low[0] // scale, high[0] // scale + 1),
        )
        assert closed[z, y, x] == (np.maximum(abs(dx[box]), abs(dy[box])) >= 4).any()


# --- kinds that look at the image ------------------------------------------------------------------------------------


def masked_in_parts(exp: Experiment, size_xyz: tuple[int, int, int]) -> np.ndarray:
    """What is closed to sites, asked for box by box."""
    result = np.zeros(SIZE_ZYX, bool)
    for box in blocks(BOX, size_xyz):
        result[box.slices_zyx(START)] = masked(exp, "sites", box)
    return result


def test_the_border_of_the_image(tmp_path):
    exp = experiment(tmp_path, masks=[{"kind": "border", "width_xyz": [1, 2, 0]}])
    expected = np.ones(SIZE_ZYX, bool)
    expected[:, 2:-2, 1:-1] = False
    np.testing.assert_array_equal(masked_in_parts(exp, (7, 5, 3)), expected)
    wide = experiment(tmp_path, masks=[{"kind": "border", "width_xyz": [99, 0, 0]}])
    assert masked_in_parts(wide, (99, 99, 99)).all()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.tuples(*[st.integers(2, 20)] * 3))
def test_fill_is_what_squares_of_it_cover(tmp_path_factory, seed, square, size_xyz):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random(SIZE_ZYX) < 0.2, 0, 9).astype(np.uint8)
    image[2:9, 3:12, 4:9] = 0
    exp = experiment(tmp_path_factory.mktemp("fill"), image, masks=[{"kind": "fill", "square": square}])
    expected = np.zeros(SIZE_ZYX, bool)
    empty = np.pad(image == 0, ((0, 0), (square, square), (square, square)), constant_values=True)
    for y, x in np.ndindex(empty.shape[1] - square + 1, empty.shape[2] - square + 1):
        inside = empty[:, y : y + square, x : x + square].all(axis=(1, 2))
        rows = slice(max(0, y - square), max(0, y))
        columns = slice(max(0, x - square), max(0, x))
        expected[inside, rows, columns] = True
    np.testing.assert_array_equal(masked_in_parts(exp, size_xyz), expected)


@settings(max_examples=10)
@given(st.tuples(*[st.integers(0, 3)] * 3), st.tuples(*[st.integers(2, 20)] * 3))
def test_resin_is_where_the_image_is_featureless(tmp_path_factory, radius_xyz, size_xyz):
    image = np.random.default_rng(0).normal(128, 40, SIZE_ZYX).clip(0, 255).astype(np.uint8)
    image[:, :, 9:] = 200 + np.indices((16, 18, 11))[0] % 2
    mask = {"kind": "resin", "radius_xyz": radius_xyz, "max_stddev": 0.2}
    exp = experiment(tmp_path_factory.mktemp("resin"), image, masks=[mask])
    found = masked_in_parts(exp, size_xyz)
    rx, ry, rz = radius_xyz
    for z, y, x in [(0, 0, 0), (5, 5, 5), (8, 9, 12), (8, 9, 11), (15, 17, 19), (7, 3, 9)]:
        around = image[max(0, z - rz) : z + rz + 1, max(0, y - ry) : y + ry + 1, max(0, x - rx) : x + rx + 1]
        assert found[z, y, x] == (around.std() <= 0.2 * image.std())
    assert found[:, :, 9 + rx :].all()


def test_findings_of_the_quality_control(tmp_path):
    mask = {"kind": "quality", "findings": ["blurred"], "margin_z": 1}
    exp = experiment(tmp_path, masks=[mask])
    with pytest.raises(FloodlineError, match=r"findings.parquet is missing.* run `floodline quality` first"):
        masked_in_parts(exp, (20, 20, 20))
    exp.quality.mkdir()
    rows = [("blurred", 10, 20, 33, 15, 38, 34, 0, 1), ("black", 10, 20, 36, 30, 38, 37, 0, 1)]
    columns = ["kind", "x0", "y0", "z0", "x1", "y1", "z1", "value", "usual"]
    pd.DataFrame(rows, columns=columns).to_parquet(exp.quality / "findings.parquet")
    expected = np.zeros(SIZE_ZYX, bool)
    expected[2:5, :, :5] = True
    np.testing.assert_array_equal(masked_in_parts(exp, (8, 8, 8)), expected)
    with pytest.raises(FloodlineError, match="there is no finding 'blurry'"):
        experiment(tmp_path, masks=[{"kind": "quality", "findings": ["blurry"]}])


# --- training sites --------------------------------------------------------------------------------------------------


def test_masks_reach_sites_at_their_own_resolution_and_only_those_for_sites(tmp_path):
    coarse = np.zeros((6, 6, 6), np.uint8)
    coarse[3, 3, 3] = 1
    vessel = {"kind": "volume", "source": hdf5(tmp_path / "m.h5", coarse), "scale_xyz": [8, 8, 8]}
    for_seeds = {"kind": "box", "boxes_xyz": [[[0, 0, 0], [99, 99, 99]]], "closed_to": ["seeds"]}
    labels = np.ones((48, 48, 48), np.uint64)
    values = {
        "labels": {"source": {"kind": "phantom"}},
        "sites": {"lom_radius_xyz": [2, 2, 1], "min_size": 0},
        "masks": [vessel, for_seeds],
    }
    exp = make_experiment(tmp_path / "exp", np.zeros(labels.shape, np.uint8), (48, 48, 48), (0, 0, 0), **values)
    box = Box.of_array(labels.shape)
    layer = Layer.create(
        exp.layer("labels"),
        box=box,
        dtype="uint64",
        voxel_size_nm_xyz=(8, 8, 8),
        chunk_size_xyz=(48, 48, 48),
        kind="segmentation",
    )
    layer.write(box, labels)
    write_json(exp.manifest("labels"), {"box_xyz": box.corners, "boxes_xyz": [box.corners]})
    partitions.run(exp)
    with h5py.File(exp.partitions) as file:
        excluded = file["partitions"][()] == partitions.EXCLUDED
    expected = np.ones(labels.shape, bool)
    expected[1:-1, 2:-2, 2:-2] = False
    expected[23:33, 22:34, 22:34] = True
    np.testing.assert_array_equal(excluded, expected)


# --- end to end ------------------------------------------------------------------------------------------------------


def test_masks_of_the_configuration_reach_the_flood(tmp_path):
    """They also do when there is no shift mask."""
    image = np.full(SIZE_ZYX, 255, np.uint8)
    image[:, :, ::2] = 254  # the normalisation needs some contrast
    wall = {"kind": "box", "boxes_xyz": [[[17, 0, 0], [25, 99, 99]]]}
    keys = {"seeds": [{"policy": "grid", "step": 4, "offsets": [0]}], "flood": {"min_segment_size": 1}}
    keys |= {"image_mean": 128}
    whole = flood_with(fill_bright, experiment(tmp_path, image, **keys), BOX, "p")
    assert len(np.unique(whole.segmentation)) == 1
    split = flood_with(fill_bright, experiment(tmp_path, image, masks=[wall], **keys), BOX, "p")
    assert (split.segmentation[:, :, 8:14] == 0).all(), "the field of view reaches one voxel beyond its centre"
    assert set(np.unique(split.segmentation)) == {0, 1, 2}
    assert split.counts["seeds_masked"] > 0
    apart = {**wall, "invert": True, "closed_to": ["seeds"]}
    seeds_apart = experiment(tmp_path, image, masks=[apart], **keys)
    result = flood_with(fill_bright, seeds_apart, BOX, "p")
    assert 7 <= result.origins[0, 3] < 15, "the one place where a flood may start"
    assert len(np.unique(result.segmentation)) == 1
