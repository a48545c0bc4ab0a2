"""Assembly: the joining rule, the law that perfect pieces come back whole, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
import pytest
from floods import make_experiment, of_candidates, same_up_to_ids, write_floods
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from floodline import config as configuration
from floodline.assembly import run
from floodline.assembly.grid import Grid
from floodline.assembly.joining import Contacts, Pieces, join
from floodline.assembly.matching import Objects, match
from floodline.assembly.parts import BoxParts, Parts
from floodline.assembly.store import BlockStore
from floodline.assembly.writing import Painted, names, paint
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks, tile
from floodline.manifest import read_json
from floodline.segmentation.pairs import Wishes
from floodline.segmentation.relabel import compact
from floodline.volumes.layer import Layer

RULE = configuration.Assembly()


def assembled(experiment: Experiment) -> np.ndarray:
    run.run(experiment)
    layer = Layer.open(experiment.layer("supervoxels"))
    return layer.read(layer.box)


def report(experiment: Experiment) -> dict:
    manifest = read_json(experiment.manifest("supervoxels"))
    return {**manifest, **manifest["assembly"]}


# --- the law ---------------------------------------------------------------------------------------------------------


@st.composite
def cuts(draw):
    """A volume of connected objects, and a grid of sub-volumes that overlap by at least one voxel."""
    shape = draw(st.tuples(*[st.integers(4, 14)] * 3))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    # Few values a voxel: winding objects that enter an overlap many times.
    values = rng.integers(0, draw(st.integers(2, 5)), shape).astype(np.uint32)
    connectivity = draw(st.sampled_from([6, 26]))
    whole = cc3d.connected_components(values, connectivity=connectivity)
    overlap = draw(st.tuples(*[st.integers(1, 3)] * 3))
    size = tuple(draw(st.integers(o + 1, 10)) for o in overlap)
    return whole, connectivity, size, overlap, rng


def cut(whole: np.ndarray, boxes: list[Box], connectivity: int, rng: np.random.Generator) -> dict[Box, np.ndarray]:
    """The connected pieces of a volume in each sub-volume, under ids that say nothing."""
    pieces = {}
    for box in boxes:
        here = cc3d.connected_components(np.ascontiguousarray(whole[box.slices_zyx()]), connectivity=connectivity)
        ids = np.append(0, rng.permutation(10 * int(here.max()) + 1)[: int(here.max())] + 1)
        pieces[box] = ids[here]
    return pieces


def assemble_in_memory(
    volume: Box, boxes: list[Box], pieces: dict[Box, np.ndarray], through_neighbour: str = "unless_contradicted"
) -> tuple[Painted, dict[str, int]]:
    """What `run` does between reading blocks and writing layers."""
    rows, contacts = compared(boxes, pieces)
    joining = join(rows, contacts, through_neighbour)
    grid, store = Grid(boxes), store_of(boxes, pieces)
    return paint(volume, grid, store, names(volume, grid, rows, joining.supervoxel)), joining.counts


def store_of(boxes: list[Box], pieces: dict[Box, np.ndarray]) -> BlockStore:
    return BlockStore(
        boxes,
        lambda index: {
            "segmentation": pieces[boxes[index]],
            "qprob": np.ones(boxes[index].shape_zyx, np.uint8),
            **of_candidates(np.zeros(boxes[index].shape_zyx, np.int32)),
        },
    )


def compared(boxes: list[Box], pieces: dict[Box, np.ndarray]) -> tuple[Pieces, Contacts]:
    """All pieces, and what the overlaps say about them."""
    grid, store = Grid(boxes), store_of(boxes, pieces)
    objects = [Objects.of(store.block(index)["segmentation"]) for index in range(len(boxes))]
    matches = []
    for at in grid.overlaps:
        lower, upper = (store.segmentation(index, at.box) for index in (at.lower, at.upper))
        matches.append((at, match(lower, upper, objects[at.lower], objects[at.upper], RULE)))
    rows = Pieces.of(objects)
    return rows, Contacts.of(matches, rows)


@settings(max_examples=200)
@given(cuts())
def test_cutting_and_assembling_gives_any_volume_back(case):
    whole, connectivity, size, overlap, rng = case
    volume = Box.of_array(whole.shape)
    boxes = tile(volume, size, overlap)
    painted, counts = assemble_in_memory(volume, boxes, cut(whole, boxes, connectivity, rng))
    assert same_up_to_ids(painted.supervoxels, whole)
    assert painted.contradicted == counts["pieces_contested"] == counts["joins_left_out"] == 0


@given(cuts(), st.sampled_from(["unless_contradicted", "never"]))
def test_contradictory_pieces_give_the_same_result_under_any_ids(case, through_neighbour):
    whole, connectivity, size, overlap, _ = case
    volume = Box.of_array(whole.shape)
    boxes = tile(volume, size, overlap)
    results = []
    for attempt in range(2):
        pieces = cut(whole, boxes, connectivity, np.random.default_rng(attempt))
        # Every sub-volume misses other voxels, and so splits other objects; the same ones in both attempts.
        missed = np.random.default_rng(7)
        flooded = {box: np.where(missed.random(piece.shape) < 0.2, 0, piece) for box, piece in pieces.items()}
        painted, counts = assemble_in_memory(volume, boxes, flooded, through_neighbour)
        results.append(painted.supervoxels)
        if through_neighbour == "never":
            assert counts["supervoxels_with_several_pieces_of_a_subvolume"] == 0
    assert same_up_to_ids(*results)


def test_the_stage_gives_a_volume_back_in_the_coordinates_of_its_source(tmp_path):
    rng = np.random.default_rng(3)
    whole = cc3d.connected_components(rng.integers(0, 3, (12, 20, 17)).astype(np.uint32), connectivity=6)
    experiment = make_experiment(tmp_path, np.zeros(whole.shape, np.uint8), (9, 8, 7), (1, 2, 3), (100, 50, 25))
    boxes = {box: box.shifted((-100, -50, -25)) for box in experiment.subvolumes}
    pieces = cut(whole, list(boxes.values()), 6, rng)
    write_floods(experiment, {box: pieces[local] for box, local in boxes.items()})
    assert same_up_to_ids(assembled(experiment), whole)
    counts = report(experiment)
    assert counts["box_xyz"] == [[100, 50, 25], [117, 70, 37]]
    assert counts["objects"] == whole.max()
    assert counts["labelled_voxels"] == (whole > 0).sum()
    assert counts["objects_in_several_parts"] == counts["voxels_outside_largest_parts"] == 0


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(2, 9)] * 3))
def test_parts_are_counted_across_boxes(seed, size):
    supervoxels = np.random.default_rng(seed).integers(0, 4, (7, 8, 9)).astype(np.uint64)
    parts = Parts()
    volume = Box.of_array(supervoxels.shape)
    for box in blocks(volume, size):
        parts.add(box, BoxParts.of(supervoxels[box.slices_zyx()]))
    largest, several = 0, 0
    for one in (1, 2, 3):
        sizes = np.bincount(cc3d.connected_components(supervoxels == one, connectivity=6).ravel())[1:]
        largest, several = largest + sizes.max(), several + (len(sizes) > 1)
    counts = parts.counts()
    assert counts["objects_in_several_parts"] == several
    assert counts["voxels_outside_largest_parts"] == (supervoxels > 0).sum() - largest


# --- the rule --------------------------------------------------------------------------------------------------------


def joined(lower: np.ndarray, upper: np.ndarray, rule: configuration.Assembly = RULE) -> set[tuple[int, int]]:
    """Pairs that the rule joins in an overlap that is all there is of both sub-volumes."""
    result = match(lower, upper, Objects.of(lower), Objects.of(upper), rule)
    mirrored = match(upper, lower, Objects.of(upper), Objects.of(lower), rule)
    pairs = {(int(a), int(b)) for a, b in result.pairs[result.joined]}
    assert pairs == {(int(a), int(b)) for b, a in mirrored.pairs[mirrored.joined]}, "the rule is not symmetric"
    return pairs


def bars(*heights: int) -> np.ndarray:
    """Objects 1, 2, ... side by side along y, each so many voxels high, in an overlap of 4 x 6 voxels (z, x)."""
    return np.repeat(np.arange(1, len(heights) + 1), heights)[None, :, None] * np.ones((4, 1, 6), np.int64)


def largest_partner_joins(lower: np.ndarray, upper: np.ndarray, voxels: int) -> set[tuple[int, int]]:
    """The rule of earlier codes: each object of the upper sub-volume joins its largest partner, if that is enough."""
    pairs = set()
    for b in np.unique(upper[upper > 0]):
        partners, shared = np.unique(lower[(upper == b) & (lower > 0)], return_counts=True)
        if len(partners) and shared.max() >= voxels:
            pairs.add((int(partners[shared.argmax()]), int(b)))
    return pairs


def test_a_merger_in_one_subvolume_does_not_merge_what_its_neighbour_keeps_apart():
    # The lower flood ran from neuron 1 into neuron 2; the upper one kept the two apart.
    lower, upper = bars(12), bars(6, 6)
    assert largest_partner_joins(lower, upper, voxels=100) == {(1, 1), (1, 2)}, "the case should fool the older rule"
    assert joined(lower, upper) == set()
    result = match(lower, upper, Objects.of(lower), Objects.of(upper), RULE)
    assert [ids.tolist() for ids in result.contested] == [[1], []]


def test_a_small_fragment_is_not_worth_a_contest():
    lower, upper = bars(12), bars(11, 1)
    assert joined(lower, upper) == {(1, 1)}
    result = match(lower, upper, Objects.of(lower), Objects.of(upper), RULE)
    assert [ids.tolist() for ids in result.contested] == [[], []]


def test_parts_that_brush_each_other_are_not_one_even_where_nothing_else_was_segmented():
    lower, upper = bars(12), bars(12)
    lower[:, 7:], upper[:, :5] = 0, 0
    assert joined(lower, upper) == set()
    assert joined(lower, upper, configuration.Assembly(min_overlap_fraction=0.2)) == {(1, 1)}


def test_what_the_other_flood_left_unsegmented_does_not_speak_against_a_match():
    lower, upper = bars(12), bars(12)
    upper[:, 4:] = 0
    assert joined(lower, upper) == {(1, 1)}


def test_an_absolute_number_of_voxels_can_be_asked_for():
    assert joined(bars(2, 10), bars(2, 10), configuration.Assembly(min_overlap_voxels=100)) == {(2, 2)}


def test_equal_specks_of_two_large_objects_do_not_join_them():
    lower, upper = np.zeros((2, 5, 9, 9), np.int64)
    lower[2, 4, 4] = upper[2, 4, 4] = 1
    assert joined(lower, upper) == {(1, 1)}, "an object that is nothing but a speck is one"
    elsewhere = Objects(np.array([1]), np.array([1000]))
    assert not match(lower, upper, elsewhere, elsewhere, RULE).joined.any()
    lower[:3, 4, 4] = 1
    assert match(lower, upper, elsewhere, elsewhere, RULE).joined.all(), "one that goes on outside is no speck"


# --- through a neighbour ---------------------------------------------------------------------------------------------


def two_subvolumes(folder: Path, through_neighbour: str) -> tuple[Experiment, np.ndarray, np.ndarray]:
    """An experiment of a lower sub-volume (x 0..10) and an upper one (x 6..16), and arrays for their objects."""
    experiment = make_experiment(
        folder, np.zeros((8, 30, 16), np.uint8), (10, 30, 8), (4, 1, 1),
        assembly={"through_neighbour": through_neighbour},
    )  # fmt: skip
    lower, upper = (np.zeros(box.shape_zyx, int) for box in experiment.subvolumes)
    return experiment, lower, upper


def u_turn(folder: Path, merged_in_sight: bool, through_neighbour: str) -> Experiment:
    """Two arms in the lower sub-volume that are one object in the upper one.

    They meet beyond the overlap; or, in sight of the lower sub-volume, inside it as well, near a third arm.
    """
    experiment, lower, upper = two_subvolumes(folder, through_neighbour)
    for number, start in enumerate((2, 12), 1):
        lower[:, start : start + 6 - number] = number
        upper[:, start : start + 6 - number] = 1
    upper[:, 2:16, 6:] = 1
    if merged_in_sight:
        lower[:, 20:24], lower[:, 24:28] = 3, 4
        upper[:, 20:28] = 1
        upper[:, 2:28, 6:] = 1
    write_floods(experiment, dict(zip(experiment.subvolumes, (lower, upper), strict=True)))
    return experiment


@pytest.mark.parametrize(
    ("merged_in_sight", "through_neighbour", "arms_together"),
    [
        (False, "always", True),
        (False, "unless_contradicted", True),
        (False, "never", False),
        (True, "always", True),
        (True, "unless_contradicted", False),
        (True, "never", False),
    ],
)
def test_a_u_turn_is_told_from_a_merger_where_the_overlap_shows_it(
    tmp_path, merged_in_sight, through_neighbour, arms_together
):
    experiment = u_turn(tmp_path, merged_in_sight, through_neighbour)
    supervoxels = assembled(experiment)
    first, second = supervoxels[4, 4, 1], supervoxels[4, 13, 1]
    assert (first == second) == arms_together
    assert supervoxels[4, 4, 15] == first, "the stronger arm stays joined"
    counts = report(experiment)
    assert counts["u_turns"] == (not merged_in_sight)
    assert counts["u_turns_contradicted"] == merged_in_sight
    assert counts["pieces_contested"] == merged_in_sight
    assert counts["joins_left_out"] == (not arms_together)
    assert counts["supervoxels_with_several_pieces_of_a_subvolume"] == arms_together


@pytest.mark.parametrize(("through_neighbour", "together"), [("always", True), ("unless_contradicted", False)])
def test_a_speck_of_a_leak_joins_no_second_partner(tmp_path, through_neighbour, together):
    """Where a sub-volume segmented nothing else, a thin leak agrees with whoever lies there in its neighbour."""
    experiment, lower, upper = two_subvolumes(tmp_path, through_neighbour)
    lower[:, 2:8] = upper[:, 2:8] = 1
    lower[4, 8:21, 5] = lower[4, 20, 6:8] = 1  # the leak begins where the upper sub-volume does not see it
    upper[:, 14:28] = 2
    write_floods(experiment, dict(zip(experiment.subvolumes, (lower, upper), strict=True)))
    supervoxels = assembled(experiment)
    assert supervoxels[4, 4, 1] == supervoxels[4, 4, 15]
    assert (supervoxels[4, 25, 15] == supervoxels[4, 4, 15]) == together
    assert report(experiment)["u_turns_contradicted"] == 1


def test_never_means_never_round_corners_too(tmp_path):
    # A ring through four sub-volumes, open at one place: its ends lie in one sub-volume and meet the long way round.
    whole = np.zeros((4, 24, 24), int)
    whole[:, 2:22, 2:22] = 1
    whole[:, 6:18, 6:18] = 0
    whole[:, 2:6, 6:8] = 0
    experiment = make_experiment(
        tmp_path, np.zeros(whole.shape, np.uint8), (14, 14, 4), (4, 4, 0), assembly={"through_neighbour": "never"}
    )
    pieces = cut(whole, experiment.subvolumes, 6, np.random.default_rng(0))
    write_floods(experiment, pieces)
    supervoxels = assembled(experiment)
    assert supervoxels[0, 3, 3] != supervoxels[0, 3, 9]
    assert report(experiment)["supervoxels_with_several_pieces_of_a_subvolume"] == 0
    assert report(experiment)["joins_left_out"] == 1


# --- files of pairs --------------------------------------------------------------------------------------------------


def three_rods(folder: Path, pairs: str, **assembly: object) -> Experiment:
    """Three rods along x over three sub-volumes, cut in each."""
    whole = np.zeros((4, 14, 30), int)
    for number, start in enumerate((1, 5, 9), 1):
        whole[:, start : start + 3] = number
    (folder / "pairs.csv").write_text("action,ax,ay,az,bx,by,bz\n" + pairs)
    experiment = make_experiment(
        folder, np.zeros(whole.shape, np.uint8), (14, 14, 4), (6, 0, 0),
        assembly={"pairs": str(folder / "pairs.csv"), **assembly},
    )  # fmt: skip
    write_floods(experiment, cut(whole, experiment.subvolumes, 6, np.random.default_rng(2)))
    return experiment


def ends(supervoxels: np.ndarray) -> list[list[int]]:
    """The supervoxels at both ends of each rod, numbered as they come."""
    found = supervoxels[2][[2, 6, 10]][:, [0, 29]]
    return (compact(found)[0].astype(int) - 1).tolist()


@pytest.mark.parametrize("through_neighbour", ["always", "unless_contradicted", "never"])
def test_pairs_of_places_overrule_the_overlaps_and_are_counted(tmp_path, through_neighbour):
    wishes = "forbid,1,2,2,29,2,2\nforce,1,6,2,29,10,2\n"
    supervoxels = assembled(three_rods(tmp_path, wishes, through_neighbour=through_neighbour))
    (a, b), (c, d), (e, f) = ends(supervoxels)
    assert a != b, "forbidden"
    assert c == f, "forced"
    if through_neighbour != "never":
        assert c == d == e == f, "each rod stays whole"
    counts = report(Experiment(tmp_path))
    assert (counts["pairs_forced"], counts["pairs_forced_that_were_apart"]) == (1, 1)
    assert (counts["pairs_forbidden"], counts["pairs_forbidden_that_were_together"]) == (1, 1)
    assert counts["joins_left_out"] == (1 if through_neighbour != "never" else counts["joins_left_out"])


def test_a_changed_file_of_pairs_is_honoured(tmp_path):
    experiment = three_rods(tmp_path, "")
    assert ends(assembled(experiment)) == [[0, 0], [1, 1], [2, 2]]
    (tmp_path / "pairs.csv").write_text("action,ax,ay,az,bx,by,bz\nforce,1,2,2,1,6,2\n")
    assert ends(assembled(experiment)) == [[0, 0], [0, 0], [1, 1]]


def test_what_one_flood_holds_cannot_be_parted(tmp_path):
    with pytest.raises(FloodlineError, match="pair 1: both places lie in one object, which cannot be parted here"):
        run.run(three_rods(tmp_path, "forbid,0,2,2,3,2,2\n"))


@given(cuts(), st.integers(0, 2**32 - 1))
def test_whatever_is_wished_forced_pieces_are_together_and_forbidden_ones_apart(case, seed):
    whole, connectivity, size, overlap, rng = case
    volume = Box.of_array(whole.shape)
    boxes = tile(volume, size, overlap)
    pieces, contacts = compared(boxes, cut(whole, boxes, connectivity, rng))
    rng, count = np.random.default_rng(seed), len(pieces.id)
    pairs = rng.integers(0, count, (6, 2)) if count else np.zeros((0, 2), np.int64)
    forced = pairs[:2]
    _, group = connected_components(coo_array((np.ones(len(forced)), forced.T), shape=(count, count)), directed=False)
    forbidden = pairs[2:][group[pairs[2:, 0]] != group[pairs[2:, 1]]] if count else pairs
    supervoxel = join(pieces, contacts, "unless_contradicted", Wishes(forced, forbidden)).supervoxel
    assert (supervoxel[forced[:, 0]] == supervoxel[forced[:, 1]]).all()
    assert (supervoxel[forbidden[:, 0]] != supervoxel[forbidden[:, 1]]).all()
    plain = join(pieces, contacts, "unless_contradicted").supervoxel
    np.testing.assert_array_equal(
        join(pieces, contacts, "unless_contradicted", Wishes(forced[:0], forced[:0])).supervoxel, plain
    )


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_voxel_is_written_by_the_deepest_subvolume_that_segmented_it(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((4, 4, 16), np.uint8), (10, 4, 4), (4, 1, 1))
    lower_box, upper_box = experiment.subvolumes
    lower, upper = np.zeros(lower_box.shape_zyx, int), np.zeros(upper_box.shape_zyx, int)
    # Each flood merged what the other split, so nothing is joined: along x the overlap is 6..10, cut at 8.
    lower[:2], lower[2:, :2], lower[2:, 2:] = 1, 2, 3
    upper[:2, :2], upper[:2, 2:], upper[2:] = 1, 2, 3
    lower[0, 0, 6:8] = 0
    upper[0, 0, 1] = 0
    write_floods(experiment, {lower_box: lower, upper_box: upper})
    supervoxels = assembled(experiment)
    row = supervoxels[1, 1]
    assert len(set(row[:8])) == len(set(row[8:])) == 1
    assert row[7] != row[8]
    gap = supervoxels[0, 0]
    assert gap[6] == row[8], "the core left it unsegmented and the neighbour did not"
    assert gap[7] == 0, "both left it unsegmented"
    assert report(experiment)["contradicted_voxels"] == 4 * 4 * 4 - 2
    assert report(experiment)["labelled_voxels"] == 4 * 4 * 16 - 1
    probability = Layer.open(experiment.layer("flood_probability")).read(experiment.image_box)
    assert ((probability > 0) == (supervoxels > 0)).all()


def test_a_candidate_is_of_the_deepest_subvolume_that_has_one_where_none_segmented_the_voxel(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((4, 4, 16), np.uint8), (10, 4, 4), (4, 1, 1))
    lower_box, upper_box = experiment.subvolumes
    lower, upper = np.zeros(lower_box.shape_zyx, int), np.zeros(upper_box.shape_zyx, int)
    lower[:, 0], upper[:, 0] = 1, 5  # one object on either side of the overlap, x 6..10
    lower[:, 3], upper[:, 3] = 2, 6
    weaker = {lower_box: np.zeros_like(lower), upper_box: np.zeros_like(upper)}
    weaker[lower_box][0, 1, 5:10] = 1
    weaker[upper_box][0, 1, :3] = 6  # x 6..8
    weaker[upper_box][0, 2, 3] = 6
    write_floods(experiment, {lower_box: lower, upper_box: upper}, candidates=weaker)
    supervoxels = assembled(experiment)
    one, other = supervoxels[0, 0, 0], supervoxels[0, 3, 0]
    found = Layer.open(experiment.layer("candidates")).read(experiment.image_box)
    expected = np.zeros_like(found)
    expected[0, 1, 5:8], expected[0, 1, 8] = one, other  # the overlap is cut at 8
    expected[0, 1, 9] = one  # the deeper one has none
    expected[0, 2, 9] = other
    np.testing.assert_array_equal(found, expected)


def test_parts_that_a_contradiction_cuts_off_are_counted(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((2, 8, 16), np.uint8), (10, 8, 2), (4, 1, 1))
    lower_box, upper_box = experiment.subvolumes
    lower, upper = np.zeros(lower_box.shape_zyx, int), np.zeros(upper_box.shape_zyx, int)
    # An arch whose top, x 9, lies in the other one's core; that one saw three objects there.
    lower[:, :3, 2:10] = lower[:, 5:, 2:10] = 1
    lower[:, :, 9] = 1
    upper[:, :3, 2:], upper[:, 3:5, 2:], upper[:, 5:, 2:] = 1, 2, 3
    write_floods(experiment, {lower_box: lower, upper_box: upper})
    supervoxels = assembled(experiment)
    counts = report(experiment)
    volumes = [cc3d.connected_components(supervoxels == one, connectivity=6) for one in np.unique(supervoxels) if one]
    sizes = [np.sort(np.bincount(labels.ravel())[1:]) for labels in volumes]
    assert counts["objects_in_several_parts"] == sum(len(parts) > 1 for parts in sizes) > 0
    assert counts["voxels_outside_largest_parts"] == sum(parts[:-1].sum() for parts in sizes)


@given(st.integers(2, 30), st.data())
def test_cores_fill_the_volume_once(length, data):
    size = data.draw(st.integers(2, 12))
    overlap = data.draw(st.integers(1, size - 1))
    outer = Box((3, 0, 0), (3 + length, length, 5))
    grid = Grid(tile(outer, (size, size, 5), (overlap, overlap, 0)))
    written = np.zeros(outer.shape_zyx, int)
    for index, box in enumerate(grid.boxes):
        assert box.contains(grid.core(index))
        written[grid.core(index).slices_zyx(outer.start_xyz)] += 1
        assert (grid.outside_core(index, outer) == 0).sum() == grid.core(index).voxels
    assert (written == 1).all()


@given(st.integers(2, 30), st.data())
def test_the_subvolumes_of_a_box_are_found(length, data):
    size = data.draw(st.integers(2, 12))
    grid = Grid(tile(Box((0, 0, 0), (length, 20, 5)), (size, 8, 5), (1, 2, 0)))
    start = [data.draw(st.integers(0, top - 1)) for top in (length, 20, 5)]
    stop = [data.draw(st.integers(low + 1, top)) for low, top in zip(start, (length, 20, 5), strict=True)]
    box = Box.of([start, stop])
    assert grid.touching(box) == [i for i, one in enumerate(grid.boxes) if not one.intersection(box).is_empty]


# --- tables ----------------------------------------------------------------------------------------------------------


def test_tables_say_which_piece_went_where_and_which_floods_covered_what(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((4, 12, 16), np.uint8), (10, 12, 4), (4, 1, 1), (5, 6, 7))
    lower_box, upper_box = experiment.subvolumes
    lower, upper = np.zeros(lower_box.shape_zyx, int), np.zeros(upper_box.shape_zyx, int)
    lower[:, :6], lower[:, 6:] = 40, 50
    upper[:] = 60
    floods, together = {lower_box: [(50, 40, 60)]}, {lower_box: [(40, 50)]}
    write_floods(experiment, {lower_box: lower, upper_box: upper}, floods, held_together=together)
    supervoxels = assembled(experiment)
    pieces = pd.read_parquet(experiment.layer("supervoxels") / "pieces.parquet").set_index(["subvolume", "id"])
    assert pieces.loc[(0, 40), "supervoxel"] == supervoxels[0, 0, 0]
    assert pieces.loc[(1, 60), "supervoxel"] == supervoxels[0, 0, 15]
    assert pieces["voxels"].to_dict() == {(0, 40): 240, (0, 50): 240, (1, 60): 480}
    overlaps = pd.read_parquet(experiment.layer("supervoxels") / "overlaps.parquet")
    rows = {(int(r.a), int(r.b), r.source): (r.voxels, r.covered_a, r.covered_b) for r in overlaps.itertuples()}
    assert rows == {
        (1, 2, "flood"): (60, 60 / 240, 60 / (240 + 60)),
        (1, 2, "pass"): (240, 1.0, 1.0),
        (1, 3, "neighbour"): (4 * 6 * 4, 1.0, 0.5),
        (2, 3, "neighbour"): (4 * 6 * 4, 1.0, 0.5),
    }
    assert json.loads(experiment.manifest("supervoxels").read_text())["box_xyz"] == [[5, 6, 7], [21, 18, 11]]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_subvolumes_that_do_not_overlap_are_refused(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((4, 4, 16), np.uint8), (8, 4, 4), (0, 0, 0))
    write_floods(experiment, {box: np.ones(box.shape_zyx) for box in experiment.subvolumes})
    with pytest.raises(FloodlineError, match="share no voxel"):
        run.run(experiment)


def test_a_missing_block_is_named_and_no_old_manifest_survives(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((4, 4, 16), np.uint8), (10, 4, 4), (4, 0, 0))
    write_floods(experiment, {box: np.ones(box.shape_zyx) for box in experiment.subvolumes})
    run.run(experiment)
    experiment.block(experiment.subvolumes[1]).unlink()
    with pytest.raises(FloodlineError, match=r"6-16_0-4_0-4\.block is missing"):
        run.run(experiment)
    assert not experiment.manifest("supervoxels").exists()


def test_an_empty_inference_gives_an_empty_layer(tmp_path):
    experiment = make_experiment(tmp_path, np.zeros((4, 4, 16), np.uint8), (10, 4, 4), (4, 0, 0))
    write_floods(experiment, {box: np.zeros(box.shape_zyx) for box in experiment.subvolumes})
    assert not assembled(experiment).any()
    assert report(experiment)["objects"] == 0
