"""Sources: volumes as laboratories have them, behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.geometry import Box
from floodline.volumes.arrays import Storage
from floodline.volumes.chunked import open_chunked
from floodline.volumes.files import open_file
from floodline.volumes.hdf5 import open_hdf5
from floodline.volumes.layer import Layer
from floodline.volumes.placement import Size
from floodline.volumes.stack import open_stack

Content = Literal["image", "labels"]


class Volume(Protocol):
    """A three-dimensional volume that can be read box by box."""

    @property
    def box(self) -> Box:
        """Where it lies, in its own coordinates: at the origin if the file does not say."""

    @property
    def dtype(self) -> np.dtype:
        """Type of its voxels."""

    @property
    def voxel_size_nm_xyz(self) -> Size | None:
        """None if the file does not say."""

    @property
    def stored(self) -> Storage:
        """How it is stored."""

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box (z, y, x) that lies inside `self.box`.

        Raises:
            FloodlineError: the data are missing or damaged.
        """


def open_source(source: config.Source, seed: int, content: Content = "image") -> Volume:
    """Open a source as the configuration describes it; voxels are read, or generated, only when asked for.

    Args:
        source: its description.
        seed: what a generated volume looks like.
        content: which of a phantom's two volumes is wanted; every other source holds one.

    Raises:
        FloodlineError: it is missing or is not what it is said to be.
    """
    match source:
        case config.PhantomSource():
            return PhantomVolume(Box.sized((0, 0, 0), source.size_xyz), seed, content)
        case config.StackSource():
            return open_stack(source.path)
        case config.Hdf5Source():
            return open_hdf5(Path(source.path), source.dataset)
        case config.PrecomputedSource():
            return Layer.open(source.path, source.mip)
        case config.ChunkedSource():
            return open_chunked(source)
        case config.FileSource() | config.RawSource():
            return open_file(source)


def open_image(source: config.Source, seed: int) -> Volume:
    """Open the source of an image; its voxels are uint8 or uint16. Signed ones are raised by half of their range.

    Raises:
        FloodlineError: it is missing, or has not 8 or 16 bits a voxel.
    """
    volume = open_source(source, seed)
    if volume.dtype in (np.int8, np.int16):
        return UnsignedVolume(volume)
    if volume.dtype not in (np.uint8, np.uint16):
        raise FloodlineError(f"the image source holds {volume.dtype}: convert it to uint8 or uint16.")
    return volume


class UnsignedVolume:
    """A volume of signed voxels as unsigned ones, the smallest being 0: microscopes' software writes both."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self.box, self.voxel_size_nm_xyz, self.stored = volume.box, volume.voxel_size_nm_xyz, volume.stored
        self.dtype = np.dtype(f"uint{8 * volume.dtype.itemsize}")

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, z, y, x."""
        # In two's complement the highest bit alone is what differs.
        return self._volume.read(box).view(self.dtype) ^ self.dtype.type(1 << (8 * self.dtype.itemsize - 1))


class PhantomVolume:
    """The generated volume; it is made as a whole at the first read."""

    voxel_size_nm_xyz: Size | None = None

    def __init__(self, box: Box, seed: int, content: Content) -> None:
        self.box, self.seed, self.content = box, seed, content
        self.stored = Storage(box.size_xyz, "generated")
        self.dtype = np.dtype(np.uint8 if content == "image" else np.uint64)
        self._array: np.ndarray | None = None

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, z, y, x."""
        from floodline.volumes import phantom

        if self._array is None:
            make = phantom.image if self.content == "image" else phantom.labels
            self._array = make(self.box.shape_zyx, self.seed)
        return self._array[box.slices_zyx(self.box.start_xyz)]
