"""The generated volume: true labels, visible membranes, and the same bytes for the same seed."""

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from floodline.config import PhantomSource
from floodline.geometry import Box
from floodline.volumes import phantom
from floodline.volumes.phantom.anatomy import MARGIN, grow
from floodline.volumes.sources import open_source

SHAPE_ZYX = (72, 80, 88)


@pytest.fixture(scope="module")
def labels():
    return phantom.labels(SHAPE_ZYX, 5)


@pytest.fixture(scope="module")
def image():
    return phantom.image(SHAPE_ZYX, 5)


def test_shapes_and_types(labels, image):
    assert (labels.shape, labels.dtype) == (SHAPE_ZYX, np.uint64)
    assert (image.shape, image.dtype) == (SHAPE_ZYX, np.uint8)


@settings(max_examples=4)
@given(
    shape_zyx=st.tuples(*[st.integers(16, 32)] * 3),
    seed=st.integers(0, 2**32),
)
def test_size_and_seed_decide_every_voxel(shape_zyx, seed):
    assert np.array_equal(phantom.image(shape_zyx, seed), phantom.image(shape_zyx, seed))
    assert np.array_equal(phantom.labels(shape_zyx, seed), phantom.labels(shape_zyx, seed))
    other = phantom.labels(shape_zyx, seed + 1) > 0
    assert np.mean(other != (phantom.labels(shape_zyx, seed) > 0)) > 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_every_label_is_one_piece_connected_over_faces(seed):
    labels = phantom.labels((64, 72, 80), seed)
    pieces = cc3d.connected_components(labels, connectivity=6)
    assert pieces.max() == len(np.unique(labels)) - 1 == labels.max()


def test_neighbours_never_touch_over_a_face(labels):
    for axis in range(3):
        a, b = np.moveaxis(labels, axis, 0)[:-1], np.moveaxis(labels, axis, 0)[1:]
        assert not np.any((a != b) & (a > 0) & (b > 0))


def test_as_much_is_labelled_as_a_person_would(labels):
    assert 0.82 < np.mean(labels > 0) < 0.92


def test_neurites_are_many_and_of_varied_calibre(labels):
    voxels = np.bincount(labels.ravel().astype(int))[1:]
    assert np.sum(voxels > 2000) > 12
    assert np.median(voxels) * 5 < voxels.max() < labels.size / 4


def test_every_boundary_between_neighbours_shows(labels, image):
    """Along every contact, the membrane is darker than the cytoplasm on both sides of it by far more than the noise."""
    numbers = labels.astype(np.int32)
    depth, nearest = ndimage.distance_transform_edt(numbers == 0, return_indices=True)
    assert depth.max() < 6
    near = numbers[tuple(nearest)]
    pairs: dict[tuple[int, int], list[float]] = {}
    for axis in range(3):
        a, b = np.moveaxis(near, axis, 0)[:-1], np.moveaxis(near, axis, 0)[1:]
        grey = np.moveaxis(image, axis, 0)[1:][a != b]
        for first, second, value in zip(a[a != b], b[a != b], grey, strict=True):
            pairs.setdefault((min(first, second), max(first, second)), []).append(float(value))
    inside = ndimage.median(image, numbers, np.arange(numbers.max() + 1))
    contrast = [min(inside[a], inside[b]) - np.mean(grey) for (a, b), grey in pairs.items() if len(grey) >= 30]
    assert len(contrast) > 100
    assert np.quantile(contrast, 0.01) > 20
    assert np.median(contrast) > 40


def test_contrast_is_that_of_fib25(image):
    assert abs(image.mean() - 130) < 1
    assert abs(image.std() - 33) < 1


def test_larger_neurites_hold_dark_mitochondria(image):
    anatomy = grow(SHAPE_ZYX, 5)
    inner = anatomy.mitochondria & (anatomy.depth > 3)
    cytoplasm = ~anatomy.mitochondria & (anatomy.depth > 3)
    assert 0.004 < inner.mean() < 0.1
    assert image[inner].mean() < image[cytoplasm].mean() - 25


def test_the_deformation_stays_inside_what_was_grown():
    from floodline.volumes.phantom.anatomy import _deformed

    for seed in range(20):
        shape_zyx = (20, 25, 30)
        for indices, size in zip(_deformed(shape_zyx, np.random.default_rng(seed)), shape_zyx, strict=True):
            assert indices.min() >= 0
            assert indices.max() < size + 2 * MARGIN


def test_the_source_gives_image_and_labels_of_one_volume(labels, image):
    source = PhantomSource(kind="phantom", size_xyz=SHAPE_ZYX[::-1])
    box = Box((10, 20, 30), (60, 50, 70))
    for content, whole in (("image", image), ("labels", labels)):
        volume = open_source(source, 5, content)
        assert volume.box == Box((0, 0, 0), (88, 80, 72))
        assert volume.dtype == whole.dtype
        assert np.array_equal(volume.read(box), whole[box.slices_zyx()])
