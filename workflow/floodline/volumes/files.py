"""Sources that are one file, a header and then all voxels: NRRD, MRC, NIfTI; and raw files, which have no header."""

from __future__ import annotations

import bz2
import gzip
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.geometry import Triple, to_zyx, triple
from floodline.volumes.arrays import ArrayVolume, Storage, or_sentence
from floodline.volumes.placement import Placement, placed

PIECE_BYTES = 2**24
PACKED = {".gz": "gzip", ".bz2": "bzip2"}
UNPACK: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open}
IMOD_STAMP = 1146047817
"""What IMOD writes into the header at byte 152 to say that the flags behind it are its own."""
IMOD_SIGNED = 1
UNSAID_ANGSTROM = 1.0
NRRD_TYPES = {
    **dict.fromkeys(("signed char",), "int8"),
    **dict.fromkeys(("uchar", "unsigned char"), "uint8"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "int16"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "uint16"),
    **dict.fromkeys(("int", "signed int"), "int32"),
    **dict.fromkeys(("uint", "unsigned int"), "uint32"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), "int64"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), "uint64"),
    "float": "float32",
    "double": "float64",
}
"""Numpy's names of the names that the format has beside them."""


@dataclass(frozen=True)
class Header:
    """What comes before the voxels."""

    size_xyz: Triple
    dtype: np.dtype
    start_byte: int
    placement: Placement
    file: Path
    compression: str = "none"


def open_file(source: config.FileSource | config.RawSource) -> ArrayVolume:
    """A volume of a file that holds its voxels in one piece; only those of a box are read.

    Raises:
        FloodlineError: the file is missing, damaged or shorter than its header says, or holds no volume.
    """
    path = Path(source.path)
    match source:
        case config.RawSource():
            header = or_sentence(lambda: _raw(source), str(path))
        case config.FileSource(kind="nrrd"):
            header = or_sentence(lambda: _nrrd(path), str(path))
        case config.FileSource(kind="mrc"):
            header = or_sentence(lambda: _mrc(path), str(path))
        case _:
            header = or_sentence(lambda: _nifti(path), str(path))
    voxels = or_sentence(lambda: _mapped(header), str(path))
    return ArrayVolume(voxels, str(path), Storage(header.size_xyz, header.compression), header.placement)


def _mapped(header: Header) -> np.ndarray:
    """The voxels (z, y, x), of which the system reads from the file what is looked at."""
    file: Any = header.file
    if header.compression != "none":
        file = _unpacked(header)
    voxels = np.memmap(
        file,
        header.dtype,
        mode="r",
        offset=0 if header.compression != "none" else header.start_byte,
        shape=to_zyx(header.size_xyz),
    )
    return cast(np.ndarray, voxels)


def _unpacked(header: Header) -> BinaryIO:
    """The voxels of a compressed file, in a temporary file that is gone with this process."""
    # In NRRD files the header is plain and only the voxels behind it are packed; of others the whole file is.
    whole = header.file.suffix in PACKED
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (the map of its voxels outlives this function)
    with header.file.open("rb") as packed:
        packed.seek(0 if whole else header.start_byte)
        with UNPACK[header.compression](packed) as stream:
            stream.read(header.start_byte if whole else 0)
            shutil.copyfileobj(stream, plain, PIECE_BYTES)
    plain.flush()
    return cast(BinaryIO, plain)


def _raw(source: config.RawSource) -> Header:
    dtype = np.dtype(source.dtype).newbyteorder("<" if source.byte_order == "little" else ">")
    path, there = Path(source.path), Path(source.path).stat().st_size
    needed = source.header_bytes + int(np.prod(source.size_xyz)) * dtype.itemsize
    if there != needed:
        raise FloodlineError(
            f"{path} has {there} bytes, but size_xyz {list(source.size_xyz)} of {source.dtype} after "
            f"{source.header_bytes} bytes of header are {needed}."
        )
    return Header(source.size_xyz, dtype, source.header_bytes, Placement(), path)


def _three(sizes_xyz: Any, path: Path) -> Triple:
    """The three axes of space; those of length one behind them are left out."""
    sizes = [int(size) for size in sizes_xyz]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) != 3 or 0 in sizes:
        raise FloodlineError(f"{path} has shape {sizes} (x, y, z, ...): a volume of three dimensions is needed.")
    return triple(sizes)


def _nrrd(path: Path) -> Header:
    """NRRD0005, http://teem.sourceforge.net/nrrd/format.html."""
    import nrrd

    with path.open("rb") as opened:
        try:
            header = nrrd.read_header(opened)
        # StopIteration: the file is empty.
        except (nrrd.NRRDError, StopIteration) as error:
            raise ValueError(str(error) or "it is empty") from None
        start_byte = opened.tell()
    if absent := [field for field in ("type", "sizes", "encoding") if field not in header]:
        raise ValueError(f"its header lacks '{absent[0]}'")
    if (name := NRRD_TYPES.get(header["type"].removesuffix("_t"), header["type"])) not in NRRD_TYPES.values():
        raise FloodlineError(f"{path} holds voxels of type {header['type']}: numbers are needed.")
    dtype = np.dtype(name).newbyteorder(">" if header.get("endian") == "big" else "<")
    size_xyz = _three(header["sizes"], path)
    encoding = {"gz": "gzip", "bz2": "bzip2"}.get(header["encoding"], header["encoding"])
    if encoding not in ("raw", "gzip", "bzip2"):
        raise FloodlineError(f"{path} is encoded as {encoding}: raw, gzip or bzip2 are needed.")
    if header.get("line skip") or header.get("byte skip") not in (None, 0, -1):
        raise FloodlineError(f"{path} skips a part of its data file: write it without `line skip` and `byte skip`.")
    file = path
    if detached := header.get("data file", header.get("datafile")):
        if not isinstance(detached, str) or detached.startswith("LIST") or "%" in detached:
            raise FloodlineError(f"{path} has its voxels in several files: one is needed.")
        file, start_byte = path.parent / detached, 0
    if header.get("byte skip") == -1:
        start_byte = file.stat().st_size - int(np.prod(size_xyz)) * dtype.itemsize
    placement = _nrrd_placement(header, path)
    return Header(size_xyz, dtype, start_byte, placement, file, "none" if encoding == "raw" else encoding)


def _nrrd_placement(header: Any, path: Path) -> Placement:
    if (directions := header.get("space directions")) is not None:
        matrix = np.asarray(directions, float)[:3, :3]
        units = header.get("space units", [None] * 3)[:3]
        straight = np.count_nonzero(matrix - np.diag(np.diag(matrix))) == 0 and bool((np.diag(matrix) > 0).all())
        origin = np.asarray(header["space origin"], float)[:3] if straight and "space origin" in header else None
        return placed(str(path), np.linalg.norm(matrix, axis=1).tolist(), units, origin)
    if "spacings" in header:
        return placed(str(path), header["spacings"][:3], header.get("units", [None] * 3)[:3])
    return Placement()


def _mrc(path: Path) -> Header:
    """MRC2014, A. Cheng et al., J. Struct. Biol. 192 (2015); unsigned bytes as IMOD's flags say them."""
    import mrcfile

    with mrcfile.open(path, header_only=True) as file:
        header = file.header
        if [int(header[name]) for name in ("mapc", "mapr", "maps")] != [1, 2, 3]:
            raise FloodlineError(f"{path} does not run along x, y, z in this order: reorder its axes.")
        dtype = mrcfile.utils.data_dtype_from_header(header)
        stamp, flags = np.frombuffer(header.tobytes(), header.dtype["nx"], count=2, offset=152)
        if dtype == np.int8 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED:
            dtype = np.dtype(np.uint8)
        size_xyz = _three([header.nx, header.ny, header.nz], path)
        sizes = [float(file.voxel_size[axis]) for axis in "xyz"]
        starts = [float(header[f"n{axis}start"]) for axis in "xyz"]
        start_byte = 1024 + int(header.nsymbt)
    said = any(size != UNSAID_ANGSTROM for size in sizes)
    offsets = [start * size for start, size in zip(starts, sizes, strict=True)]
    placement = placed(str(path), sizes, ["angstrom"] * 3, offsets) if said else Placement()
    packed = PACKED.get(path.suffix, "none")
    return Header(size_xyz, dtype, start_byte, placement, path, packed)


def _nifti(path: Path) -> Header:
    """NIfTI-1 and -2, https://nifti.nimh.nih.gov."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(str(error)) from None
    proxy, header = image.dataobj, image.header
    if (proxy.slope, proxy.inter) != (1, 0):
        raise FloodlineError(
            f"{path} stores scaled numbers (scl_slope, scl_inter): write it with those that are meant."
        )
    unit = {"mm": "mm", "micron": "um", "meter": "m"}.get(header.get_xyzt_units()[0])
    zooms, affine = [float(zoom) for zoom in header.get_zooms()[:3]], image.affine
    straight = np.allclose(affine[:3, :3], np.diag(zooms), rtol=1e-4)
    placement = placed(str(path), zooms, [unit] * 3, affine[:3, 3].tolist() if straight else None)
    packed = PACKED.get(path.suffix, "none")
    file = Path(image.file_map["image"].filename)
    return Header(_three(proxy.shape, path), proxy.dtype, int(proxy.offset), placement, file, packed)
