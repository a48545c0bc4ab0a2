"""Sources that are datasets of HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import to_xyz
from floodline.volumes.arrays import ArrayVolume, Storage, or_sentence
from floodline.volumes.placement import Placement, placed

SIZES = {"resolution": "nm", "voxel_size": "nm", "element_size_um": "um"}
"""Attributes (z, y, x) that say the voxel size, and their units."""


def open_hdf5(path: Path, name: str) -> ArrayVolume:
    """A three-dimensional dataset (z, y, x) of an HDF5 file.

    Raises:
        FloodlineError: the file or the dataset is missing or damaged, or has not three dimensions.
    """
    dataset, where = hdf5_dataset(path, name), f"dataset '{name}' of {path}"
    whole = to_xyz(dataset.shape) if len(dataset.shape) == 3 else (0, 0, 0)
    chunks = to_xyz(dataset.chunks) if len(dataset.shape) == 3 and dataset.chunks else whole
    return ArrayVolume(dataset, where, Storage(chunks, dataset.compression or "none"), _placement(dataset, where))


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


def volumes_in(path: Path) -> list[str]:
    """The three-dimensional datasets of an HDF5 file.

    Raises:
        FloodlineError: the file is missing or damaged, or has none.
    """
    import h5py

    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 3:
            names.append(name)

    with or_sentence(lambda: h5py.File(path, "r"), str(path)) as file:
        file.visititems(visit)
    if not names:
        raise FloodlineError(f"{path} holds no dataset of three dimensions.")
    return names


def _placement(dataset: Any, name: str) -> Placement:
    """By the attributes of the dataset, else of the nearest group that it lies in and that has them."""
    found: dict[str, np.ndarray] = {}
    item, key = dataset, dataset.name
    while True:
        for attribute in (*SIZES, "offset"):
            if attribute in item.attrs and np.size(item.attrs[attribute]) == 3:
                found.setdefault(attribute, np.asarray(item.attrs[attribute], float)[::-1])
        if key == "/":
            break
        item, key = item.parent, item.parent.name
    for attribute, unit in SIZES.items():
        if attribute in found:
            factor = 1e3 if unit == "um" else 1.0
            return placed(name, found[attribute] * factor, ["nm"] * 3, found.get("offset"))
    return Placement()
