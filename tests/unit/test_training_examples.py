"""What training sees: examples, their defects, the moves of the field of view, batches, and the volumes behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, permutations, product, repeat

import numpy as np
import published
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from floodline.config import Defects, Network, Training
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.sites import write_coordinates
from floodline.geometry import Box
from floodline.manifest import write_json
from floodline.parallel import Ranks
from floodline.training import defects as worsening
from floodline.training.batches import Batches, Place, ahead, draw_patch
from floodline.training.examples import Example, Turn, crop, cut
from floodline.training.metrics import Counts
from floodline.training.movement import MOVE, Geometry, Patch, logit
from floodline.training.scale import Scale
from floodline.training.volume import TrainingVolume, Volumes

NETWORK = Network(fov_xyz=(7, 7, 5), deltas_xyz=(2, 2, 1), weights="unused")
INSIDE, OUTSIDE = 5.0, -5.0


def rng(seed=0) -> np.random.Generator:
    return np.random.default_rng(seed)


def geometry(movement="fixed", moves=1) -> Geometry:
    return Geometry(NETWORK, Training(movement=movement, fov_moves=moves))


def patch_of(inside: np.ndarray, shape: Geometry, seed=0) -> Patch:
    return Patch(Example(np.zeros(inside.shape, np.float32), np.where(inside, 0.95, 0.05)), shape, rng(seed))


def visited(patch: Patch) -> Iterator[tuple[int, ...]]:
    """Centres of the fields of view, relative to the patch's; the network answers with the truth."""
    while (view := patch.view()) is not None:
        patch.answer(np.where(patch.example.target[view] > 0.5, INSIDE, OUTSIDE))
        yield tuple((s.start + s.stop) // 2 - c for s, c in zip(view, patch.centre, strict=True))


# --- augmentation ----------------------------------------------------------------------------------------------------

AXES = st.lists(st.sampled_from("xyz"), unique=True)


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.integers(0, 99))
def test_a_turned_example_is_the_example_of_a_turned_volume(permutation, reflected, seed):
    """The axes of an image are permuted, then reflected; so are those of the place that is cut out of it."""
    volume, shape = rng(seed).integers(0, 255, (13, 14, 15), np.uint8), (3, 5, 7)
    labels = rng(seed + 1).integers(0, 3, volume.shape)
    site = tuple(int(place) for place in rng(seed + 2).integers(3, 9, 3))
    flipped = [axis for axis, is_reflected in enumerate(reflected) if is_reflected]
    turned = [np.flip(np.transpose(array, permutation), flipped) for array in (volume, labels)]
    there = [site[axis] for axis in permutation]
    for axis in flipped:
        there[axis] = turned[0].shape[axis] - 1 - there[axis]
    none = np.zeros((0, 3), np.int64)
    turn = Turn(tuple(permutation), reflected)
    example = cut(TrainingVolume(volume, labels, none, 100.0, 10.0), site, shape, turn)
    expected = cut(TrainingVolume(turned[0], turned[1], none, 100.0, 10.0), there, shape)
    np.testing.assert_array_equal(example.image, expected.image)
    np.testing.assert_array_equal(example.target, expected.target)
    np.testing.assert_allclose(expected.image[1, 2, 3], (float(volume[site]) - 100) / 10, rtol=1e-6)
    inside = crop(turned[1], there, shape) == labels[site]
    np.testing.assert_array_equal(example.target, np.where(inside & (labels[site] > 0), 0.95, 0.05).astype(np.float32))


@given(AXES, AXES)
def test_all_turns_about_the_configured_axes_are_equally_likely_and_no_others(permutable, reflectable):
    source = rng()
    drawn = Counter(Turn.draw(source, permutable, reflectable) for _ in range(1500))
    allowed = {
        Turn(tuple(order), flips)
        for order in permutations(range(3))
        for flips in product((False, True), repeat=3)
        if all(order[axis] == axis or "zyx"[axis] in permutable for axis in range(3))
        and all(not flip or axis in reflectable for flip, axis in zip(flips, "zyx", strict=True))
    }
    assert drawn.keys() == allowed
    expected = 1500 / len(allowed)
    # Six standard deviations.
    assert all(abs(count - expected) <= 6 * expected**0.5 for count in drawn.values())


# --- moves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moves", [1, 2])
def test_the_fixed_policy_visits_the_places_of_the_grid_that_the_network_reaches(moves):
    shape = geometry(moves=moves)
    assert shape.canvas == shape.scored == (5 + 2 * moves, 7 + 4 * moves, 7 + 4 * moves)
    inside = np.zeros(shape.canvas, bool)
    inside[:, shape.canvas[1] // 2, :] = True  # a sheet
    found = list(visited(patch_of(inside, shape)))
    assert found[0] == (0, 0, 0)
    reach = range(-moves, moves + 1)
    assert len(found) == len(set(found))
    # In random order a place can come before its neighbour has shown that it is inside; with one move all are seen.
    assert set(found) <= {(z, 0, 2 * x) for z, x in product(reach, reach)}
    assert len(found) == 9 or moves == 2
    assert list(visited(patch_of(inside, shape, seed=1)))[1:] != found[1:]


def test_without_movement_only_the_centre_is_visited():
    shape = geometry("none", moves=3)
    assert shape.canvas == shape.scored == (5, 7, 7)
    assert list(visited(patch_of(np.ones(shape.canvas, bool), shape))) == [(0, 0, 0)]


def test_maximal_predictions_follow_the_object_and_stay_in_it_and_in_the_canvas():
    shape = geometry("max_predictions", moves=3)
    assert shape.canvas == (5 + 8, 7 + 16, 7 + 16)
    assert shape.scored == (5 + 6, 7 + 12, 7 + 12)
    inside = np.zeros(shape.canvas, bool)
    middle = np.array(shape.canvas) // 2
    inside[middle[0], middle[1], :] = True  # a line along x
    found = list(visited(patch_of(inside, shape)))
    # Steps of 2 along x, as far as the field of view fits into the canvas.
    assert sorted(found) == [(0, 0, x) for x in range(-8, 9, 2)]
    assert found[0] == (0, 0, 0)


def test_maximal_predictions_do_not_go_where_only_the_network_believes_in_the_object():
    shape = geometry("max_predictions", moves=2)
    patch = patch_of(np.zeros(shape.canvas, bool), shape)
    count = 0
    while (view := patch.view()) is not None:
        patch.answer(np.full_like(patch.canvas[view], INSIDE))
        count += 1
    assert count == 1


@given(hnp.arrays(bool, (9, 15, 15)), st.integers(0, 99), st.sampled_from(["fixed", "max_predictions", "none"]))
def test_an_example_that_was_put_aside_anywhere_goes_on_as_if_nothing_had_happened(inside, seed, movement):
    shape = geometry(movement, moves=2)
    target = np.pad(inside, 2, mode="edge")[tuple(slice(size) for size in shape.canvas)]

    def answers(patch: Patch, put_aside: bool) -> list[tuple[slice, ...]]:
        random, views = rng(seed), []
        while (view := patch.view()) is not None:
            views.append(view)
            patch.answer(random.normal(2, 3, shape.fov).astype(np.float32))
            if put_aside:
                state = {name: np.array(values) for name, values in patch.state().items()}
                patch = patch_of(target, shape, seed)
                patch.restore(state)
        return [*views, patch.canvas.tobytes()]

    assert answers(patch_of(target, shape, seed), put_aside=True) == answers(patch_of(target, shape, seed), False)


# --- defects ---------------------------------------------------------------------------------------------------------

images = hnp.arrays(np.float32, (6, 9, 8), elements=st.floats(-3, 3, width=32).map(lambda v: v or np.float32(0.5)))


@given(images)
def test_without_defects_nothing_changes_and_nothing_is_drawn(image):
    one, other = rng(), rng()
    assert np.array_equal(worsening.worsen(image, Defects(), one), image)
    assert one.random() == other.random()


@given(images, st.integers(0, 99))
def test_missing_sections_are_grey_and_the_others_as_they_were(image, seed):
    result = worsening.worsen(image, Defects(missing_sections=0.5), rng(seed))
    for section, before in zip(result, image, strict=True):
        assert not section.any() or np.array_equal(section, before)


def test_the_share_of_missing_sections_is_the_probability():
    result = worsening.worsen(np.ones((4000, 1, 1), np.float32), Defects(missing_sections=0.3), rng())
    assert (result == 0).mean() == pytest.approx(0.3, abs=0.03)


@given(images, st.integers(0, 99))
def test_misaligned_sections_are_moved_as_a_whole(image, seed):
    result = worsening.worsen(image, Defects(misaligned_sections=0.5, max_displacement=2), rng(seed))
    for section, before in zip(result, image, strict=True):
        around = np.pad(before, 2, mode="edge")
        moved = [around[2 - dy : 11 - dy, 2 - dx : 10 - dx] for dy in range(-2, 3) for dx in range(-2, 3)]
        assert any(np.array_equal(section, one) for one in moved)


def test_blurred_sections_lose_contrast_and_the_others_nothing():
    image = rng().normal(size=(40, 30, 30)).astype(np.float32)
    result = worsening.worsen(image, Defects(blurred_sections=0.5, max_blur=3.0), rng())
    same = np.array([np.array_equal(a, b) for a, b in zip(result, image, strict=True)])
    assert 5 < same.sum() < 35
    assert (result.std(axis=(1, 2)) <= image.std(axis=(1, 2)) + 1e-6).all()
    assert result[~same].std() < 0.9 * image[~same].std()


@given(st.integers(0, 999))
def test_contrast_and_brightness_change_within_their_limits(seed):
    image = rng(1).normal(size=(3, 9, 9)).astype(np.float32)
    result = worsening.worsen(image, Defects(contrast=0.2, brightness=0.7), rng(seed))
    slope, offset = np.polyfit(image.ravel(), result.ravel(), 1)
    assert 0.8 - 1e-4 <= slope <= 1.2 + 1e-4
    assert abs(offset) <= 0.7 + 1e-4
    assert np.allclose(result, slope * image + offset, atol=1e-4)


def test_defects_hit_the_image_and_leave_the_target_and_turn_with_the_example():
    labels = np.kron(rng().integers(0, 3, (3, 3, 3)), np.ones((5, 5, 5), int))
    volume = TrainingVolume(rng().integers(1, 255, (15, 15, 15), np.uint8), labels, np.zeros((0, 3)), 0.0, 1.0)
    turn = Turn((2, 1, 0), (False, False, False))
    plain = cut(volume, (7, 7, 7), (9, 9, 9), turn)
    hit = cut(volume, (7, 7, 7), (9, 9, 9), turn, Defects(missing_sections=0.5), rng())
    assert np.array_equal(plain.target, hit.target)
    # Sections of the volume are z-slices; in the turned example z has become x.
    gone = (hit.image == 0).all(axis=(0, 1))
    assert 0 < gone.sum() < 9
    assert np.array_equal(hit.image[..., ~gone], plain.image[..., ~gone])


# --- batches ---------------------------------------------------------------------------------------------------------


def volume_of(labels: np.ndarray, **more) -> TrainingVolume:
    sites = np.argwhere(labels >= 0)
    inner = ((sites >= 6) & (sites < np.array(labels.shape) - 6)).all(axis=1)
    return TrainingVolume(labels.astype(np.uint8), labels, sites[inner], 0.0, 1.0, **more)


@pytest.fixture
def volumes(tmp_path) -> Volumes:
    labels = np.kron(rng(2).integers(0, 4, (4, 4, 4)), np.ones((6, 6, 6), int))
    return Volumes([volume_of(labels)], {}, tmp_path)


def test_what_is_made_ahead_is_what_is_made_in_time():
    one, other = rng(), rng()
    with ThreadPoolExecutor(1) as executor:
        assert list(islice(ahead(repeat(one.random), executor), 20)) == [other.random() for _ in range(20)]


def run_batches(volumes: Volumes, steps: int, threads: bool) -> tuple[list[np.ndarray], list[list[int]]]:
    """The inputs of each step, and how far each place was in its example."""
    shape, training = geometry(), Training()
    inputs, stages, step_of = [], [], [0] * 6
    with ThreadPoolExecutor(1) as executor:
        makers = [partial(draw_patch, volumes, shape, training, rng(place)) for place in range(6)]
        streams = [ahead(repeat(make), executor) if threads else iter(make, None) for make in makers]
        places = [Place(stream, lambda patch: None) for stream in streams]
        batches = Batches(places, shape)
        for _ in range(steps):
            batch = batches.gather()
            inputs += [batch.image.copy(), batch.seed.copy()]
            stages.append(list(step_of))
            before = [place.patch for place in places]
            batches.scatter(np.where(batch.target > 0.5, INSIDE, OUTSIDE))
            step_of = [n + 1 if a is b.patch else 0 for n, a, b in zip(step_of, before, places, strict=True)]
    return inputs, stages


def test_a_batch_mixes_objects_and_stages_of_floods(volumes):
    _, stages = run_batches(volumes, 60, threads=True)
    assert np.mean([len(set(stage)) >= 3 for stage in stages[20:]]) > 0.8
    assert max(map(max, stages)) > 3


def test_prefetching_changes_nothing(volumes):
    for one, other in zip(
        run_batches(volumes, 30, threads=True)[0], run_batches(volumes, 30, threads=False)[0], strict=True
    ):
        assert np.array_equal(one, other)


def test_a_place_without_patches_is_left_alone():
    shape = geometry("none")
    patches = [[patch_of(np.ones(shape.canvas, bool), shape)], []]
    done: list[Patch] = []
    batches = Batches([Place(one, done.append) for one in patches], shape)
    assert batches.any_left
    batches.scatter(batches.gather().seed)
    assert not batches.any_left
    assert done == patches[0]


# --- metrics ---------------------------------------------------------------------------------------------------------


@given(hnp.arrays(bool, (7, 9, 9)), st.integers(0, 99))
def test_scores_are_those_of_the_definition(inside, seed):
    import tensorflow as tf

    shape = Geometry(NETWORK, Training(fov_moves=0, movement="max_predictions"))
    patch = patch_of(np.pad(inside, 0), shape)
    patch.canvas = rng(seed).normal(2, 3, inside.shape).astype(np.float32)
    counts = Counts()
    counts.add(patch)
    scored = np.s_[1:-1, 1:-1, 1:-1]  # the canvas without the room for one more move
    predicted, true = patch.canvas[scored] >= np.log(0.9 / 0.1), inside[scored]
    scores = counts.scores()
    assert scores["accuracy"] == pytest.approx((predicted == true).mean())
    assert scores["precision"] == pytest.approx((predicted & true).sum() / max(1, predicted.sum()))
    assert scores["recall"] == pytest.approx((predicted & true).sum() / max(1, true.sum()))
    assert scores["specificity"] == pytest.approx((~predicted & ~true).sum() / max(1, (~true).sum()))
    both = scores["precision"] + scores["recall"]
    assert scores["f1"] == pytest.approx(2 * scores["precision"] * scores["recall"] / both if both else 0)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(
        patch.example.target[scored].astype(np.float32), patch.canvas[scored]
    )
    assert scores["patch_loss"] == pytest.approx(float(tf.reduce_mean(loss)), rel=1e-4)


def test_only_counted_voxels_are_scored():
    shape = geometry("none")
    counted = np.zeros(shape.canvas, bool)
    counted[0] = True
    example = Example(np.zeros(shape.canvas, np.float32), np.full(shape.canvas, 0.95), counted)
    patch = Patch(example, shape, rng())
    patch.canvas[:] = OUTSIDE
    patch.canvas[0] = logit(MOVE) + 1
    counts = Counts()
    counts.add(patch)
    assert counts.scores()["recall"] == 1
    assert counts.sums[:4].sum() == 49


# --- volumes ---------------------------------------------------------------------------------------------------------


@given(st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 2.0])] * 3), st.integers(1, 5), st.integers(0, 99))
def test_resampling_does_not_depend_on_the_slabs(factors, thickness, seed):
    array = rng(seed).integers(0, 255, (7, 8, 9), np.uint8)
    box = Box.of_array(array.shape, (3, -2, 5))
    scale = Scale(factors)

    def read(wanted):
        assert box.contains(wanted)
        return array[wanted.slices_zyx(box.start_xyz)]

    whole = Box.sized((0, 0, 0), scale.size(box.size_xyz))
    for resample in (scale.interpolated, scale.nearest):
        together = resample(read, box, whole)
        assert together.shape == whole.shape_zyx
        assert together.dtype == np.uint8
        for z in range(0, whole.stop_xyz[2], thickness):
            part = Box((0, 0, z), (*whole.stop_xyz[:2], min(z + thickness, whole.stop_xyz[2])))
            assert np.array_equal(resample(read, box, part), together[part.slices_zyx()])


@pytest.mark.parametrize("factor", [0.5, 1.6, 2.0])
def test_a_slope_stays_a_slope_at_another_voxel_size(factor):
    array = np.broadcast_to((10 * np.arange(20)).astype(np.uint8), (4, 4, 20))
    scale = Scale((factor, 1.0, 1.0))
    size = scale.size((20, 4, 4))[0]
    result = scale.interpolated(
        lambda box: array[box.slices_zyx()], Box((0, 0, 0), (20, 4, 4)), Box((0, 0, 0), (size, 4, 4))
    )
    expected = np.clip(10 * ((np.arange(size) + 0.5) * factor - 0.5), 0, 190)
    assert np.abs(result - expected).max() <= 0.5


@given(st.tuples(*[st.sampled_from([0.5, 1.0])] * 3), st.integers(0, 99))
def test_sites_keep_their_label_at_a_finer_voxel_size(factors, seed):
    labels = rng(seed).integers(0, 9, (5, 6, 7))
    box, scale = Box.of_array(labels.shape), Scale(factors)
    fine = scale.nearest(
        lambda wanted: labels[wanted.slices_zyx()], box, Box.sized((0, 0, 0), scale.size(box.size_xyz))
    )
    sites_xyz = np.argwhere(labels.transpose() >= 0)
    x, y, z = scale.places(sites_xyz).T
    assert np.array_equal(fine[z, y, x], labels.transpose()[tuple(sites_xyz.T)])


SHAPE = (24, 26, 28)


def experiment_of(folder, labels, image=None, **values) -> Experiment:
    """An experiment with image and labels, every voxel of which is a site."""
    source = {"source": {"kind": "phantom"}}
    values = {"labels": source, "training": {}, "network": NETWORK.model_dump(), **values}
    experiment = published.experiment(folder, **values)
    published.add(experiment, "image", rng().integers(0, 255, labels.shape, np.uint8) if image is None else image)
    published.add(experiment, "labels", labels.astype(np.uint64))
    z, y, x = np.indices(labels.shape).reshape(3, -1)
    sites_xyz = np.stack([x, y, z], axis=1) + np.array(published.START_XYZ)
    experiment.coordinates.mkdir()
    write_coordinates(experiment.coordinates / "all.gz", sites_xyz, "labels")
    write_json(experiment.coordinates / "manifest.json", {"files": ["all.gz"]})
    return experiment


def opened(experiment: Experiment, canvas=(7, 11, 11)) -> Volumes:
    training = experiment.config.training
    assert training is not None
    return Volumes.open(experiment, training, canvas, Ranks())


def test_no_example_reaches_into_a_held_out_box_or_out_of_the_volume(tmp_path):
    held_out = [[[108, -12, 12], [115, -4, 19]], [[120, -30, 0], [200, 200, 11]]]
    experiment = experiment_of(tmp_path, np.ones(SHAPE), sites={"held_out_xyz": held_out})
    volume = opened(experiment).volumes[0]
    is_held_out = np.zeros(np.array(SHAPE) + 20, bool)
    start_zyx = np.array(published.START_XYZ[::-1])
    inner = is_held_out[10:-10, 10:-10, 10:-10]
    for corners in held_out:
        low, high = (np.clip(np.array(corner[::-1]) - start_zyx, 0, SHAPE) for corner in corners)
        inner[tuple(map(slice, low, high))] = True
    # Examples are of 7, 11 and 11 voxels (z, y, x), and x and y may change places; a field of view is of 5, 7 and 7.
    allowed = {
        (z, y, x)
        for z, y, x in product(range(3, 24 - 3), range(5, 26 - 5), range(5, 28 - 5))
        if not is_held_out[z + 5 : z + 16, y + 3 : y + 18, x + 3 : x + 18].any()
    }
    assert allowed == set(map(tuple, volume.sites_zyx.tolist()))
    assert 0 < len(allowed) < np.prod(SHAPE)


def test_sites_keep_a_field_of_view_from_held_out_boxes_in_voxels_as_they_are_trained_on(tmp_path):
    """Whatever the partitions kept: those of another volume were made for its own voxels."""
    held_out = [[[124, -20, 7], [126, 200, 200]]]
    other = experiment_of(tmp_path / "other", np.ones(SHAPE), sites={"held_out_xyz": held_out})
    experiment = experiment_of(
        tmp_path / "own",
        np.ones(SHAPE),
        training={"volumes": [{"experiment": str(other.folder)}]},
        sites={"held_out_xyz": held_out},
    )
    write_json(experiment.manifest("image"), {**_json(experiment, "image"), "voxel_size_nm_xyz": [16.0, 8.0, 10.0]})
    own, halved = opened(experiment, canvas=(1, 1, 1)).volumes
    # The field of view is 7 voxels long in x; voxels 24 and 25 are held out, which are 12 where two become one.
    assert set(own.sites_zyx[:, 2]) == {*range(24 - 7)}
    assert set(halved.sites_zyx[:, 2]) == {*range(12 - 7)}


def test_an_example_lies_inside_of_one_labelled_box(tmp_path):
    experiment = experiment_of(tmp_path, np.ones(SHAPE))
    x0, y0, z0 = published.START_XYZ
    parts = [Box.sized((x0, y0, z0), (28, 26, 12)), Box.sized((x0, y0 + 3, z0 + 12), (14, 20, 12))]  # they touch
    manifest = {**_json(experiment, "labels"), "boxes_xyz": [part.corners for part in parts]}
    write_json(experiment.manifest("labels"), manifest)
    sites = opened(experiment).volumes[0].sites_zyx + np.array([z0, y0, x0])
    examples = [Box.sized((x - 5, y - 5, z - 3), (11, 11, 7)) for z, y, x in sites.tolist()]
    assert all(sum(part.contains(example) for part in parts) == 1 for example in examples)
    assert len(examples) == 18 * 16 * 6 + 4 * 10 * 6


@pytest.mark.parametrize(
    ("permutable", "room_xyz"),
    [("xy", (11, 11, 7)), ("xyz", (11, 11, 11)), ("xz", (9, 11, 9)), ("", (9, 11, 7)), ("z", (9, 11, 7))],
)
def test_only_axes_that_change_places_share_the_longest_side(tmp_path, permutable, room_xyz):
    experiment = experiment_of(tmp_path, np.ones(SHAPE), training={"permutable_axes": list(permutable)})
    sites = opened(experiment, canvas=(7, 11, 9)).volumes[0].sites_zyx
    assert (np.ptp(sites, axis=0) + room_xyz[::-1]).tolist() == list(SHAPE)


def test_no_room_beside_the_held_out_box_is_one_sentence(tmp_path):
    held_out = [[[100, -20, 7], [128, 6, 30]]]
    experiment = experiment_of(tmp_path, np.ones(SHAPE), sites={"held_out_xyz": held_out})
    with pytest.raises(FloodlineError, match=r"no training site .* outside of sites\.held_out_xyz"):
        opened(experiment)


def test_volumes_are_mixed_by_weight_each_with_its_own_normalisation_and_voxel_size(tmp_path):
    other = experiment_of(tmp_path / "other", np.full(SHAPE, 7), np.full(SHAPE, 200, np.uint8))
    write_json(other.manifest("image"), {**_json(other, "image"), "mean": 190.0, "stddev": 5.0})
    trained_on = [
        {"experiment": str(other.folder), "weight": 3},
        {"experiment": str(other.folder), "weight": 0.5, "resample": False},
    ]
    experiment = experiment_of(
        tmp_path / "own",
        np.full(SHAPE, 3),
        np.full(SHAPE, 100, np.uint8),
        training={"volumes": trained_on},
        inference={"image_mean": 90, "image_stddev": 20},
    )
    # The same volume with voxels twice as long in x has half the voxels of it here.
    write_json(experiment.manifest("image"), {**_json(experiment, "image"), "voxel_size_nm_xyz": [16.0, 8.0, 10.0]})
    volumes = opened(experiment)
    assert [volume.image.shape for volume in volumes.volumes] == [SHAPE, (24, 26, 14), SHAPE]
    generator = rng()
    drawn = [volumes.draw(generator) for _ in range(2000)]
    counts = [sum(volume is one for one, _ in drawn) for volume in volumes.volumes]
    assert np.array(counts) / 2000 == pytest.approx(np.array([1, 3, 0.5]) / 4.5, abs=0.04)
    for volume, grey in zip(volumes.volumes, (0.5, 2.0, 2.0), strict=True):
        example = cut(volume, volume.sites_zyx[0], (7, 11, 11))
        assert (example.image == np.float32(grey)).all()
        assert (example.target > 0.5).all()


def _json(experiment: Experiment, name: str) -> dict:
    import json

    return json.loads(experiment.manifest(name).read_text())


def test_the_ranks_map_the_same_files_and_they_are_deleted_after_all(tmp_path):
    experiment = experiment_of(tmp_path, rng().integers(0, 5, SHAPE))
    volumes = opened(experiment)
    assert isinstance(volumes.volumes[0].image, np.memmap)
    assert isinstance(volumes.volumes[0].labels, np.memmap)
    before = dict(volumes.hashes)
    published.add(experiment, "labels", np.ones(SHAPE, np.uint64))
    again = opened(experiment)
    assert again.hashes != before
    assert (again.volumes[0].labels == 1).all()
    again.close()
    assert not (experiment.training / "volumes").exists()
