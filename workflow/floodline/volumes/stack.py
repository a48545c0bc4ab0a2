"""Sources that are stacks of slices: one PNG, JPEG or TIFF file a z, or the pages of one TIFF."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import Box
from floodline.volumes.arrays import ArrayVolume, Storage, or_sentence
from floodline.volumes.tiff import TIFF_SUFFIXES, open_pages

logger = logging.getLogger("floodline")

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg"}
PICTURE_TYPES = {"L": np.uint8, "I;16": np.uint16}


class StackVolume:
    """One two-dimensional file a z-slice; the first file is z = 0."""

    voxel_size_nm_xyz: tuple[float, float, float] | None = None

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        first = _header(paths[0])
        for path in paths[1:]:
            other = _header(path)
            if other != first:
                raise FloodlineError(f"slices differ: {path} is {_words(*other)}, but {paths[0]} is {_words(*first)}.")
        shape_yx, self.dtype = first
        self.box = Box.of_array((len(paths), *shape_yx))
        self.stored = Storage((shape_yx[1], shape_yx[0], 1), f"as {paths[0].suffix.lower()[1:]}, a file a slice")

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, z, y, x."""
        z, y, x = box.slices_zyx()
        voxels = np.empty(box.shape_zyx, self.dtype)
        # One slice at a time: views of all of them would keep them all in memory.
        for section, path in zip(voxels, self.paths[z], strict=True):
            section[:] = _read(path)[y, x]
        return voxels


def open_stack(path: str) -> StackVolume | ArrayVolume:
    """A folder or glob pattern of slices, in natural order of their names, or one multi-page TIFF.

    Gaps in the numbering are reported in the log; the slices are taken as they follow one another.

    Raises:
        FloodlineError: there is nothing, or the slices differ in size or type, or one is not greyscale.
    """
    if Path(path).is_file() and Path(path).suffix.lower() in TIFF_SUFFIXES:
        return open_pages(Path(path))
    paths = _slices_in(Path(path))
    _report_gaps(paths)
    return StackVolume(paths)


def _slices_in(path: Path) -> list[Path]:
    """The slices that a folder or a pattern names, in natural order: numbers in names compare as numbers."""
    if path.is_dir():
        found: Iterable[Path] = path.iterdir()
    elif path.is_file():
        found = [path]
    else:
        found = Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
        if not any(mark in str(path) for mark in "*?["):
            raise FloodlineError(f"{path} does not exist: a folder, a file or a pattern of slices is needed.")
    slices = [file for file in found if file.suffix.lower() in TIFF_SUFFIXES | PICTURE_SUFFIXES]
    if not slices:
        raise FloodlineError(f"{path} holds no slices: PNG, JPEG or TIFF files are needed.")
    return sorted(slices, key=lambda file: (_texts(file.name), _numbers(file.name), file.name))


def _texts(name: str) -> list[str]:
    return re.split(r"\d+", name)


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _report_gaps(slices: Sequence[Path]) -> None:
    """Warn where the number that counts the slices leaves some out: data may be missing there."""
    if len({tuple(_texts(path.stem)) for path in slices}) != 1:
        return
    columns = zip(*(_numbers(path.stem) for path in slices), strict=True)
    counter = next((column for column in columns if len(set(column)) > 1), ())
    gaps = [f"{a + 1}..{b - 1}" for a, b in pairwise(counter) if b - a > 1]
    if gaps:
        logger.warning(
            "the numbering of the slices %s to %s has gaps (%s); the slices are taken as neighbours.",
            slices[0], slices[-1], ", ".join(gaps),
        )  # fmt: skip


def _header(path: Path) -> tuple[tuple[int, int], np.dtype]:
    """Shape (y, x) and type of a slice, without its voxels."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        import tifffile

        with or_sentence(lambda: tifffile.TiffFile(path), str(path)) as tiff:
            shape, dtype = tiff.series[0].shape, np.dtype(tiff.series[0].dtype)
        if len(shape) != 2:
            raise FloodlineError(f"{path} has shape {shape}: a slice has two dimensions.")
        return (shape[0], shape[1]), dtype.newbyteorder("=")
    from PIL import Image

    with or_sentence(lambda: Image.open(path), str(path)) as picture:
        if picture.mode not in PICTURE_TYPES:
            raise FloodlineError(f"{path} is a picture of mode {picture.mode}: greyscale of 8 or 16 bits is needed.")
        return (picture.height, picture.width), np.dtype(PICTURE_TYPES[picture.mode])


def _read(path: Path) -> np.ndarray:
    """The voxels of a slice, y, x."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        import tifffile

        return or_sentence(lambda: tifffile.imread(path), str(path))
    from PIL import Image

    def decode() -> np.ndarray:
        with Image.open(path) as picture:
            return np.asarray(picture)

    return or_sentence(decode, str(path))


def _words(shape_yx: tuple[int, int], dtype: np.dtype) -> str:
    return f"{shape_yx[1]} x {shape_yx[0]} {dtype}"
