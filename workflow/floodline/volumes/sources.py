"""Sources: volumes as laboratories have them, behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from floodline import config
from floodline.geometry import Box
from floodline.volumes.arrays import open_hdf5
from floodline.volumes.layer import Layer
from floodline.volumes.stack import open_stack

Content = Literal["image", "labels"]


class Volume(Protocol):
    """A three-dimensional volume that can be read box by box."""

    @property
    def box(self) -> Box:
        """Where it lies, in its own coordinates."""

    @property
    def dtype(self) -> np.dtype:
        """Type of its voxels."""

    @property
    def voxel_size_nm_xyz(self) -> tuple[float, float, float] | None:
        """None if the format does not say."""

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


class PhantomVolume:
    """The generated volume; it is made as a whole at the first read."""

    voxel_size_nm_xyz: tuple[float, float, float] | None = None

    def __init__(self, box: Box, seed: int, content: Content) -> None:
        self.box, self.seed, self.content = box, seed, content
        self.dtype = np.dtype(np.uint8 if content == "image" else np.uint64)
        self._array: np.ndarray | None = None

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, z, y, x."""
        from floodline.volumes import phantom

        if self._array is None:
            make = phantom.image if self.content == "image" else phantom.labels
            self._array = make(self.box.shape_zyx, self.seed)
        return self._array[box.slices_zyx(self.box.start_xyz)]
