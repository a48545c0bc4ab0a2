"""Seed policies: each finds the places of its definition, in its order; chains see what came before."""

from __future__ import annotations

from itertools import product

import h5py
import numpy as np
import pytest
from floods import make_experiment, write_floods
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.morphology import erosion

from floodline import config
from floodline.errors import FloodlineError
from floodline.ffn.canvas import Canvas
from floodline.ffn.flood import Floods, drive
from floodline.ffn.seed_policies import Ground, find_seeds, read_points
from floodline.ffn.seeds import inside, peaks
from floodline.geometry import Box
from floodline.inference.passes import Pass

MEAN, STDDEV, FOV = 128.0, 33.0, (33, 33, 33)  # of the published run
SMALL_FOV = (5, 3, 1)  # x, y, z


def as_tuples(seeds) -> list[tuple[int, int, int]]:
    return [tuple(seed) for seed in np.asarray(seeds).tolist()]


def random_ground(seed: int, shape=(40, 18, 22), **more) -> Ground:
    """A smooth random volume, some of it masked and some segmented."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    image = np.clip(128 + 200 * smooth, 0, 255).astype(np.uint8)
    segmentation = np.where(ndimage.gaussian_filter(rng.normal(size=shape), 3) > 0.1, 1, 0).astype(np.int32)
    segmentation[rng.random(shape) < 0.01] = -1
    masked = ndimage.gaussian_filter(rng.normal(size=shape), 3) > 0.1
    known = {"segmentation": segmentation, "masked": masked, **more}
    return Ground(Box.of_array(shape, (100, -20, 7)), image, 120.0, 30.0, **known)


def find(policy: str, ground: Ground, **options) -> list[tuple[int, int, int]]:
    parsed = config.Inference(seeds=[{"policy": policy, **options}]).seeds[0]
    return as_tuples(find_seeds(parsed, ground, SMALL_FOV))


def fitting(seeds, shape) -> list[tuple[int, int, int]]:
    return [(z, y, x) for z, y, x in seeds if 1 <= y < shape[1] - 1 and 2 <= x < shape[2] - 2]


def edges_of(image: np.ndarray) -> np.ndarray:
    gradient = ndimage.generic_gradient_magnitude(image, ndimage.sobel)
    return gradient > ndimage.gaussian_filter(gradient, 49 / 6, mode="reflect")


def ascending_peaks(values: np.ndarray, min_distance: int, threshold: float) -> list[tuple[int, ...]]:
    noisy = values + np.random.RandomState(42).rand(*values.shape) * 1e-4
    return sorted(map(tuple, peak_local_max(noisy, min_distance=min_distance, threshold_abs=threshold).tolist()))


# --- the published policy --------------------------------------------------------------------------------------------


def test_seeds_of_the_reference_crop(fib25, fib25_image):
    with h5py.File(fib25 / "reference_crop_a.h5") as reference:
        crop = fib25_image[:110, :110, :110]
        assert as_tuples(inside(peaks(crop, MEAN, STDDEV), crop.shape, FOV)) == as_tuples(reference["seeds"][:])


def test_seeds_of_the_published_run(fib25_image):
    found = peaks(fib25_image, MEAN, STDDEV)
    seeds = as_tuples(inside(found, fib25_image.shape, FOV))
    assert (len(found), len(seeds)) == (17_524, 12_464)
    assert seeds[:3] == [(16, 18, 109), (16, 19, 228), (16, 22, 140)]
    assert seeds[-1] == (233, 233, 232)


def test_the_default_is_the_published_policy(fib25_image):
    crop = np.ascontiguousarray(fib25_image[:70, :70, :70])
    ground = Ground(Box.of_array(crop.shape), crop, MEAN, STDDEV, np.zeros(crop.shape, np.int32))
    (policy,) = config.Inference().seeds
    expected = inside(peaks(crop, MEAN, STDDEV), crop.shape, FOV)
    assert len(expected) > 20
    np.testing.assert_array_equal(find_seeds(policy, ground, FOV), expected)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_peaks_are_those_of_the_definition_on_whole_arrays(seed):
    ground = random_ground(seed)
    edges = edges_of(ground.normalised()) | ground.masked
    distance = ndimage.distance_transform_edt(~edges).astype(np.float32)
    distance[ground.segmentation > 0] = -1
    expected = fitting(ascending_peaks(distance, 3, 0), distance.shape)
    assert find("peaks", ground) == expected
    assert find("peaks", ground, reversed=True) == expected[::-1]


@pytest.mark.parametrize(
    ("order", "flood_policy", "largest_first"),
    [(None, "reference", False), (None, "efficient", True), ("raster", "efficient", False),
     ("largest_first", "reference", True)],
)  # fmt: skip
def test_peaks_come_in_the_order_that_is_wished_or_usual_with_the_flood(order, flood_policy, largest_first):
    ground = random_ground(3)
    policy = config.PeaksSeeds(policy="peaks", order=order)
    found = as_tuples(find_seeds(policy, ground, SMALL_FOV, flood_policy))
    edges = edges_of(ground.normalised()) | ground.masked
    distance = ndimage.distance_transform_edt(~edges).astype(np.float32)
    expected = find("peaks", ground)
    assert len({distance[place] for place in expected}) < len(expected), "some are equally far"
    assert found == (sorted(expected, key=lambda place: (-distance[place], place)) if largest_first else expected)


def test_nothing_to_find():
    image = np.random.default_rng(0).integers(0, 255, (20, 40, 40)).astype(np.uint8)
    assert len(inside(peaks(image, MEAN, STDDEV), image.shape, FOV)) == 0, "the margin is larger than the volume"
    assert len(peaks(np.full((20, 20, 20), 7, np.uint8), MEAN, STDDEV)) == 0, "no edges"
    assert len(peaks(image, MEAN, STDDEV, masked=np.ones(image.shape, bool))) == 0, "nothing but mask"


# --- the others ------------------------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_peaks_2d_are_the_peaks_of_each_slice(seed):
    ground = random_ground(seed, (6, 50, 60))
    expected = []
    for z, image in enumerate(ground.normalised()):
        distance = ndimage.distance_transform_edt(~(edges_of(image) | ground.masked[z])).astype(np.float32)
        expected += [(z, *peak) for peak in ascending_peaks(distance, 4, 1.5)]
    assert len(expected) > 3
    assert find("peaks_2d", ground, min_distance=4, min_edge_distance=1.5) == fitting(expected, ground.image.shape)


@given(st.integers(1, 9), st.lists(st.integers(0, 12), max_size=4), st.sampled_from([2, 3]))
def test_a_grid_is_laid_once_for_each_offset(step, offsets, dimensions):
    shape = (9, 20, 16)
    ground = random_ground(0, shape)
    expected = [
        (z, y, x)
        for offset in offsets
        for z, y, x in product(*(range(size) for size in shape))
        if (dimensions == 2 or (z >= offset and (z - offset) % step == 0))
        and y >= offset
        and x >= offset
        and (y - offset) % step == (x - offset) % step == 0
    ]
    assert find("grid", ground, step=step, offsets=offsets, dimensions=dimensions) == fitting(expected, shape)


def test_the_published_grids():
    ground = random_ground(0, (32, 32, 32))
    first = find("grid", ground)[0]
    assert first == (0, 16, 16), "offset 0, of which only this point is off the border"
    assert len({z for z, _, _ in find("grid", ground)}) == 2 * 7
    assert {z for z, _, _ in find("grid", ground, dimensions=2)} == set(range(32))
    assert len({x for _, _, x in find("grid", ground, dimensions=2)}) == 2 * 8 - 2, "0 and 30 are on the border"


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 2))
def test_dense_seeds_are_all_bright_voxels(seed, invert, erosions):
    ground = random_ground(seed, (8, 16, 16))
    bright = (ground.normalised() > 0.2) != invert
    for _ in range(erosions):
        bright = erosion(bright, ndimage.generate_binary_structure(3, 1))
    expected = fitting(np.argwhere(bright & ~ground.masked), bright.shape)
    assert find("dense", ground, threshold=0.2, invert=invert, erosions=erosions) == as_tuples(expected)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_intensity_seeds_are_the_brightest_places(seed):
    ground = random_ground(seed, (40, 16, 16))
    image = np.where(ground.masked | (ground.segmentation > 0), np.float32(0), ground.normalised())
    assert find("intensity", ground) == fitting(ascending_peaks(image, 3, 0), image.shape)
    every = sorted(np.ndindex(image.shape), key=lambda place: (-int(ground.image[place]), place))
    assert find("intensity", ground, voxels="all") == fitting(every, image.shape)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_fill_empty_space_seeds_are_the_middle_of_what_is_not_segmented(seed):
    ground = random_ground(seed)
    distance = ndimage.distance_transform_edt(ground.segmentation == 0).astype(np.float32)
    expected = fitting(ascending_peaks(distance, 2, 0.5), distance.shape)
    assert find("fill_empty_space", ground) == expected
    assert all(ground.segmentation[place] == 0 for place in expected)


def test_the_middle_of_an_empty_sub_volume_is_its_middle():
    ground = random_ground(0, (11, 11, 11), segmentation=np.zeros((11, 11, 11), np.int32))
    assert find("fill_empty_space", ground) == [(5, 5, 5)]


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_points_come_from_a_file_in_its_order(tmp_path, kind):
    points = np.array([(110, -10, 20), (104, -18, 8), (0, 0, 0), (100, -20, 7), (105, -15, 9)])
    path = tmp_path / f"points.{kind}"
    if kind == "npy":
        np.save(path, points)
    else:
        path.write_text("id,x, y,z\n" + "\n".join(f"{i},{x},{y},{z}" for i, (x, y, z) in enumerate(points)) + "\n")
    # In the sub-volume, whose first voxel is at x 100, y -20, z 7, and off its border.
    assert find("points", random_ground(0), path=str(path)) == [(13, 10, 10), (1, 2, 4), (2, 5, 5)]
    assert find("points", random_ground(0), path=str(path), reversed=True) == [(2, 5, 5), (1, 2, 4), (13, 10, 10)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", None, "does not exist"),
        ("a.csv", "x,y\n1,2\n", "columns x, y, z"),
        ("b.csv", "", "cannot be read"),
        ("c.csv", "x,y,z\n1,2,3.5\n", "whole numbers"),
        ("d.csv", "x,y,z\n1,2,three\n", "whole numbers"),
        ("e.npy", "no array", "cannot be read"),
    ],
)
def test_a_file_without_points_is_one_sentence(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(FloodlineError, match=says) as caught:
        read_points(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_inverted_origins_are_an_earlier_run_s_starts_from_the_last_to_the_first(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((16, 16, 16), np.uint8), (16, 16, 16), (0, 0, 0))
    (box,) = experiment.subvolumes
    segmentation = np.zeros(box.shape_zyx, int)
    for identifier, place in ((3, (2, 4, 9)), (1, (8, 8, 8)), (7, (4, 4, 4))):
        segmentation[place] = identifier
    write_floods(experiment, {box: segmentation})
    ground = Ground(box, np.zeros(box.shape_zyx, np.uint8), 0, 1, np.zeros(box.shape_zyx, np.int32))
    assert find("invert_origins", ground, experiment=str(tmp_path)) == [(4, 4, 4), (2, 4, 9), (8, 8, 8)]
    elsewhere = Ground(box.shifted((8, 0, 0)), ground.image, 0, 1, ground.segmentation)
    with pytest.raises(FloodlineError, match="same sub-volumes"):
        find("invert_origins", elsewhere, experiment=str(tmp_path))
    with pytest.raises(FloodlineError, match="missing"):
        find("invert_origins", ground, experiment=str(tmp_path / "none"))


# --- chains ----------------------------------------------------------------------------------------------------------


def fill_box(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """A network that takes the bright voxels for the object, and is surest in the middle of its view."""
    centre = np.array(image.shape[1:]).reshape(3, 1, 1, 1) // 2
    distance = np.abs(np.indices(image.shape[1:]) - centre).sum(axis=0).astype(np.float32)
    return np.where(image > 0, 5 - distance / 100, np.float32(-5))


def test_a_policy_sees_what_those_before_it_segmented():
    image = np.zeros((16, 16, 60), np.uint8)
    for start, stop in ((1, 20), (21, 40), (41, 59)):
        image[1:15, 1:15, start:stop] = 255
    options = config.Flood(policy="reference", min_segment_size=10)
    canvas = Canvas(image, 128, 1, (5, 5, 5), options)
    seen = []

    def first(segmentation: np.ndarray) -> np.ndarray:
        return np.array([(8, 8, 10), (8, 8, 50)])

    def second(segmentation: np.ndarray) -> np.ndarray:
        seen.append(segmentation.copy())
        ground = Ground(Box.of_array(image.shape), image, 128, 1, segmentation)
        return find_seeds(config.FillEmptySpaceSeeds(policy="fill_empty_space"), ground, (5, 5, 5))

    floods = Floods(canvas, options, (2, 2, 2))
    drive([Pass(floods, [first, second]).flood_all()], fill_box)
    outer = np.repeat([1, 0, 2], 20)
    np.testing.assert_array_equal(np.maximum(seen[0], 0), np.where(image > 0, outer, 0))
    np.testing.assert_array_equal(canvas.objects(), np.where(image > 0, np.repeat([1, 3, 2], 20), 0))
    assert 20 < floods.segments[2].start[2] < 40
