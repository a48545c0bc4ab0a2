"""Surfaces as a picture: triangles to pixels with a depth buffer, in memory, without a screen or a graphics library.

The view is orthographic, so that one scale bar holds for all of it. Each triangle is covered with points no further
apart than a pixel; of the points that fall on a pixel the nearest is seen.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from floodline.publishing.slices import bar_length

SIZE = (960, 640)
# Pixels of the drawing for one of the picture, along each side: edges become smooth.
FINE = 2
POINTS_AT_A_TIME = 2_000_000
TURN, TILT = np.deg2rad(-32), np.deg2rad(22)
# Towards the light, which stands above the viewer's left shoulder: right, down, away.
LIGHT = np.array([-0.45, -0.65, -0.61])
AMBIENT = 0.35
# How much of the paper's white is mixed into what is furthest away.
HAZE = 0.45
FRAME = (150, 156, 163)


@dataclass(frozen=True)
class Surface:
    """A mesh.

    Attributes:
        vertices: (n, 3) x, y, z in nanometres.
        faces: (m, 3) numbers of vertices.
        colour: red, green, blue, 0..255.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colour: tuple[int, int, int]


def view() -> np.ndarray:
    """Rows: what is right, down and away in the picture, in x, y, z. Turned about the vertical (y), then tilted."""
    turn = np.array([[np.cos(TURN), 0, np.sin(TURN)], [0, 1, 0], [-np.sin(TURN), 0, np.cos(TURN)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(TILT), -np.sin(TILT)], [0, np.sin(TILT), np.cos(TILT)]])
    return tilt @ turn


class Drawing:
    """A picture in the making: of each pixel, how far away what is seen there is, and its colour.

    Args:
        low, high: corners (x, y, z, nanometres) of the box that fills the picture.
        size: width and height of the picture, pixels at most.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], size: tuple[int, int] = SIZE) -> None:
        self.corners = np.array([low, high], float)[
            [[i >> axis & 1 for axis in range(3)] for i in range(8)], [[0, 1, 2]] * 8
        ]
        placed = self.corners @ view().T
        self.low, self.high = placed.min(axis=0), placed.max(axis=0)
        width, height, self.depth_nm = self.high - self.low
        self.pixels_per_nm = FINE * min(size[0] / width, size[1] / height) * 0.96
        self.shape = (round(height * self.pixels_per_nm) + 16 * FINE, round(width * self.pixels_per_nm) + 16 * FINE)
        self.depth = np.full(self.shape[0] * self.shape[1], np.inf, np.float32)
        self.colour = np.full((len(self.depth), 3), 255, np.float32)
        self.owner = np.zeros(len(self.depth), np.int32)
        self.owners = 0

    def _place(self, points: np.ndarray) -> np.ndarray:
        """Columns and rows (fine pixels), and depth (nanometres, 0 is nearest) of points x, y, z."""
        placed = points @ view().T - self.low
        placed[:, :2] = placed[:, :2] * self.pixels_per_nm + 8 * FINE
        return placed

    def add(self, surface: Surface) -> None:
        """Draw a surface into the picture."""
        self.owners += 1
        points = self._place(np.asarray(surface.vertices, float))
        faces = np.asarray(surface.faces)
        a, b, c = (points[faces[:, i]] for i in range(3))
        # In pixels on the screen and in depth alike, so that the normals are those of space.
        scale = np.array([1, 1, self.pixels_per_nm])
        of_face = np.cross((b - a) * scale, (c - a) * scale)
        normals = np.zeros_like(points)
        for i in range(3):
            np.add.at(normals, faces[:, i], of_face)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        # The longest side in pixels decides how many points cover a face; steps of four make few groups.
        side = np.max([np.abs(p - q)[:, :2].max(axis=1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
        steps = 4 * np.ceil(side.clip(1) / 4).astype(int)
        points, normals = points.astype(np.float32), normals.astype(np.float32)
        for step in np.unique(steps):
            i, j = np.indices((step + 1, step + 1)).reshape(2, -1)
            inside = i + j <= step
            weights = np.stack([i[inside], j[inside], step - i[inside] - j[inside]], axis=1).astype(np.float32) / step
            chosen = faces[steps == step]
            for first in range(0, len(chosen), max(1, POINTS_AT_A_TIME // len(weights))):
                some = chosen[first : first + max(1, POINTS_AT_A_TIME // len(weights))]
                self._paint(
                    (weights @ points[some]).reshape(-1, 3),
                    (weights @ normals[some]).reshape(-1, 3),
                    np.array(surface.colour, np.float32),
                )

    def _paint(self, points: np.ndarray, normals: np.ndarray, colour: np.ndarray) -> None:
        columns, rows = (np.rint(points[:, i]).astype(int) for i in (0, 1))
        there = (columns >= 0) & (columns < self.shape[1]) & (rows >= 0) & (rows < self.shape[0])
        pixel = rows[there] * self.shape[1] + columns[there]
        depth = points[there, 2].astype(np.float32)
        # The side that is seen faces the viewer, whichever way the mesh is wound.
        towards = normals[there] * np.where(normals[there, 2:] > 0, -1, 1)
        facing = (towards @ (LIGHT / np.linalg.norm(LIGHT))).clip(0, 1)
        nearer = depth < self.depth[pixel]
        pixel, depth, facing = pixel[nearer], depth[nearer], facing[nearer]
        # The nearest comes last, and what is assigned last stays.
        order = np.argsort(-depth, kind="stable")
        pixel, depth, facing = pixel[order], depth[order], facing[order]
        self.depth[pixel], self.owner[pixel] = depth, self.owners
        bright = AMBIENT + (1 - AMBIENT) * facing[:, None]
        haze = HAZE * np.clip(depth / self.depth_nm, 0, 1)[:, None]
        self.colour[pixel] = (colour * bright) * (1 - haze) + 255 * haze

    def finish(self) -> bytes:
        """JPEG bytes, with the outlines of the surfaces, the box, and a scale bar of `bar_nm`."""
        depth, owner = (array.reshape(self.shape) for array in (self.depth, self.owner))
        near = np.where(np.isinf(depth), 2 * self.depth_nm, depth)
        edge = np.zeros(self.shape, bool)
        for axis in (0, 1):
            step = np.abs(np.diff(near, axis=axis)) > 0.03 * self.depth_nm
            change = (np.diff(owner, axis=axis) != 0) | step
            edge[(slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))] |= change
        picture = self.colour.reshape(*self.shape, 3).copy()
        picture[edge] *= 0.45
        image = Image.fromarray(picture.round().astype(np.uint8))
        draw = ImageDraw.Draw(image)
        self._frame(draw, depth)
        length, margin = self.bar_nm * self.pixels_per_nm, 10 * FINE
        bottom = self.shape[0] - margin
        draw.rectangle((margin, bottom - 5 * FINE, margin + length, bottom), fill=(20, 20, 20))
        small = image.resize((self.shape[1] // FINE, self.shape[0] // FINE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=88, subsampling=0)
        return file.getvalue()

    @property
    def bar_nm(self) -> float:
        """A round length, of at most a quarter of the picture's width."""
        return bar_length(self.shape[1] / self.pixels_per_nm)

    def _frame(self, draw: ImageDraw.ImageDraw, depth: np.ndarray) -> None:
        """The edges of the box, where no surface is in front of them."""
        placed = self._place(self.corners)
        for one in range(8):
            for axis in range(3):
                other = one | 1 << axis
                if other == one:
                    continue
                count = int(np.abs(placed[other] - placed[one])[:2].max()) + 1
                along = np.linspace(placed[one], placed[other], count)
                column, row = (np.rint(along[:, i]).astype(int).clip(0, self.shape[1 - i] - 1) for i in (0, 1))
                seen = along[:, 2] <= depth[row, column]
                for x, y in zip(column[seen].tolist(), row[seen].tolist(), strict=True):
                    draw.rectangle((x, y, x + FINE - 1, y + FINE - 1), fill=FRAME)
