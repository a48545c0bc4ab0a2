"""Sources: every format gives the same voxels, and what is wrong with a file is said in one sentence."""

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from floodline.config import Hdf5Source, PrecomputedSource, StackSource
from floodline.errors import FloodlineError
from floodline.geometry import Box
from floodline.volumes.layer import Layer
from floodline.volumes.sources import Volume, open_source

SHAPE_ZYX = (11, 7, 9)


def voxels(dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, SHAPE_ZYX, dtype=dtype)


def write_pictures(folder: Path, array: np.ndarray, name: str = "iso.{}.png", first: int = 8) -> None:
    folder.mkdir(exist_ok=True)
    for number, slice_ in enumerate(array, first):
        Image.fromarray(slice_).save(folder / name.format(number))


def png_folder(path: Path, array: np.ndarray) -> Volume:
    write_pictures(path, array)
    (path / "notes.txt").write_text("not a slice")
    return open_source(StackSource(kind="stack", path=str(path)), 0)


def png_pattern(path: Path, array: np.ndarray) -> Volume:
    write_pictures(path, array)
    write_pictures(path, array[:1], name="overview.{}.png")
    return open_source(StackSource(kind="stack", path=f"{path}/iso.*.png"), 0)


def tiff_folder(path: Path, array: np.ndarray) -> Volume:
    path.mkdir()
    for z, slice_ in enumerate(array):
        tifffile.imwrite(path / f"s{z}.tif", slice_, compression="zlib")
    return open_source(StackSource(kind="stack", path=str(path)), 0)


def tiff_pages(path: Path, array: np.ndarray) -> Volume:
    tifffile.imwrite(path.with_suffix(".tif"), array, photometric="minisblack")
    return open_source(StackSource(kind="stack", path=f"{path}.tif"), 0)


def write_page_by_page(path: Path, array: np.ndarray, **options) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for slice_ in array:
            tiff.write(slice_, contiguous=False, **options)


def tiff_page_by_page(path: Path, array: np.ndarray) -> Volume:
    write_page_by_page(path.with_suffix(".tif"), array)
    return open_source(StackSource(kind="stack", path=f"{path}.tif"), 0)


def big_tiled_tiff(path: Path, array: np.ndarray) -> Volume:
    tifffile.imwrite(
        path.with_suffix(".tif"), array, bigtiff=True, tile=(16, 16), compression="zlib", photometric="minisblack"
    )
    return open_source(StackSource(kind="stack", path=f"{path}.tif"), 0)


def hdf5(path: Path, array: np.ndarray) -> Volume:
    with h5py.File(path, "w") as file:
        file.create_dataset("a/stack", data=array, chunks=(4, 4, 4), compression="gzip")
    return open_source(Hdf5Source(kind="hdf5", path=str(path), dataset="a/stack"), 0)


def precomputed(path: Path, array: np.ndarray) -> Volume:
    box = Box.of_array(array.shape)
    layer = Layer.create(
        path, box=box, dtype=array.dtype.name, voxel_size_nm_xyz=(4, 4, 40), chunk_size_xyz=(4, 4, 4), kind="image"
    )
    layer.write(box, array)
    return open_source(PrecomputedSource(kind="precomputed", path=str(path)), 0)


FORMATS = [png_folder, png_pattern, tiff_folder, tiff_pages, tiff_page_by_page, big_tiled_tiff, hdf5, precomputed]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=1)
@given(data=st.data())
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("write", FORMATS)
def test_every_box_of_every_format_reads_as_numpy_slices(tmp_path_factory, write, dtype, data):
    array = voxels(dtype)
    volume = write(tmp_path_factory.mktemp("source") / "volume", array)
    assert volume.box == Box((0, 0, 0), (9, 7, 11))
    assert volume.dtype == dtype
    assert np.array_equal(volume.read(volume.box), array)
    for _ in range(10):
        lows = [data.draw(st.integers(0, size - 1)) for size in volume.box.size_xyz]
        highs = [data.draw(st.integers(a + 1, size)) for a, size in zip(lows, volume.box.size_xyz, strict=True)]
        box = Box.of([lows, highs])
        assert np.array_equal(volume.read(box), array[box.slices_zyx()])


def test_slices_follow_in_the_order_of_their_numbers(tmp_path):
    array = voxels()
    write_pictures(tmp_path, array, name="{}.png", first=5)
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names[0] == "10.png"  # the alphabet would begin with it
    assert np.array_equal(open_stack(tmp_path).read(Box((0, 0, 0), (9, 7, 1)))[0], array[0])


def open_stack(path: Path) -> Volume:
    return open_source(StackSource(kind="stack", path=str(path)), 0)


def open_dataset(path: Path, dataset: str) -> Volume:
    return open_source(Hdf5Source(kind="hdf5", path=str(path), dataset=dataset), 0)


def test_gaps_in_the_numbering_are_reported(tmp_path, caplog):
    write_pictures(tmp_path, voxels(), name="run2_z{}_8nm.png")
    with caplog.at_level(logging.WARNING):
        open_stack(tmp_path)
        assert not caplog.records
        (tmp_path / "run2_z12_8nm.png").unlink()
        (tmp_path / "run2_z15_8nm.png").unlink()
        (tmp_path / "run2_z16_8nm.png").unlink()
        volume = open_stack(tmp_path)
    assert "12..12, 15..16" in caplog.text
    assert volume.box.size_xyz == (9, 7, 8)


def test_a_truncated_picture_is_named_when_it_is_read(tmp_path):
    big = np.random.default_rng(0).integers(0, 255, (3, 100, 100), dtype=np.uint8)
    write_pictures(tmp_path, big)
    damaged = tmp_path / "iso.9.png"
    damaged.write_bytes(damaged.read_bytes()[:4000])
    volume = open_stack(tmp_path)
    with pytest.raises(FloodlineError, match=r"iso\.9\.png cannot be read: .*truncated"):
        volume.read(volume.box)


@pytest.mark.parametrize("length", [0, 20])
def test_a_picture_without_a_whole_header_is_named(tmp_path, length):
    write_pictures(tmp_path, voxels())
    damaged = tmp_path / "iso.9.png"
    damaged.write_bytes(damaged.read_bytes()[:length])
    with pytest.raises(FloodlineError, match=r"iso\.9\.png cannot be read"):
        open_stack(tmp_path)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("write", [tifffile.imwrite, write_page_by_page])
def test_of_a_truncated_tiff_no_part_is_taken_for_the_whole(tmp_path, write, compression, keep):
    path = tmp_path / "volume.tif"
    array = np.random.default_rng(0).integers(0, 255, (11, 50, 60), dtype=np.uint8)
    write(path, array, compression=compression, photometric="minisblack", metadata=None)
    assert np.array_equal(open_stack(path).read(Box((0, 0, 0), (60, 50, 11))), array)

    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(FloodlineError, match=r"volume\.tif cannot be read"):
        open_stack(path).read(Box((0, 0, 0), (60, 50, 11)))


def test_tiff_pages_of_different_sizes_are_refused(tmp_path):
    path = tmp_path / "volume.tif"
    with tifffile.TiffWriter(path) as tiff:
        for size in (8, 8, 9):
            tiff.write(np.zeros((size, 8), np.uint8))
    with pytest.raises(FloodlineError, match=r"volume\.tif has pages of different size"):
        open_stack(path)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_a_truncated_hdf5_file_is_an_error(tmp_path, keep):
    path = tmp_path / "volume.h5"
    hdf5(path, voxels("uint16"))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(FloodlineError, match=r"volume\.h5 cannot be read"):
        open_dataset(path, "a/stack")


@pytest.mark.parametrize("name", ["absent", "absent.tif", "absent.png"])
def test_a_missing_stack_is_said(tmp_path, name):
    with pytest.raises(FloodlineError, match=f"{name} does not exist"):
        open_stack(tmp_path / name)


def test_a_folder_and_a_pattern_without_slices_are_said(tmp_path):
    (tmp_path / "readme.txt").write_text("")
    for path in (tmp_path, tmp_path / "*.png"):
        with pytest.raises(FloodlineError, match="holds no slices"):
            open_stack(path)


def test_slices_of_different_sizes_are_named_with_their_sizes(tmp_path):
    write_pictures(tmp_path, voxels())
    Image.fromarray(np.zeros((7, 8), np.uint8)).save(tmp_path / "iso.13.png")
    with pytest.raises(FloodlineError, match=r"iso\.13\.png is 8 x 7 uint8, but .*iso\.8\.png is 9 x 7 uint8"):
        open_stack(tmp_path)


def test_slices_of_different_types_are_refused(tmp_path):
    write_pictures(tmp_path, voxels())
    Image.fromarray(np.zeros((7, 9), np.uint16)).save(tmp_path / "iso.13.png")
    with pytest.raises(FloodlineError, match=r"iso\.13\.png is 9 x 7 uint16"):
        open_stack(tmp_path)


def test_colour_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(FloodlineError, match=r"a\.png is a picture of mode RGB: greyscale"):
        open_stack(tmp_path)


def test_a_tiff_of_several_pages_is_no_slice(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", voxels(), photometric="minisblack")
    with pytest.raises(FloodlineError, match=r"a\.tif has shape \(11, 7, 9\): a slice has two dimensions"):
        open_stack(tmp_path)


def test_a_wrong_dataset_name_lists_the_datasets(tmp_path):
    path = tmp_path / "volume.h5"
    with h5py.File(path, "w") as file:
        file["stack"] = voxels()
        file["volumes/labels/ids"] = voxels()
    with pytest.raises(FloodlineError, match=r"no dataset 'stak': its datasets are stack, volumes/labels/ids"):
        open_dataset(path, "stak")
    with pytest.raises(FloodlineError, match="no dataset 'volumes'"):
        open_dataset(path, "volumes")


def test_a_dataset_without_three_dimensions_is_refused(tmp_path):
    path = tmp_path / "volume.h5"
    with h5py.File(path, "w") as file:
        file["flat"] = np.zeros((5, 4))
        file["empty"] = np.zeros((5, 4, 0))
    for name, shape in (("flat", r"\(5, 4\)"), ("empty", r"\(5, 4, 0\)")):
        with pytest.raises(FloodlineError, match=f"dataset '{name}' of .* has shape {shape}"):
            open_dataset(path, name)


def test_a_missing_hdf5_file_is_said(tmp_path):
    with pytest.raises(FloodlineError, match=r"absent\.h5 does not exist"):
        open_dataset(tmp_path / "absent.h5", "stack")


def test_fib25_slices_read_in_order(fib25, fib25_image):
    volume = open_stack(fib25 / "grayscale_maps")
    box = Box((17, 40, 95), (60, 50, 110))
    assert volume.box == Box((0, 0, 0), (250, 250, 250))
    assert np.array_equal(volume.read(box), fib25_image[box.slices_zyx()])
