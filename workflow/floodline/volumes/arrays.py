"""Sources that are sliced like an array: datasets of HDF5 files, and whatever a library shows that way."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import Box

T = TypeVar("T")


class ArrayVolume:
    """A volume (z, y, x) over anything that is sliced like an array; nothing is read before a box is asked for."""

    voxel_size_nm_xyz: tuple[float, float, float] | None = None

    def __init__(self, array: Any, name: str) -> None:
        if len(array.shape) != 3 or 0 in array.shape:
            raise FloodlineError(f"{name} has shape {tuple(array.shape)}: a volume of three dimensions is needed.")
        self.array, self.name = array, name
        self.box = Box.of_array(array.shape)
        self.dtype = np.dtype(array.dtype)

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, z, y, x."""
        return or_sentence(lambda: np.asarray(self.array[box.slices_zyx(self.box.start_xyz)]), self.name)


def open_hdf5(path: Path, dataset: str) -> ArrayVolume:
    """A three-dimensional dataset (z, y, x) of an HDF5 file.

    Raises:
        FloodlineError: the file or the dataset is missing or damaged, or has not three dimensions.
    """
    return ArrayVolume(hdf5_dataset(path, dataset), f"dataset '{dataset}' of {path}")


def hdf5_dataset(path: Path, name: str) -> Any:
    """A dataset of an HDF5 file, as h5py gives it.

    Raises:
        FloodlineError: the file or the dataset is missing or damaged; the sentence lists the datasets that there are.
    """
    import h5py

    file = or_sentence(lambda: h5py.File(path, "r"), str(path))
    dataset = file.get(name)
    if isinstance(dataset, h5py.Dataset):
        return dataset
    names: list[str] = []
    file.visititems(lambda key, item: names.append(key) if isinstance(item, h5py.Dataset) else None)
    there = f"its datasets are {', '.join(names)}" if names else "it holds none"
    raise FloodlineError(f"{path} has no dataset '{name}': {there}.")


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
