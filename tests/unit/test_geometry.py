"""Boxes, tilings and axis order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodline.geometry import Box, blocks, tile, to_xyz, to_zyx

coordinate = st.integers(-50, 50)
points = st.tuples(coordinate, coordinate, coordinate)
sizes = st.tuples(*[st.integers(1, 30)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> tuple[Box, tuple[int, ...], tuple[int, ...]]:
    outer = Box.sized(draw(points), draw(sizes))
    size = draw(sizes)
    return outer, size, tuple(draw(st.integers(0, s - 1)) for s in size)


@given(points, sizes)
def test_slices_select_the_box_from_an_array_that_starts_anywhere(start, size):
    outer = Box.sized(start, size)
    array = np.zeros(outer.shape_zyx, dtype=int)
    inner = Box.sized(start, [max(1, s // 2) for s in size])
    array[inner.slices_zyx(outer.start_xyz)] = 1
    assert array.sum() == inner.voxels
    assert array[0, 0, 0] == 1
    assert Box.of_array(array.shape, start) == outer


@given(points)
def test_axis_order_is_its_own_inverse(point):
    assert to_xyz(to_zyx(point)) == point
    assert to_zyx((1, 2, 3)) == (3, 2, 1)


@given(grids())
def test_tiles_have_full_size_cover_everything_and_overlap_enough(grid):
    outer, size, overlap = grid
    boxes = tile(outer, size, overlap)
    full = tuple(min(s, o) for s, o in zip(size, outer.size_xyz, strict=True))
    assert all(box.size_xyz == full and outer.contains(box) for box in boxes)
    covered = np.zeros(outer.shape_zyx, dtype=int)
    for box in boxes:
        covered[box.slices_zyx(outer.start_xyz)] += 1
    assert covered.min() >= 1
    for axis in range(3):
        starts = sorted({box.start_xyz[axis] for box in boxes})
        assert all(a + full[axis] - b >= overlap[axis] for a, b in itertools.pairwise(starts))
    assert len(set(boxes)) == len(boxes)


@given(grids())
def test_blocks_partition_the_box(grid):
    outer, size, _ = grid
    covered = np.zeros(outer.shape_zyx, dtype=int)
    for block in blocks(outer, size):
        covered[block.slices_zyx(outer.start_xyz)] += 1
    assert (covered == 1).all()


def test_published_example_of_shifted_back_tiles():
    # The example of google/ffn's box generator: outer 20, 20, 10, box 15, 13, 6, overlap 1, 2, 2.
    boxes = tile(Box((0, 0, 0), (20, 20, 10)), (15, 13, 6), (1, 2, 2))
    starts = [sorted({box.start_xyz[axis] for box in boxes}) for axis in range(3)]
    assert starts == [[0, 5], [0, 7], [0, 4]]
    assert [box.start_xyz for box in boxes[:2]] == [(0, 0, 0), (5, 0, 0)], "x runs fastest"


def test_an_overlap_as_large_as_the_size_is_refused():
    with pytest.raises(ValueError, match="smaller than the size"):
        tile(Box((0, 0, 0), (9, 9, 9)), (4, 4, 4), (4, 0, 0))


@given(points, sizes, points, sizes)
def test_intersection_is_the_common_voxels(a, size_a, b, size_b):
    first, second = Box.sized(a, size_a), Box.sized(b, size_b)
    common = first.intersection(second)
    inside = [p for p in np.ndindex(*size_a) if second.contains_point(tuple(o + i for o, i in zip(a, p, strict=True)))]
    assert common.voxels == len(inside)
    assert first.contains(second) == (common == second)
