"""Formats with metadata: files of each format's own library read as they were meant, boxes, types, sizes and places."""

from __future__ import annotations

import gc
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from floodline import starter
from floodline.config import ChunkedSource, FileSource, RawSource, StackSource
from floodline.errors import FloodlineError
from floodline.geometry import Box
from floodline.volumes.sources import Volume, open_image, open_source

SHAPE_ZYX = (11, 7, 9)
NM_XYZ = (4.0, 6.0, 40.0)
START_XYZ = (5, 3, 2)
OFFSET_NM_ZYX = [80.0, 18.0, 20.0]


def voxels(dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(1).integers(limits.min, limits.max, SHAPE_ZYX, dtype=dtype, endpoint=True)


def chunked(path: Path, kind: str = "zarr", mip: int = 0) -> Volume:
    return open_source(ChunkedSource.model_validate({"kind": kind, "path": str(path), "mip": mip}), 0)


def zarr_array(path: Path, array: np.ndarray, version: int, **more: Any) -> zarr.Array:
    made = zarr.create_array(path, shape=array.shape, dtype=array.dtype, zarr_format=version, **more)
    made[:] = array
    return made


def zarr2(path: Path, array: np.ndarray) -> Volume:
    made = zarr_array(path, array, 2, chunks=(4, 4, 4), order="F")
    made.attrs.update({"resolution": NM_XYZ[::-1], "offset": OFFSET_NM_ZYX})
    return chunked(path)


def zarr3(path: Path, array: np.ndarray) -> Volume:
    made = zarr_array(path, array, 3, chunks=(2, 2, 2), shards=(4, 4, 4))
    micrometres = {"voxel_size": [0.04, 0.006, 0.004], "offset": [0.08, 0.018, 0.02], "units": ["um"] * 3}
    made.attrs.update(micrometres)
    return chunked(path)


def ome_zarr(path: Path, array: np.ndarray, version: int) -> Path:
    """Five axes and two levels; the second begins where the mean of its voxels lies."""
    group = zarr.create_group(path, zarr_format=version)
    for name, content in (("0", array), ("1", array[::2, ::2, ::2])):
        zarr_array(path / name, content[None, None], version, chunks=(1, 1, 4, 4, 4))
    kinds = {"t": "time", "c": "channel"}
    units = {"z": "nanometer", "y": "nanometer", "x": "micrometer"}
    axes = [{"name": axis, "type": kinds.get(axis, "space")} for axis in "tczyx"]
    axes = [axis | ({"unit": units[axis["name"]]} if axis["name"] in units else {}) for axis in axes]

    def level(name: str, factor: int) -> dict[str, Any]:
        scale = [1, 1, 40 * factor, 6 * factor, 0.004 * factor]
        place = [0, 0, *(o + (factor - 1) * s / 2 for o, s in zip((80, 18, 0.02), (40, 6, 0.004), strict=True))]
        moves = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": place}]
        return {"path": name, "coordinateTransformations": moves}

    multiscales = [{"axes": axes, "datasets": [level("0", 1), level("1", 2)]}]
    if version == 2:
        group.attrs["multiscales"] = [multiscales[0] | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return path


def ome_zarr_04(path: Path, array: np.ndarray) -> Volume:
    return chunked(ome_zarr(path, array, 2))


def ome_zarr_05(path: Path, array: np.ndarray) -> Volume:
    return chunked(ome_zarr(path, array, 3))


def ome_level(path: Path, array: np.ndarray) -> Volume:
    """Named by its own path, a level is placed by its group."""
    return chunked(ome_zarr(path, array, 2) / "0")


def write_n5(path: Path, array: np.ndarray, attributes: dict[str, Any], compression: str = "gzip") -> None:
    """N5 by tensorstore; zarr-python 3 has no N5."""
    metadata = {
        "dimensions": array.shape[::-1],
        "blockSize": [4, 3, 5],
        "dataType": array.dtype.name,
        "compression": {"type": compression},
    }
    if compression == "blosc":
        metadata["compression"] |= {"cname": "lz4", "clevel": 5, "shuffle": 1}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(array.T).result()
    add_attributes(path, attributes)


def add_attributes(path: Path, attributes: dict[str, Any]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    file = path / "attributes.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(before | attributes))


def n5(path: Path, array: np.ndarray) -> Volume:
    write_n5(path, array, {"resolution": NM_XYZ, "offset": OFFSET_NM_ZYX[::-1]})
    return chunked(path, "n5")


def n5_transform(path: Path, array: np.ndarray) -> Volume:
    transform = {"axes": ["z", "y", "x"], "units": ["nm"] * 3, "scale": NM_XYZ[::-1], "translate": OFFSET_NM_ZYX}
    write_n5(path, array, {"transform": transform}, "zstd")
    return chunked(path, "n5")


def n5_pyramid(path: Path, array: np.ndarray) -> Volume:
    pixels = {"pixelResolution": {"dimensions": [0.004, 0.006, 0.04], "unit": "um"}, "offset": [0.02, 0.018, 0.08]}
    add_attributes(path, {"n5": "2.5.1", **pixels})
    write_n5(path / "s0", array, {}, "blosc")
    write_n5(path / "s1", array[::2, ::2, ::2], {"downsamplingFactors": [2, 2, 2]})
    return chunked(path, "n5")


def hdf5(path: Path, array: np.ndarray) -> Volume:
    with h5py.File(path, "w") as file:
        file.create_dataset("volumes/raw", data=array, chunks=(4, 4, 4), compression="gzip")
        file["volumes"].attrs["resolution"] = NM_XYZ[::-1]
        file["volumes/raw"].attrs["offset"] = OFFSET_NM_ZYX
    return starter.find_one(f"{path}:volumes/raw").volume if path.suffix else open_hdf5(path)


def open_hdf5(path: Path) -> Volume:
    return starter.find_one(f"{path.rename(path.with_suffix('.h5'))}:volumes/raw").volume


def opened(kind: str, path: Path) -> Volume:
    return open_source(FileSource.model_validate({"kind": kind, "path": str(path)}), 0)


def nrrd_file(path: Path, array: np.ndarray, encoding: str = "raw") -> Volume:
    header = {
        "space dimension": 3,
        "space directions": np.diag([0.004, 0.006, 0.04]),
        "space origin": [0.02, 0.018, 0.08],
        "space units": ["microns"] * 3,
        "encoding": encoding,
    }
    nrrd.write(str(path.with_suffix(".nrrd")), array.T, header, index_order="F")
    return opened("nrrd", path.with_suffix(".nrrd"))


def nrrd_gzip(path: Path, array: np.ndarray) -> Volume:
    return nrrd_file(path, array, "gzip")


def nrrd_detached(path: Path, array: np.ndarray) -> Volume:
    header = {"spacings": NM_XYZ, "units": ["nm"] * 3, "encoding": "bzip2"}
    nrrd.write(str(path.with_suffix(".nhdr")), array.T, header, detached_header=True)
    return opened("nrrd", path.with_suffix(".nhdr"))


def mrc(path: Path, array: np.ndarray) -> Volume:
    with mrcfile.new(path.with_suffix(".mrc"), overwrite=True) as file:
        file.set_data(array)
        file.voxel_size = tuple(nm * 10 for nm in NM_XYZ)
        file.nstart = START_XYZ
    return opened("mrc", path.with_suffix(".mrc"))


def mrc_gzip(path: Path, array: np.ndarray) -> Volume:
    mrc(path, array)
    packed = path.with_suffix(".mrc.gz")
    packed.write_bytes(gzip.compress(path.with_suffix(".mrc").read_bytes()))
    return opened("mrc", packed)


def nifti(path: Path, array: np.ndarray, suffix: str = ".nii") -> Volume:
    affine = np.diag([0.004, 0.006, 0.04, 1.0])
    affine[:3, 3] = [0.02, 0.018, 0.08]
    image = nibabel.Nifti1Image(array.T, affine, dtype=array.dtype)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, path.with_suffix(suffix))
    return opened("nifti", path.with_suffix(suffix))


def nifti_gzip(path: Path, array: np.ndarray) -> Volume:
    return nifti(path, array, ".nii.gz")


ALL = ("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64")
PLACED: dict[Callable[[Path, np.ndarray], Volume], tuple[str, ...]] = {
    zarr2: ALL,
    zarr3: ALL,
    ome_zarr_04: ("uint8", "uint16", "uint64"),
    ome_zarr_05: ("uint8", "uint16", "uint64"),
    ome_level: ("uint16",),
    n5: ALL,
    n5_transform: ("uint16",),
    n5_pyramid: ("uint8", "uint64"),
    hdf5: ALL,
    nrrd_file: ALL,
    nrrd_gzip: ("uint8", "uint64"),
    mrc: ("int8", "int16", "uint16"),
    mrc_gzip: ("uint16",),
    nifti: ALL,
    nifti_gzip: ("uint8", "uint64"),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=1)
@given(data=st.data())
@pytest.mark.parametrize(("write", "dtype"), [(write, dtype) for write, types in PLACED.items() for dtype in types])
def test_every_box_reads_as_it_was_written_and_lies_where_the_file_says(tmp_path_factory, write, dtype, data):
    array = voxels(dtype)
    volume = write(tmp_path_factory.mktemp("source") / "volume", array)
    assert volume.box == Box.of_array(SHAPE_ZYX, START_XYZ)
    assert volume.voxel_size_nm_xyz == pytest.approx(NM_XYZ)
    assert volume.dtype == dtype
    assert np.array_equal(volume.read(volume.box), array)
    for _ in range(5):
        start = [data.draw(st.integers(a, b - 1)) for a, b in zip(*volume.box.corners, strict=True)]
        stop = [data.draw(st.integers(a + 1, b)) for a, b in zip(start, volume.box.stop_xyz, strict=True)]
        box = Box.of([start, stop])
        read = volume.read(box)
        assert read.dtype == dtype
        assert np.array_equal(read, array[box.slices_zyx(START_XYZ)])


@pytest.mark.parametrize("kind", ["zarr 2", "zarr 3", "n5"])
def test_a_level_is_read_by_its_number_with_its_own_voxel_size(tmp_path, kind):
    array = voxels("uint16")
    if kind == "n5":
        n5_pyramid(tmp_path / "volume", array)
    else:
        ome_zarr(tmp_path / "volume", array, int(kind[-1]))
    level = chunked(tmp_path / "volume", kind.split()[0], 1)
    assert level.voxel_size_nm_xyz == pytest.approx([2 * nm for nm in NM_XYZ])
    assert np.array_equal(level.read(level.box), array[::2, ::2, ::2])
    with pytest.raises(FloodlineError, match="has no level 2"):
        chunked(tmp_path / "volume", kind.split()[0], 2)


def test_a_detached_nrrd_with_spacings(tmp_path):
    array = voxels("uint16")
    volume = nrrd_detached(tmp_path / "volume", array)
    assert volume.voxel_size_nm_xyz == NM_XYZ
    assert np.array_equal(volume.read(volume.box), array)


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint64"])
def test_a_raw_file_of_a_stated_shape(tmp_path, dtype, byte_order):
    array, path = voxels(dtype), tmp_path / "volume.raw"
    path.write_bytes(b"head" + array.astype(np.dtype(dtype).newbyteorder(byte_order[0].upper())).tobytes())
    told = {"kind": "raw", "path": str(path), "size_xyz": SHAPE_ZYX[::-1], "dtype": dtype}
    volume = open_source(RawSource.model_validate({**told, "byte_order": byte_order, "header_bytes": 4}), 0)
    box = Box((2, 1, 3), (8, 6, 9))
    assert volume.dtype == dtype
    assert volume.voxel_size_nm_xyz is None
    assert np.array_equal(volume.read(box), array[box.slices_zyx()])
    with pytest.raises(FloodlineError, match=rf"volume\.raw has {path.stat().st_size} bytes, but size_xyz"):
        open_source(RawSource.model_validate(told), 0)


def test_big_endian_files_are_read_in_the_machines_order(tmp_path):
    array = voxels("uint16")
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">u2")
    image = nibabel.Nifti1Image(array.T.astype(">u2"), np.eye(4), header)
    nibabel.save(image, tmp_path / "v.nii")
    with mrcfile.new(tmp_path / "v.mrc") as file:
        file.set_data(array.astype(">u2"))
    assert (tmp_path / "v.mrc").read_bytes()[212] == 0x11
    assert (tmp_path / "v.nii").read_bytes()[3] == 92
    for volume in (opened("nifti", tmp_path / "v.nii"), opened("mrc", tmp_path / "v.mrc")):
        assert volume.dtype == np.dtype("uint16")
        assert volume.dtype.isnative
        assert np.array_equal(volume.read(volume.box), array)
        # Neither unit nor size was said.
        assert volume.voxel_size_nm_xyz is None


def test_bytes_of_mrc_files_are_signed_unless_imod_says_otherwise(tmp_path):
    array = voxels("int8")
    volume = mrc(tmp_path / "volume", array)
    assert volume.dtype == np.int8
    content = bytearray((tmp_path / "volume.mrc").read_bytes())
    content[152:160] = np.array([1146047817, 0], "<i4").tobytes()
    (tmp_path / "imod.mrc").write_bytes(content)
    unsigned = opened("mrc", tmp_path / "imod.mrc")
    assert np.array_equal(unsigned.read(unsigned.box), array.view(np.uint8))


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_signed_images_keep_their_order_as_unsigned_ones(tmp_path, dtype):
    array = voxels(dtype)
    mrc(tmp_path / "volume", array)
    image = open_image(FileSource(kind="mrc", path=str(tmp_path / "volume.mrc")), 0)
    expected = array.astype(np.int64) - np.iinfo(dtype).min
    assert image.dtype == f"u{dtype}"
    assert np.array_equal(image.read(image.box), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_are_what_their_library_shows(tmp_path, suffix):
    array = voxels("uint8")
    for z, section in enumerate(array):
        Image.fromarray(section).save(tmp_path / f"{z}.{suffix}")
    shown = np.stack([np.asarray(Image.open(tmp_path / f"{z}.{suffix}")) for z in range(len(array))])
    volume = open_source(StackSource(kind="stack", path=str(tmp_path)), 0)
    box = Box((2, 1, 3), (8, 6, 9))
    assert np.array_equal(volume.read(box), shown[box.slices_zyx()])


def large(path: Path, kind: str) -> Volume:
    """A volume of 64 MB or more, in pieces of which a small box touches few."""
    shape = (256, 512, 512)
    content = np.zeros(shape, np.uint8)
    if kind == "zarr":
        zarr_array(path, content, 3, chunks=(64, 64, 64))
        return chunked(path)
    if kind == "n5":
        metadata = {
            "dimensions": shape[::-1], "blockSize": [64] * 3, "dataType": "uint8", "compression": {"type": "raw"},
        }  # fmt: skip
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
        tensorstore.open(spec, create=True).result().write(content.T).result()
        return chunked(path, "n5")
    if kind == "stack":
        path.mkdir()
        for z in range(64):
            Image.fromarray(np.zeros((2048, 1024), np.uint8)).save(path / f"{z}.png", compress_level=0)
        return open_source(StackSource(kind="stack", path=str(path)), 0)
    if kind == "nrrd.gz":
        nrrd.write(f"{path}.nrrd", content.T, {"encoding": "gzip"}, compression_level=1)
        return opened("nrrd", path.with_suffix(".nrrd"))
    with mrcfile.new(f"{path}.mrc") as file:
        file.set_data(content.view(np.int8))
    return opened("mrc", path.with_suffix(".mrc"))


def resident(what: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM at most."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return 1024 * int(line.split()[1])


@pytest.mark.parametrize("kind", ["zarr", "n5", "stack", "mrc", "nrrd.gz"])
def test_a_box_of_a_large_volume_takes_little_memory(tmp_path, kind):
    large(tmp_path / "volume", kind).read(Box((0, 0, 0), (1, 1, 1)))
    gc.collect()
    volume = large(tmp_path / "again", kind)
    before = resident("VmRSS")
    # Linux forgets the highest point of the past.
    Path("/proc/self/clear_refs").write_text("5")
    box = Box.sized((40, 40, 10), (40, 40, 50))
    assert volume.read(box).shape == box.shape_zyx
    assert resident("VmHWM") - before < 16 * 2**20


# --- what is wrong is said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nrrd", "mrc", "nifti"])
def test_a_file_that_was_cut_short_is_an_error(tmp_path, kind):
    write, suffix = {"nrrd": (nrrd_file, ".nrrd"), "mrc": (mrc, ".mrc"), "nifti": (nifti, ".nii")}[kind]
    write(tmp_path / "volume", voxels("int16"))
    path = tmp_path / f"volume{suffix}"
    whole = path.read_bytes()
    for keep in (0, 30, len(whole) - 200):
        path.write_bytes(whole[:keep])
        with pytest.raises(FloodlineError, match=rf"volume\{suffix} "):
            opened(kind, path)
    path.unlink()
    with pytest.raises(FloodlineError, match="does not exist"):
        opened(kind, path)


@pytest.mark.parametrize("suffix", [".mrc.gz", ".nii.gz", ".nrrd"])
def test_a_packed_file_that_was_cut_short_is_an_error(tmp_path, suffix):
    write = {".mrc.gz": mrc_gzip, ".nii.gz": nifti_gzip, ".nrrd": nrrd_gzip}[suffix]
    write(tmp_path / "volume", voxels("uint16"))
    path = tmp_path / f"volume{suffix}"
    path.write_bytes(path.read_bytes()[:-300])
    kind = {".mrc.gz": "mrc", ".nii.gz": "nifti", ".nrrd": "nrrd"}[suffix]
    with pytest.raises(FloodlineError, match=rf"volume\{suffix} "):
        opened(kind, path)


@pytest.mark.parametrize("kind", ["zarr", "n5"])
def test_what_is_no_array_is_said(tmp_path, kind):
    with pytest.raises(FloodlineError, match=r"nothing is no (Zarr|N5) array or group"):
        chunked(tmp_path / "nothing", kind)
    group = tmp_path / "group"
    if kind == "zarr":
        zarr.create_group(group)
    else:
        add_attributes(group, {"n5": "2.5.1"})
    with pytest.raises(FloodlineError, match="is a group without a pyramid"):
        chunked(group, kind)


def test_a_damaged_chunk_is_an_error(tmp_path):
    zarr_array(tmp_path / "v", voxels("uint16"), 2, chunks=(4, 4, 4))
    chunk = tmp_path / "v" / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(FloodlineError, match=r"/v cannot be read: .*0\.0\.0"):
        volume = chunked(tmp_path / "v")
        volume.read(volume.box)


def test_damaged_metadata_are_an_error(tmp_path):
    (tmp_path / ".zarray").write_text('{"shape": [1')
    with pytest.raises(FloodlineError, match=r"\.zarray is not valid JSON"):
        chunked(tmp_path)


def test_several_channels_are_refused(tmp_path):
    zarr_array(tmp_path / "v", np.zeros((2, 4, 4, 4), np.uint8), 3)
    with pytest.raises(FloodlineError, match=r"shape \(2, 4, 4, 4\): the axes before the three of space"):
        chunked(tmp_path / "v")


def test_a_place_between_voxels_is_rounded_and_reported(tmp_path, caplog):
    made = zarr_array(tmp_path / "v", voxels("uint8"), 3)
    made.attrs.update({"resolution": [40, 6, 4], "offset": [80, 18, 21]})
    assert chunked(tmp_path / "v").box.start_xyz == START_XYZ
    assert "begins between voxels, at [5.25, 3.0, 2.0]" in caplog.text


def test_scaled_nifti_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(voxels("uint8").T.astype(np.float64), np.eye(4)), tmp_path / "plain.nii")
    image = nibabel.Nifti1Image(voxels("uint8").T, np.eye(4))
    image.header.set_slope_inter(0.5, 1)
    image.header.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.raises(FloodlineError, match="stores scaled numbers"):
        opened("nifti", tmp_path / "v.nii")


# --- floodline info --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", PLACED)
def test_info_recognises_the_format_and_names_it_so_that_it_opens(tmp_path, write):
    array = voxels("uint16")
    expected = write(tmp_path / "volume", array)
    pasted = getattr(expected, "name", "").removeprefix("dataset 'volumes/raw' of ")
    (found,) = starter.find(pasted)
    assert found.volume.box == expected.box
    assert np.array_equal(found.volume.read(found.volume.box), array)
    printed = starter.describe(pasted)
    for row in ("type        uint16", "voxel size  4 x 6 x 40 nm", "box         x 5..14 y 3..10 z 2..13"):
        assert row in printed.splitlines()
    assert f"kind: {found.source.kind}" in printed
    assert "compression" in printed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x9_y7_z11_uint16.raw", ([9, 7, 11], "uint16")),
        ("9x7x11.raw", ([9, 7, 11], "uint16")),
        ("run3_9x7x11_u.raw", ([9, 7, 11], "uint16")),
    ],
)
def test_a_raw_file_that_says_its_shape_in_its_name(tmp_path, name, expected):
    (tmp_path / name).write_bytes(voxels("uint16").tobytes())
    found = starter.find_one(str(tmp_path / name))
    assert (list(found.source.size_xyz), found.source.dtype) == expected
    assert np.array_equal(found.volume.read(found.volume.box), voxels("uint16"))


def test_a_raw_file_that_says_nothing_gets_a_hint(tmp_path):
    (tmp_path / "data.raw").write_bytes(bytes(1000))
    with pytest.raises(FloodlineError, match=r"data\.raw has 1000 bytes and no header: \{kind: raw"):
        starter.describe(str(tmp_path / "data.raw"))


def test_of_a_container_every_array_is_said(tmp_path):
    group = zarr.create_group(tmp_path / "c.zarr", zarr_format=2)
    for name in ("volumes/raw", "volumes/labels"):
        group.create_array(name, data=voxels("uint16"))
    found = starter.find(str(tmp_path / "c.zarr"))
    assert [Path(one.source.path).name for one in found] == ["labels", "raw"]


@pytest.mark.parametrize("pasted", ["zarr://{}", "zarr2://file://{}", "file://{}/|zarr2:", "{}"])
def test_neuroglancers_addresses_are_taken_as_they_are(tmp_path, pasted):
    zarr2(tmp_path / "v", voxels("uint8"))
    assert starter.find_one(pasted.format(tmp_path / "v")).source.path.rstrip("/") == str(tmp_path / "v")


def test_a_file_of_unknown_kind_is_said(tmp_path):
    (tmp_path / "a.docx").write_text("")
    with pytest.raises(FloodlineError, match=r"a\.docx is of no kind that is known"):
        starter.describe(str(tmp_path / "a.docx"))
