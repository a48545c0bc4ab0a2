"""Which kind of source a path or URL is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.volumes.chunked import is_chunked
from floodline.volumes.hdf5 import volumes_in
from floodline.volumes.remote import is_url, read_json_at
from floodline.volumes.stack import PICTURE_SUFFIXES
from floodline.volumes.tiff import TIFF_SUFFIXES

HDF5_SUFFIXES = {".h5", ".hdf5", ".hdf"}
FILE_SUFFIXES = {
    **dict.fromkeys((".nrrd", ".nhdr"), "nrrd"),
    **dict.fromkeys((".mrc", ".mrcs", ".rec", ".map", ".st", ".ali"), "mrc"),
    **dict.fromkeys((".nii", ".hdr", ".img"), "nifti"),
}
RAW_SUFFIXES = {".raw", ".bin", ".dat", ".vol"}
PACKED_SUFFIXES = {".gz", ".bz2"}


def recognise(name: str) -> list[config.Source]:
    """The sources that a path or URL may stand for, as the configuration would describe them.

    Folders and URLs are known by the metadata in them, files by the endings of their names. An HDF5 file has a source
    for each of its three-dimensional datasets, or the one named behind a colon, `file.h5:volumes/raw`; so has a
    container of Zarr or N5 for each of its arrays. Neuroglancer's addresses are taken as they are,
    `precomputed://gs://bucket/layer` and `gs://bucket/layer/|neuroglancer-precomputed:`. All else is a stack of slices.

    Raises:
        FloodlineError: there is nothing, or it is damaged or no volume.
    """
    name = re.sub(r"^(precomputed|zarr[23]?|n5)://(?=\w+://|/)", "", name)
    name = re.sub(r"\|(neuroglancer-precomputed|zarr[23]?|n5):.*$", "", name)
    name = name.removeprefix("file://")
    if is_url(name):
        return _in_store(name)
    path, _, dataset = name.partition(":")
    if Path(path).suffix.lower() in HDF5_SUFFIXES:
        names = [dataset] if dataset else volumes_in(Path(path))
        return [config.Hdf5Source(kind="hdf5", path=_absolute(path), dataset=one) for one in names]
    if Path(name).is_dir():
        if (Path(name) / "info").is_file():
            return [config.PrecomputedSource(kind="precomputed", path=_absolute(name))]
        if chunked := is_chunked(_absolute(name)):
            return list(chunked)
    return [_of_file(Path(name))]


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _in_store(url: str) -> list[config.Source]:
    if read_json_at(url, "info") is not None:
        return [config.PrecomputedSource(kind="precomputed", path=url)]
    if chunked := is_chunked(url):
        return list(chunked)
    raise FloodlineError(
        f"{url} holds neither a precomputed layer (info), nor Zarr (zarr.json, .zarray, .zgroup), nor N5 "
        "(attributes.json): check the address, or download the file that it names."
    )


def _of_file(path: Path) -> config.Source:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    absolute = str(path.absolute())
    if suffix in FILE_SUFFIXES:
        return config.FileSource.model_validate({"kind": FILE_SUFFIXES[suffix], "path": absolute})
    if suffix in RAW_SUFFIXES and path.is_file():
        return _raw(path)
    if path.is_file() and suffix not in TIFF_SUFFIXES | PICTURE_SUFFIXES:
        raise FloodlineError(f"{path} is of no kind that is known by its name: see `Source` in config/README.md.")
    return config.StackSource(kind="stack", path=absolute)


def _raw(path: Path) -> config.RawSource:
    """By the numbers and the type that raw files often carry in their names: `x512_y512_z64_uint16.raw`."""
    there, words = path.stat().st_size, path.stem.lower()
    match = re.search(r"(u?int)_?(8|16|32|64)", words)
    types = [f"{match[1]}{match[2]}"] if match else ["uint8", "uint16"]
    numbers = [int(digits) for digits in re.findall(r"\d+", words)]
    for dtype in types:
        for three in zip(numbers, numbers[1:], numbers[2:], strict=False):
            if min(three) > 0 and int(np.prod(three)) * np.dtype(dtype).itemsize == there:
                return config.RawSource.model_validate(
                    {"kind": "raw", "path": str(path.absolute()), "size_xyz": three, "dtype": dtype}
                )
    raise FloodlineError(
        f"{path} has {there} bytes and no header: {{kind: raw, path: {path}, size_xyz: [x, y, z], dtype: uint8}} in a "
        "configuration says what they are, or a name such as x512_y512_z64_uint8.raw."
    )
