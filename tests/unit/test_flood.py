"""The flood is the published algorithm: single updates, movement, and a whole run."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, get_args

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from floodline.config import Flood, FloodPolicy, Network
from floodline.ffn import weights
from floodline.ffn.canvas import Canvas, dequantise, logit_of, quantise
from floodline.ffn.flood import Flooding, Floods, drive
from floodline.ffn.movement import Frontier, face_maxima
from floodline.ffn.network import InferenceNetwork
from floodline.ffn.seeds import inside, peaks
from floodline.geometry import Triple, triple
from floodline.segmentation.contingency import tabulate
from floodline.segmentation.scores import score

MEAN, STDDEV, FOV = 128.0, 33.0, (33, 33, 33)  # of the published run


# --- probabilities ---------------------------------------------------------------------------------------------------


@given(st.floats(0.001, 0.999))
def test_quantised_probabilities_come_back_within_two_steps(probability):
    logit = np.array([logit_of(probability)])
    assert abs(dequantise(quantise(logit))[0] - probability) <= 2 / 255
    assert quantise(logit)[0] > 0
    assert np.isnan(dequantise(np.zeros(1, np.uint8)))[0]


# --- movement --------------------------------------------------------------------------------------------------------


@given(
    arrays.arrays(np.float32, (9, 7, 5), elements=st.sampled_from([-1.0, 0.0, 1.0, 2.0])), st.sampled_from([0.0, 1.5])
)
def test_moves_are_the_best_voxels_of_the_faces_in_falling_order(logits, threshold):
    deltas = (3, 2, 1)
    moves = face_maxima(logits, deltas, np.float32(threshold))
    scores = [logits[tuple(c + o for c, o in zip((4, 3, 2), move, strict=True))] for move in moves]
    assert scores == sorted(scores, reverse=True)
    assert len(set(moves)) == len(moves)
    for axis, delta in enumerate(deltas):
        for side in (-delta, delta):
            face = logits[
                tuple(
                    slice(c + side, c + side + 1) if i == axis else slice(c - d, c + d + 1)
                    for i, (c, d) in enumerate(zip((4, 3, 2), deltas, strict=True))
                )
            ]
            on_face = [s for s, move in zip(scores, moves, strict=True) if move[axis] == side]
            assert (face.max() in on_face) == (face.max() >= threshold)


@given(st.tuples(*[st.integers(-40, 40)] * 3))
def test_positions_within_half_a_step_share_a_cell(offset):
    start = (50, 60, 70)
    frontier = Frontier(start, (8, 8, 8))
    position = tuple(s + o for s, o in zip(start, offset, strict=True))
    nearest = tuple((o + 4) // 8 for o in offset)
    assert frontier.cell(position) == nearest


# --- updates ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(fib25) -> InferenceNetwork:
    return InferenceNetwork(weights.load(fib25 / "ffn_weights/model.ckpt-27465036"), Network(), "float32")


def test_single_updates_of_the_reference_run(fib25, network):
    with h5py.File(fib25 / "reference_steps.h5") as reference:
        for step in reference.values():
            image, before, raw, after = (step[k][:] for k in ("image", "seed_before", "logits", "seed_after"))
            canvas = Canvas(np.zeros(FOV, np.uint8), MEAN, STDDEV, FOV, Flood())
            canvas.seed[:] = before
            logits = network(image[None], canvas.network_input((16, 16, 16))[1][None])[0]
            np.testing.assert_allclose(logits, raw, atol=1e-3)
            np.testing.assert_allclose(canvas.update((16, 16, 16), logits), after, atol=1e-3)
            np.testing.assert_array_equal(canvas.seed, canvas.update((16, 16, 16), canvas.seed.copy()))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-1.0, 0.0, 0.5]))
def test_the_disco_rule_only_freezes_improbable_voxels_of_active_objects(seed, disco):
    rng = np.random.default_rng(seed)
    canvas = Canvas(np.zeros((5, 5, 5), np.uint8), 0, 1, (5, 5, 5), Flood(disco_seed_threshold=disco))
    old = rng.normal(0, 3, (5, 5, 5)).astype(np.float32)
    old[rng.random(old.shape) < 0.3] = np.nan
    new = rng.normal(rng.normal(0, 3), 2, old.shape).astype(np.float32)
    canvas.seed[:] = old
    written = canvas.update((2, 2, 2), new)
    active = disco >= 0 and (new >= logit_of(0.9)).mean() > disco
    for o, n, w in zip(old.flat, new.flat, written.flat, strict=True):
        assert w == (o if active and o < 0 and n > o else n)


@given(st.floats(0.5, 0.99), st.floats(0.01, 0.5))
def test_the_network_first_sees_the_configured_probabilities(init, pad):
    options = Flood(init_activation=init, pad_value=pad, move_threshold=0.3, min_segment_size=1)
    canvas, seen = Canvas(np.zeros((7, 9, 11), np.uint8), 0, 1, (7, 5, 3), options), []

    def notice(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        seen.append(seed[0])
        return np.full_like(seed, -5)

    drive([Floods(canvas, options, (1, 1, 1), [(4, 4, 5)]).flood_all()], notice)
    expected = np.full((3, 5, 7), pad)
    expected[1, 2, 3] = init
    np.testing.assert_allclose(1 / (1 + np.exp(-seen[0])), expected, rtol=1e-4)


@given(st.tuples(*[st.integers(0, 3)] * 3), st.tuples(*[st.integers(-4, 4)] * 3))
def test_a_seed_keeps_its_distance_from_segments_along_each_axis(boundary_xyz, offset_xyz):
    options = Flood(min_boundary_dist_xyz=boundary_xyz)
    canvas = Canvas(np.zeros((9, 9, 9), np.uint8), 0, 1, (1, 1, 1), options)
    x, y, z = (4 + offset for offset in offset_xyz)
    canvas.segmentation[z, y, x] = 1
    floods = Floods(canvas, options, (0, 0, 0), [(4, 4, 4)])
    drive([floods.flood_all()], lambda image, seed: np.full_like(seed, -5))
    is_near = all(abs(offset) <= distance for offset, distance in zip(offset_xyz, boundary_xyz, strict=True))
    refused = "seeds_covered" if offset_xyz == (0, 0, 0) else "seeds_near_a_segment"
    assert floods.counts[refused] == is_near
    assert floods.counts["attempts"] == (not is_near)


# --- whole floods ----------------------------------------------------------------------------------------------------


def box_network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """A network that knows the answer: bright voxels are the object, and it is surest in the middle of its view."""
    distance = np.abs(np.indices(image.shape[1:]) - 4).sum(axis=0).astype(np.float32)
    return np.where(image > 0, 5 - distance / 100, np.float32(-5))


def two_boxes() -> np.ndarray:
    image = np.zeros((20, 20, 60), np.uint8)
    image[4:16, 4:16, 3:27] = 255
    image[4:16, 4:16, 33:57] = 255
    return image


def flood(
    image: np.ndarray, seeds: list[tuple[int, int, int]], policy: FloodPolicy = "reference", **options: float
) -> tuple[Canvas, Floods]:
    settings_ = Flood(**{"policy": policy, "min_segment_size": 10, **options})
    canvas = Canvas(image, 128, 1, (9, 9, 9), settings_)
    floods = Floods(canvas, settings_, (2, 2, 2), seeds)
    drive([floods.flood_all()], box_network)
    return canvas, floods


@pytest.mark.parametrize("policy", get_args(FloodPolicy))
def test_objects_are_filled_to_their_borders_and_get_ids_in_the_order_of_their_seeds(policy):
    image = two_boxes()
    canvas, floods = flood(image, [(10, 10, 45), (10, 10, 15), (10, 10, 12)], policy)
    expected = np.where(image > 0, np.where(np.arange(60) < 30, 2, 1), 0)
    np.testing.assert_array_equal(canvas.objects(), expected)
    assert [segment.start for segment in floods.segments] == [(10, 10, 45), (10, 10, 15)]
    assert floods.counts["seeds_covered"] == 1
    assert np.isnan(canvas.seed).all(), "nothing is left for the next flood to stumble over"
    assert (canvas.qprob[expected > 0] > 0).all()


@pytest.mark.parametrize("policy", get_args(FloodPolicy))
def test_a_network_that_does_not_move_sees_its_seed_all_the_same(policy):
    """A field of view as large as the sub-volume: the seed alone is certain, but nothing around it was seen."""
    image = np.full((9, 9, 9), 255, np.uint8)
    options = Flood(policy=policy, min_segment_size=10)
    canvas = Canvas(image, 128, 1, (9, 9, 9), options)
    floods = Floods(canvas, options, (0, 0, 0), [(4, 4, 4)])
    drive([floods.flood_all()], box_network)
    assert [segment.voxels for segment in floods.segments] == [729]


def test_thresholds_by_which_no_flood_would_begin_are_refused():
    with pytest.raises(ValueError, match=r"init_activation 0\.8 is less than move_threshold 0\.9"):
        Flood(init_activation=0.8)


def test_small_objects_and_weak_seeds_leave_a_mark_and_no_object():
    image = two_boxes()
    canvas, floods = flood(image, [(10, 10, 15), (10, 10, 30)], min_segment_size=10**6)
    assert floods.segments == []
    assert floods.counts["too_small"] == 1
    assert floods.counts["weak_seed"] == 1, "the second seed lies in the dark gap"
    assert canvas.segmentation[10, 10, 15] == canvas.segmentation[10, 10, 30] == -1


@pytest.mark.parametrize(("threshold", "columns"), [(0.6, 26), (0.72, 24)])
def test_voxels_belong_to_an_object_from_the_segment_threshold_on(threshold, columns):
    """A box of 24 columns, and on either side of it one that the network holds to be in it with 0.7."""
    image = two_boxes()[:, :, :30]
    image[4:16, 4:16, [2, 27]] = 128
    options = Flood(policy="reference", min_segment_size=10, segment_threshold=threshold)

    def network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        return np.where(image == 0, np.float32(np.log(0.7 / 0.3)), box_network(image, seed))  # grey 128 is 0

    canvas = Canvas(image, 128, 1, (9, 9, 9), options)
    drive([Floods(canvas, options, (2, 2, 2), [(10, 10, 15)]).flood_all()], network)
    assert (canvas.objects() == 1).sum() == 12 * 12 * columns


def test_earlier_objects_win_and_the_overlap_is_recorded():
    image = np.full((20, 20, 40), 255, np.uint8)
    settings_ = Flood(policy="reference", min_segment_size=10)
    canvas = Canvas(image, 128, 1, (9, 9, 9), settings_)
    canvas.segmentation[:, :, :12] = 7
    floods = Floods(canvas, settings_, (2, 2, 2), [(10, 10, 20)])
    drive([floods.flood_all()], box_network)
    assert (canvas.segmentation[:, :, :12] == 7).all()
    (segment,) = floods.segments
    assert (canvas.segmentation == segment.id).sum() == segment.voxels
    assert dict(segment.overlaps)[7] > 0


def test_a_seed_beside_an_object_is_refused():
    canvas, floods = flood(two_boxes(), [(10, 10, 15), (10, 10, 27)])
    assert floods.counts["seeds_near_a_segment"] == 1
    assert canvas.segmentation[10, 10, 27] == -1


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0.02, 0.55))
def test_the_candidate_of_a_free_voxel_is_the_object_that_held_it_most_probable(seed, objects, threshold):
    rng = np.random.default_rng(seed)
    options = Flood(candidate_threshold=threshold, segment_threshold=0.6)
    canvas = Canvas(np.zeros((5, 6, 7), np.uint8), 0, 1, (5, 5, 5), options)
    failed = rng.random(canvas.shape) < 0.05
    for place in np.argwhere(failed):
        canvas.mark_failed(triple(place))
    window = (slice(0, 5), slice(1, 6), slice(0, 7))
    owner, best, candidate = np.zeros((3, *canvas.shape))
    for identifier in range(1, objects + 1):
        canvas.seed[:] = rng.normal(-2, 2, canvas.shape)
        canvas.seed[rng.random(canvas.shape) < 0.1] = np.nan
        canvas.claim(window, identifier)
        for place in np.ndindex(canvas.shape):
            value = canvas.seed[place]
            if place[1] < 1 or np.isnan(value) or owner[place]:
                continue
            if value >= canvas.segment:
                owner[place] = identifier
            elif value >= canvas.candidate and not failed[place] and quantise(value) > best[place]:
                best[place], candidate[place] = quantise(value), identifier
    expected = np.where(owner > 0, owner, np.where(failed, -1, np.where(candidate > 0, -1 - candidate, 0)))
    np.testing.assert_array_equal(canvas.segmentation, expected)


@pytest.mark.parametrize("kept", [32_764, 32_765, 32_766, 32_767, 70_000])
def test_ids_go_on_where_16_bits_end(kept):
    """Two objects, the rim of each its candidate, and a seed that failed: the same after any number of objects."""
    image = two_boxes()
    image[3, 4:16, 3:57] = 128
    seeds = [(10, 10, 45), (10, 10, 30), (10, 10, 15)]
    options = Flood(policy="reference", min_segment_size=10, candidate_threshold=0.2)

    def network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        return np.where(image == 0, np.float32(-1), box_network(image, seed))  # grey 128 is 0: nearly an object

    def flooded(kept: int) -> Canvas:
        canvas = Canvas(image, 128, 1, (9, 9, 9), options)
        before = np.zeros(image.shape, np.int64)
        before[0, 0, 0] = kept
        canvas.keep(before)
        drive([Floods(canvas, options, (2, 2, 2), seeds).flood_all()], network)
        return canvas

    few, many = flooded(1), flooded(kept)
    assert {*np.unique(few.segmentation)} == {-4, -3, -1, 0, 1, 2, 3}
    ids = few.segmentation.astype(np.int64)
    np.testing.assert_array_equal(many.segmentation, ids + np.where(ids == -1, 0, np.sign(ids) * (kept - 1)))
    np.testing.assert_array_equal(many.qprob, few.qprob)
    np.testing.assert_array_equal(many.objects(), np.maximum(many.segmentation, 0))


def test_a_seed_that_fails_beside_an_object_is_no_ones_candidate():
    canvas = Canvas(np.zeros((5, 5, 5), np.uint8), 0, 1, (5, 5, 5), Flood())
    canvas.segmentation[2, 2, 2], canvas.qprob[2, 2, 2] = -4, 90
    canvas.mark_failed((2, 2, 2))
    assert (canvas.segmentation[2, 2, 2], canvas.qprob[2, 2, 2]) == (-1, 0)
    canvas.segmentation[2, 2, 2] = 3
    canvas.mark_failed((2, 2, 2))
    assert canvas.segmentation[2, 2, 2] == 3


# --- the efficient policy --------------------------------------------------------------------------------------------


def test_where_the_network_is_certain_the_efficient_policy_asks_it_less_for_the_same_objects():
    image = np.zeros((40, 40, 40), np.uint8)
    image[2:38, 2:38, 2:38] = 255
    reference, reference_floods = flood(image, [(20, 20, 20)])
    efficient, floods = flood(image, [(20, 20, 20)], "efficient")
    np.testing.assert_array_equal(efficient.segmentation > 0, reference.segmentation > 0)
    assert floods.counts["network_calls"] < 0.3 * reference_floods.counts["network_calls"]
    none_is_certain, doubtful = flood(image, [(20, 20, 20)], "efficient", certain_probability=0.999, uncertain_share=0)
    np.testing.assert_array_equal(none_is_certain.segmentation > 0, reference.segmentation > 0)
    assert doubtful.counts["network_calls"] > 0.9 * reference_floods.counts["network_calls"]


def test_a_move_out_of_the_sub_volume_ends_at_its_border_with_the_efficient_policy():
    """From 7 in steps of 2 the last places are 9 and 11; the field of view fits up to 10, from where 14 is seen."""
    image = np.full((13, 13, 15), 255, np.uint8)
    assert (flood(image, [(6, 6, 7)])[0].segmentation[:, :, 14] <= 0).all()
    assert (flood(image, [(6, 6, 7)], "efficient")[0].segmentation[4:-4, 4:-4, 14] == 1).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.6, 0.95), st.floats(0, 0.5))
def test_a_position_is_settled_if_all_around_it_was_seen_and_is_certain_or_another_object_s(seed, probability, share):
    rng = np.random.default_rng(seed)
    options = Flood(certain_probability=probability, uncertain_share=share, policy="efficient")
    canvas = Canvas(np.zeros((9, 9, 9), np.uint8), 0, 1, (9, 9, 9), options)
    canvas.seed[:] = rng.normal(0, 4, canvas.shape)
    canvas.seed[rng.random(canvas.shape) < rng.choice([0, 0.01])] = np.nan
    canvas.segmentation[:] = rng.integers(-1, 2, canvas.shape)
    floods = Floods(canvas, options, (2, 1, 3))
    open_, uncertain = [], 0
    for z, y, x in np.ndindex(7, 3, 5):
        place = (z + 1, y + 3, x + 2)
        if canvas.segmentation[place] <= 0:
            open_.append(canvas.seed[place])
            chance = 1 / (1 + np.exp(-float(canvas.seed[place])))
            uncertain += max(chance, 1 - chance) < probability
    expected = not np.isnan(open_).any() and uncertain <= share * 7 * 3 * 5
    assert floods._is_settled((4, 4, 4)) == expected


# --- interruptions ---------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def interrupt_after(calls: int):
    """A network that fails after so many calls, as a killed process does."""

    def network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise Interrupted
        return box_network(image, seed)

    return network


@given(st.integers(0, 60), st.sampled_from(get_args(FloodPolicy)))
def test_a_flood_that_was_interrupted_anywhere_goes_on_as_if_nothing_had_happened(calls, policy):
    image = two_boxes()
    seeds = [(10, 10, 45), (10, 10, 30), (10, 10, 15), (10, 10, 28)]
    whole, whole_floods = flood(image, seeds, policy)
    options = Flood(min_segment_size=10, policy=policy)
    interrupted = Floods(Canvas(image, 128, 1, (9, 9, 9), options), options, (2, 2, 2), seeds)
    with contextlib.suppress(Interrupted):
        drive([interrupted.flood_all()], interrupt_after(calls))
    state = {name: np.array(array) for name, array in interrupted.state().items()}
    resumed_canvas = Canvas(image, 128, 1, (9, 9, 9), options)
    resumed = Floods(resumed_canvas, options, (2, 2, 2), seeds)
    resumed.restore(state)
    drive([resumed.flood_all()], box_network)
    np.testing.assert_array_equal(resumed_canvas.segmentation, whole.segmentation)
    np.testing.assert_array_equal(resumed_canvas.qprob, whole.qprob)
    assert resumed.counts == whole_floods.counts
    without_times = [
        [(s.id, s.start, s.calls, s.voxels, s.overlaps) for s in f.segments] for f in (resumed, whole_floods)
    ]
    assert without_times[0] == without_times[1]


def test_floods_that_share_calls_of_the_network_give_what_each_gives_alone():
    image = two_boxes()
    options = Flood(policy="reference", min_segment_size=10)
    alone, _ = flood(image, [(10, 10, 15), (10, 10, 45)])
    canvases = [Canvas(image, 128, 1, (9, 9, 9), options) for _ in range(3)]
    seeds = [[(10, 10, 15), (10, 10, 45)], [(10, 10, 15)], []]
    batches = []

    def network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        batches.append(len(image))
        return np.concatenate([box_network(i[None], s[None]) for i, s in zip(image, seed, strict=True)])

    drive([Floods(c, options, (2, 2, 2), s).flood_all() for c, s in zip(canvases, seeds, strict=True)], network, 3)
    np.testing.assert_array_equal(canvases[0].segmentation, alone.segmentation)
    assert batches[0] == 2
    assert batches[-1] == 1


def test_the_next_flood_is_begun_while_the_network_works():
    """And who shares a call does not depend on how long that takes."""
    events, calls = [], []
    lock = threading.Lock()

    def flooding(number: int) -> Flooding[None]:
        time.sleep(0.05)  # as if it searched its seeds
        with lock:
            events.append(f"begun {number}")
        for _ in range(3):
            yield np.full((1, 1, 1), number), np.zeros((1, 1, 1))

    def network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        calls.append(sorted(image.ravel().tolist()))
        time.sleep(0.1)
        with lock:
            events.append("called")
        return seed

    drive((flooding(number) for number in range(5)), network, 2)
    assert calls == [[0, 1]] * 3 + [[2, 3]] * 3 + [[4]] * 3
    # The third is begun before the first two have ended, the last one while the third and fourth are under way.
    assert events.index("begun 2") == 2
    assert events.index("begun 4") < [i for i, event in enumerate(events) if event == "called"][4]


def test_a_flood_that_was_begun_ahead_is_closed_when_another_fails():
    closed = []

    def flooding(number: int) -> Flooding[None]:
        try:
            yield np.full((1, 1, 1), number), np.zeros((1, 1, 1))
        finally:
            closed.append(number)

    def network(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        raise Interrupted

    with pytest.raises(Interrupted):
        drive((flooding(number) for number in range(5)), network, 2)
    assert sorted(closed) == [0, 1, 2]


class Traced(Canvas):
    """A canvas that remembers where the field of view was."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.trace: list[Triple] = []

    def update(self, position: Triple, logits: np.ndarray) -> np.ndarray:
        self.trace.append(position)
        return super().update(position, logits)


def test_small_objects_of_the_reference_run_are_repeated_on_the_ground_it_had_prepared(fib25, fib25_image, network):
    image = np.ascontiguousarray(fib25_image[:110, :110, :110])
    with h5py.File(fib25 / "reference_crop_a.h5") as reference:
        segmentation, attempts = reference["segmentation"][:].astype(np.int32), reference["attempts"][:, :3].tolist()
        origins, trace, overlaps = (reference[name][:] for name in ("origins", "trace", "overlaps"))
    for identifier, *start, calls in origins[origins[:, 4] <= 30].tolist():
        canvas = Traced(image, MEAN, STDDEV, FOV, Flood(policy="reference"))
        canvas.keep(np.where(segmentation < identifier, segmentation, 0))
        floods = Floods(canvas, Flood(policy="reference"), (8, 8, 8), np.array([start]))
        drive([floods.flood_all()], network)
        (segment,) = floods.segments
        assert (segment.id, segment.calls) == (identifier, calls)
        assert canvas.trace == list(map(tuple, trace[trace[:, 0] == attempts.index(start), 1:].tolist()))
        differing = ((canvas.segmentation == identifier) != (segmentation == identifier)).sum()
        assert differing <= 1e-3 * segment.voxels
        expected = overlaps[overlaps[:, 0] == identifier, 1:]
        assert [earlier for earlier, _ in segment.overlaps] == expected[:, 0].tolist()
        assert [n for _, n in segment.overlaps] == pytest.approx(expected[:, 1], rel=1e-3, abs=2)


@pytest.mark.slow  # 1,200 calls of the published network
def test_the_reference_run_is_repeated_call_by_call(fib25, fib25_image, network):
    image = np.ascontiguousarray(fib25_image[:110, :110, :110])
    options = Flood(policy="reference")
    canvas = Traced(image, MEAN, STDDEV, FOV, options)
    floods = Floods(canvas, options, (8, 8, 8), inside(peaks(image, MEAN, STDDEV), image.shape, FOV))
    starts: list[Triple] = []

    def noting_starts(image: np.ndarray, seed: np.ndarray) -> np.ndarray:  # of the attempt that asks
        assert floods.current is not None
        if floods.current.frontier.start not in starts:
            starts.append(floods.current.frontier.start)
        return network(image, seed)

    drive([floods.flood_all()], noting_starts)
    segmentation = canvas.objects()
    with h5py.File(fib25 / "reference_crop_a.h5") as reference:
        assert [s.start for s in floods.segments] == [tuple(row[1:4]) for row in reference["origins"][:]]
        assert starts == [tuple(row[:3]) for row in reference["attempts"][:].tolist()]
        assert floods.counts["attempts"] == len(starts)
        assert abs(len(canvas.trace) - len(reference["trace"])) <= 0.005 * len(reference["trace"])
        scores = score(tabulate(reference["segmentation"][:], segmentation))
        assert scores.voi_split + scores.voi_merge <= 0.01
        overlaps = {(s.id, earlier): voxels for s in floods.segments for earlier, voxels in s.overlaps}
        expected = {(a, b): voxels for a, b, voxels in reference["overlaps"][:].tolist()}
        assert sum(expected.values()) == pytest.approx(sum(overlaps.values()), rel=0.01)
        assert overlaps.keys() ^ expected.keys() <= {pair for pair, n in {**expected, **overlaps}.items() if n < 50}
        qprob = reference["qprob"][:].astype(int)
        canvas.qprob[canvas.segmentation <= 0] = 0  # that of candidates
        assert (np.abs(qprob - canvas.qprob) > 2).mean() < 0.001
