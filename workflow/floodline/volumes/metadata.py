"""What a volume says of itself: which kind of source it is, how large its voxels are, how it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.geometry import Triple, to_xyz
from floodline.volumes.arrays import hdf5_dataset, or_sentence
from floodline.volumes.layer import Layer
from floodline.volumes.sources import Volume
from floodline.volumes.stack import TIFF_SUFFIXES

Size = tuple[float, float, float]

HDF5_SUFFIXES = {".h5", ".hdf5", ".hdf"}
NANOMETRES = {"nm": 1.0, "nanometer": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "mm": 1e6}


def recognise(name: str) -> list[config.Source]:
    """The sources that a path or URL may stand for, as the configuration would describe them.

    A folder with a file `info` is a precomputed layer, and so is a URL; an HDF5 file has a source for each of its
    three-dimensional datasets, or the one named behind a colon, `file.h5:volumes/raw`; all else is a stack of slices.

    Raises:
        FloodlineError: there is nothing, or the HDF5 file is damaged or has no three-dimensional dataset.
    """
    if "://" in name:
        return [config.PrecomputedSource(kind="precomputed", path=name.removeprefix("precomputed://"))]
    path, _, dataset = name.partition(":")
    if Path(path).suffix.lower() in HDF5_SUFFIXES:
        names = [dataset] if dataset else _volumes_in(Path(path))
        return [config.Hdf5Source(kind="hdf5", path=_absolute(path), dataset=one) for one in names]
    if (Path(name) / "info").is_file():
        return [config.PrecomputedSource(kind="precomputed", path=_absolute(name))]
    return [config.StackSource(kind="stack", path=_absolute(name))]


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _volumes_in(path: Path) -> list[str]:
    """Three-dimensional datasets of an HDF5 file."""
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


def voxel_size(source: config.Source, volume: Volume) -> Size | None:
    """Voxel size in nanometres, x, y, z, that the volume's file states; None where it does not.

    Read are the `info` of precomputed layers, the metadata of OME and ImageJ in TIFF files, and the attributes
    `resolution` (nanometres, z, y, x) and `element_size_um` of HDF5 datasets. A TIFF's plain resolution is not: most
    programs write 72 dots per inch there.
    """
    if volume.voxel_size_nm_xyz is not None:
        return volume.voxel_size_nm_xyz
    match source:
        case config.Hdf5Source():
            return _of_hdf5(hdf5_dataset(Path(source.path), source.dataset).attrs)
        case config.StackSource() if Path(source.path).suffix.lower() in TIFF_SUFFIXES and Path(source.path).is_file():
            return _of_tiff(Path(source.path))
    return None


def _of_hdf5(attributes: Any) -> Size | None:
    for name, nanometres in (("resolution", 1.0), ("element_size_um", 1e3)):
        if np.size(attributes.get(name)) == 3:
            z, y, x = (float(value) * nanometres for value in attributes[name])
            return x, y, z
    return None


def _of_tiff(path: Path) -> Size | None:
    import tifffile

    with or_sentence(lambda: tifffile.TiffFile(path), str(path)) as tiff:
        if tiff.ome_metadata:
            return _of_ome(tiff.ome_metadata)
        imagej = tiff.imagej_metadata or {}
        tags = tiff.pages.first.tags
        nanometres = NANOMETRES.get(str(imagej.get("unit", "")).replace("\\u00B5", "µ"))
        if (
            nanometres is None
            or "spacing" not in imagej
            or not {"XResolution", "YResolution"} <= {t.name for t in tags}
        ):
            return None
        # Pixels a unit, as a fraction.
        (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
        if not x_pixels or not y_pixels:
            return None
        x, y = x_units / x_pixels, y_units / y_pixels
        return _rounded(x * nanometres, y * nanometres, float(imagej["spacing"]) * nanometres)


def _of_ome(text: str) -> Size | None:
    pixels = ElementTree.fromstring(text).find(".//{*}Pixels")
    if pixels is None:
        return None
    sizes = []
    for axis in "XYZ":
        value, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if value is None or unit not in NANOMETRES:
            return None
        sizes.append(float(value) * NANOMETRES[unit])
    return _rounded(*sizes)


def _rounded(x: float, y: float, z: float) -> Size:
    """Without the last digits that fractions and micrometres bring."""
    return round(x, 4), round(y, 4), round(z, 4)


def chunks(source: config.Source, volume: Volume) -> Triple | None:
    """Size of the pieces in which the volume is stored, x, y, z; None where a piece is a slice."""
    if isinstance(volume, Layer):
        return volume.chunk_size_xyz
    if isinstance(source, config.Hdf5Source):
        stored = hdf5_dataset(Path(source.path), source.dataset).chunks
        return to_xyz(stored) if stored else volume.box.size_xyz
    return None
