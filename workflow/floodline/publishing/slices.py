"""Orthogonal slices of the image and of label layers, as pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from floodline.geometry import Box, triple
from floodline.publishing.colours import PALETTE, rgb
from floodline.volumes.layer import Layer

MAX_VOXELS = 384
PIXELS = 480
FILL = 0.55


@dataclass(frozen=True)
class Plane:
    """A slice through a box: `axes` are those of its columns and rows, `across` the one that it cuts at its place."""

    name: str
    box: Box
    axes: tuple[int, int]
    across: int

    @property
    def place(self) -> int:
        return self.box.start_xyz[self.across]

    def read(self, layer: Layer) -> np.ndarray:
        """The slice of a layer, rows by columns; 0 where the layer does not reach."""
        inside = self.box.intersection(layer.box)
        whole = np.zeros(self.box.shape_zyx, layer.dtype)
        if not inside.is_empty:
            whole[inside.slices_zyx(self.box.start_xyz)] = layer.read(inside)
        # Columns run along `axes[0]`, so for yz, whose columns are y and rows z, no transposition is needed either.
        return whole.squeeze(axis=2 - self.across)

    def frame(self, box: Box) -> tuple[float, float, float, float] | None:
        """Where a box's outline lies in the slice, in voxels: left, top, right, bottom; None if the slice misses it."""
        common = box.intersection(self.box)
        if common.is_empty or common == self.box:
            return None
        column, row = self.axes
        start = self.box.start_xyz
        return (
            box.start_xyz[column] - start[column],
            box.start_xyz[row] - start[row],
            box.stop_xyz[column] - start[column],
            box.stop_xyz[row] - start[row],
        )


def planes_through(box: Box, centre_xyz: tuple[int, int, int]) -> list[Plane]:
    """The xy, xz and yz slices through a point, of at most MAX_VOXELS a side around it."""
    window = Box(triple(c - MAX_VOXELS // 2 for c in centre_xyz), triple(c + MAX_VOXELS // 2 for c in centre_xyz))
    shown = box.intersection(window)
    planes = []
    for name, across in (("xy", 2), ("xz", 1), ("yz", 0)):
        start, stop = list(shown.start_xyz), list(shown.stop_xyz)
        start[across], stop[across] = centre_xyz[across], centre_xyz[across] + 1
        column, row = (axis for axis in range(3) if axis != across)
        planes.append(Plane(name, Box(triple(start), triple(stop)), (column, row), across))
    return planes


@dataclass(frozen=True)
class Canvas:
    """How a plane is drawn: pixels a voxel along columns and rows, so that nanometres are square."""

    width: int
    height: int
    pixels_per_nm: float

    @classmethod
    def of(cls, plane: Plane, voxel_size_nm_xyz: tuple[float, float, float]) -> Canvas:
        column, row = plane.axes
        width_nm = plane.box.size_xyz[column] * voxel_size_nm_xyz[column]
        height_nm = plane.box.size_xyz[row] * voxel_size_nm_xyz[row]
        scale = PIXELS / max(width_nm, height_nm)
        return cls(max(1, round(width_nm * scale)), max(1, round(height_nm * scale)), scale)


def grey(plane: np.ndarray, canvas: Canvas, contrast: tuple[float, float]) -> np.ndarray:
    """The image slice at the canvas' size, rows by columns by 3, 0..1; `contrast`: the values that become 0 and 1."""
    low, high = contrast
    values = np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    picture = Image.fromarray(values).resize((canvas.width, canvas.height), Image.Resampling.BICUBIC)
    return np.repeat(np.clip(np.asarray(picture), 0, 1)[..., None], 3, axis=2)


def overlay(background: np.ndarray, labels: np.ndarray, colours: Mapping[int, int]) -> np.ndarray:
    """Objects as colours on the image, with a dark line around each, so that two of one colour stay two."""
    height, width, _ = background.shape
    rows = np.arange(height) * labels.shape[0] // height
    columns = np.arange(width) * labels.shape[1] // width
    large = labels[np.ix_(rows, columns)]
    present, place = np.unique(large, return_inverse=True)
    table = np.array([rgb(PALETTE[colours[label]]) if label else (0, 0, 0) for label in present.tolist()]) / 255
    fill = table[place.reshape(large.shape)]
    picture = np.where((large > 0)[..., None], FILL * fill + (1 - FILL) * background, background)
    edge = np.zeros(large.shape, bool)
    edge[1:] |= large[1:] != large[:-1]
    edge[:, 1:] |= large[:, 1:] != large[:, :-1]
    picture[edge] *= 0.35
    return picture


def finish(picture: np.ndarray, canvas: Canvas, bar_nm: float, frame: tuple[float, ...] | None, plane: Plane) -> bytes:
    """JPEG bytes of a picture with a scale bar and, dashed, the outline of the scored box."""
    image = Image.fromarray((picture * 255).round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    if frame is not None:
        column, row = plane.axes
        across, down = canvas.width / plane.box.size_xyz[column], canvas.height / plane.box.size_xyz[row]
        left, top, right, bottom = (f * s for f, s in zip(frame, (across, down, across, down), strict=True))
        for start, stop in (
            ((left, top), (right, top)), ((right, top), (right, bottom)),
            ((right, bottom), (left, bottom)), ((left, bottom), (left, top)),
        ):  # fmt: skip
            _dashed(draw, start, stop)
    length, margin = bar_nm * canvas.pixels_per_nm, 12
    top = canvas.height - margin - 5
    draw.rectangle((margin - 1, top - 1, margin + length + 1, top + 6), fill=(0, 0, 0))
    draw.rectangle((margin, top, margin + length, top + 5), fill=(255, 255, 255))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88, subsampling=0)
    return file.getvalue()


def _dashed(draw: ImageDraw.ImageDraw, start: tuple[float, float], stop: tuple[float, float], dash: int = 8) -> None:
    (x0, y0), (x1, y1) = start, stop
    steps = max(1, int(np.hypot(x1 - x0, y1 - y0) / dash))
    for i in range(steps):
        a, b = i / steps, (i + 0.55) / steps
        ends = [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in (a, b)]
        draw.line(ends, fill=(0, 0, 0), width=4)
        draw.line(ends, fill=(255, 255, 255), width=2)


def bar_length(extent_nm: float) -> float:
    """A round length (1, 2 or 5 times a power of ten) of at most a quarter of an extent, both in nanometres."""
    power = 10.0 ** np.floor(np.log10(extent_nm / 4))
    return float(max(step * power for step in (1, 2, 5) if step * power <= extent_nm / 4))
