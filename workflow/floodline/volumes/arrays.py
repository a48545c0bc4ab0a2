"""Volumes over whatever a library shows as an array, and the sentence about a file that it cannot read."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple
from floodline.volumes.placement import Placement

T = TypeVar("T")


@dataclass(frozen=True)
class Storage:
    """How a volume is stored: the size of its pieces, x, y, z, and how they are compressed."""

    chunk_size_xyz: Triple
    compression: str


class ArrayVolume:
    """A volume (z, y, x) over anything that is sliced like an array; nothing is read before a box is asked for."""

    def __init__(self, array: Any, name: str, stored: Storage, placement: Placement | None = None) -> None:
        if len(array.shape) != 3 or 0 in array.shape:
            raise FloodlineError(f"{name} has shape {tuple(array.shape)}: a volume of three dimensions is needed.")
        placement = placement or Placement()
        self.array, self.name, self.stored = array, name, stored
        self.box = Box.of_array(array.shape, placement.start_xyz)
        self.voxel_size_nm_xyz = placement.voxel_size_nm_xyz
        # Whatever order the file's bytes are in.
        self.dtype = np.dtype(array.dtype).newbyteorder("=")

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, z, y, x."""
        index = box.slices_zyx(self.box.start_xyz)
        return or_sentence(lambda: np.ascontiguousarray(self.array[index], self.dtype), self.name)


def as_labels(array: np.ndarray) -> np.ndarray:
    """The same labels as uint64.

    Raises:
        FloodlineError: one is negative.
    """
    if array.dtype.kind == "i" and array.min() < 0:
        raise FloodlineError(f"the labels hold the negative number {array.min()}: 0 means not labelled.")
    return array.astype(np.uint64, copy=False)


def or_sentence(read: Callable[[], T], name: str) -> T:
    """What `read` gives; an error from inside a file format's library becomes one sentence about the file.

    Raises:
        FloodlineError: the file is missing or damaged.
    """
    try:
        return read()
    except FileNotFoundError:
        raise FloodlineError(f"{name} does not exist.") from None
    # The libraries raise many kinds for damaged files: SyntaxError is Pillow's, ValueError is among tifffile's.
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, zlib.error) as error:
        raise FloodlineError(f"{name} cannot be read: {' '.join(str(error).split()).rstrip('.')}.") from error
