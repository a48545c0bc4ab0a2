"""Pictures of surfaces: what is near hides what is far, in the right place, size and colour."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from floodline.publishing.rendering import FINE, Drawing, Surface, view

LOW, HIGH = (0.0, 0.0, 0.0), (1000.0, 1000.0, 1000.0)


def ball(middle: tuple[float, float, float], radius: float, colour: tuple[int, int, int]) -> Surface:
    """Triangles of a sphere."""
    steps = 24
    up, around = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps), indexing="ij")
    places = np.stack([np.sin(up) * np.cos(around), np.sin(up) * np.sin(around), np.cos(up)], axis=-1)
    number = np.arange(steps * 2 * steps).reshape(steps, 2 * steps)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Surface(places.reshape(-1, 3) * radius + middle, faces, colour)


def drawn(*surfaces: Surface) -> tuple[Drawing, np.ndarray]:
    drawing = Drawing(LOW, HIGH)
    for surface in surfaces:
        drawing.add(surface)
    return drawing, np.asarray(Image.open(io.BytesIO(drawing.finish()))).astype(int)


def coloured(picture: np.ndarray, channel: int) -> np.ndarray:
    """Where one colour prevails."""
    others = [i for i in range(3) if i != channel]
    return picture[..., channel] > picture[..., others].max(axis=-1) + 40


@settings(max_examples=6)
@given(middle=st.tuples(*[st.integers(250, 750)] * 3), radius=st.integers(60, 200))
def test_a_ball_is_a_disc_of_its_size_at_its_place(middle, radius):
    drawing, picture = drawn(ball(middle, radius, (200, 0, 0)))
    disc = coloured(picture, 0)
    nm = FINE / drawing.pixels_per_nm
    # The outline is dark.
    assert disc.sum() * nm**2 == pytest.approx(np.pi * radius**2, rel=0.12)
    expected = drawing._place(np.array([middle], float))[0, 1::-1] / FINE
    assert np.argwhere(disc).mean(axis=0) == pytest.approx(expected, abs=4)


def test_what_is_near_hides_what_is_far():
    away = view()[2]
    near, far = (tuple(500 + step * 200 * away) for step in (-1, 1))
    for order in (slice(None), slice(None, None, -1)):
        surfaces = [ball(near, 120, (220, 0, 0)), ball(far, 100, (0, 0, 220))]
        _, picture = drawn(*surfaces[order])
        assert coloured(picture, 0).sum() > 5000
        assert coloured(picture, 2).sum() == 0
    _, picture = drawn(ball(near, 60, (220, 0, 0)), ball(far, 150, (0, 0, 220)))
    assert coloured(picture, 0).sum() > 1000
    assert coloured(picture, 2).sum() > 5000


def test_no_gap_is_left_in_a_surface_of_large_triangles():
    corners = np.array([[200, 200, 500], [800, 200, 500], [800, 800, 500], [200, 800, 500]], float)
    drawing, _ = drawn(Surface(corners, np.array([[0, 1, 2], [0, 2, 3]]), (0, 200, 0)))
    filled = drawing.owner.reshape(drawing.shape) == 1
    assert filled.sum() > 100_000
    for row in filled[filled.any(axis=1)]:
        places = np.flatnonzero(row)
        assert len(places) == places[-1] - places[0] + 1


def test_a_scale_bar_is_there_and_of_its_length():
    drawing, picture = drawn()
    dark = (picture.max(axis=2) < 70)[-20:]
    columns = np.flatnonzero(dark.any(axis=0))
    assert len(columns) == pytest.approx(drawing.bar_nm * drawing.pixels_per_nm / FINE, abs=3)
