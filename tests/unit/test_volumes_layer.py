"""Layers: what is written is read back, and what is not there is said."""

from pathlib import Path

import numpy as np
import pytest
import tensorstore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floodline.errors import FloodlineError
from floodline.geometry import Box, blocks
from floodline.volumes.layer import Kind, Layer

corner = st.tuples(*[st.integers(-20, 20)] * 3)
size = st.tuples(*[st.integers(1, 12)] * 3)


def noise(box: Box, dtype: str, top: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, box.shape_zyx, dtype=dtype, endpoint=True)


def written(path: Path, box: Box, array: np.ndarray, kind: Kind = "image", chunk_size_xyz=(8, 4, 6)) -> Layer:
    layer = Layer.create(
        path, box=box, dtype=array.dtype.name, voxel_size_nm_xyz=(8, 8, 10), chunk_size_xyz=chunk_size_xyz, kind=kind
    )
    for part in blocks(box, chunk_size_xyz):
        layer.write(part, array[part.slices_zyx(box.start_xyz)])
    return layer


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=corner, size=size, data=st.data())
@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint8", "image"), ("uint16", "image"), ("uint32", "segmentation"), ("uint64", "segmentation")]
)
def test_any_box_reads_back_as_it_was_written(tmp_path, dtype, kind, start, size, data):
    box = Box.sized(start, size)
    array = noise(box, dtype, np.iinfo(dtype).max)
    written(tmp_path / "layer", box, array, kind)

    layer = Layer.open(tmp_path / "layer")
    lows = [data.draw(st.integers(a, b - 1)) for a, b in zip(box.start_xyz, box.stop_xyz, strict=True)]
    highs = [data.draw(st.integers(a + 1, b)) for a, b in zip(lows, box.stop_xyz, strict=True)]
    part = Box.of([lows, highs])
    assert (layer.box, layer.dtype, layer.voxel_size_nm_xyz) == (box, dtype, (8.0, 8.0, 10.0))
    read = layer.read(part)
    assert read.dtype == dtype
    assert np.array_equal(read, array[part.slices_zyx(box.start_xyz)])


def test_another_library_reads_the_layer(tmp_path):
    box = Box((3, 5, 7), (33, 25, 17))
    array = noise(box, "uint64", 2**40)
    written(tmp_path / "layer", box, array, "segmentation")
    kvstore = {"driver": "file", "path": str(tmp_path / "layer")}
    store = tensorstore.open({"driver": "neuroglancer_precomputed", "kvstore": kvstore}).result()
    assert store.domain.inclusive_min[:3] == (3, 5, 7)
    assert np.array_equal(store[..., 0].read().result().transpose(), array)


def test_the_same_voxels_give_the_same_bytes(tmp_path):
    box = Box((0, 0, 0), (16, 8, 12))
    array = noise(box, "uint64", 5)
    for name in ("a", "b"):
        written(tmp_path / name, box, array, "segmentation")
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert files[0] == files[1]
    assert len(files[0]) > 8


def test_a_new_layer_leaves_nothing_of_the_old_one(tmp_path):
    box = Box((0, 0, 0), (16, 8, 12))
    written(tmp_path, box, noise(box, "uint8", 255))
    (tmp_path / "manifest.json").write_text("{}")
    Layer.create(tmp_path, box=box, dtype="uint8", voxel_size_nm_xyz=(8, 8, 8), chunk_size_xyz=(8, 8, 8), kind="image")
    assert [path.name for path in tmp_path.rglob("*")] == ["info"]


def test_reading_outside_names_both_boxes(tmp_path):
    box = Box((0, 0, 0), (16, 8, 12))
    layer = written(tmp_path, box, noise(box, "uint8", 255))
    with pytest.raises(FloodlineError, match=r"x 0\.\.17 y 0\.\.8 z .* its box is x 0\.\.16 y 0\.\.8 z 0\.\.12"):
        layer.read(Box((0, 0, 0), (17, 8, 12)))


def test_a_box_that_cuts_chunks_is_not_written(tmp_path):
    box = Box((1, 0, 0), (17, 8, 12))
    layer = written(tmp_path, box, noise(box, "uint8", 255))
    cut = Box((2, 0, 0), (17, 8, 12))
    with pytest.raises(ValueError, match="whole chunks"):
        layer.write(cut, noise(cut, "uint8", 255))


def test_an_array_of_another_type_is_not_written(tmp_path):
    box = Box((0, 0, 0), (16, 8, 12))
    layer = written(tmp_path, box, noise(box, "uint8", 255))
    with pytest.raises(ValueError, match="float64"):
        layer.write(box, np.zeros(box.shape_zyx))


def test_a_missing_chunk_is_an_error_and_not_zeros(tmp_path):
    box = Box((0, 0, 0), (16, 8, 12))
    written(tmp_path, box, noise(box, "uint8", 255))
    next(tmp_path.rglob("8-16_4-8_6-12")).unlink()
    with pytest.raises(FloodlineError, match="lacks chunks"):
        Layer.open(tmp_path).read(box)


def test_a_truncated_chunk_is_an_error(tmp_path):
    box = Box((0, 0, 0), (16, 8, 12))
    written(tmp_path, box, noise(box, "uint8", 255))
    chunk = next(tmp_path.rglob("8-16_4-8_6-12"))
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(FloodlineError, match="cannot be read at"):
        Layer.open(tmp_path).read(box)


def test_a_missing_layer_is_said(tmp_path):
    with pytest.raises(FloodlineError, match="nowhere is not a precomputed layer"):
        Layer.open(tmp_path / "nowhere")


def test_a_damaged_info_is_said(tmp_path):
    (tmp_path / "info").write_text('{"type": "image"')
    with pytest.raises(FloodlineError, match=r"'info' of the layer .* cannot be read"):
        Layer.open(tmp_path)


def test_a_missing_level_is_said(tmp_path):
    box = Box((0, 0, 0), (16, 8, 12))
    written(tmp_path, box, noise(box, "uint8", 255))
    with pytest.raises(FloodlineError, match="no level 2"):
        Layer.open(tmp_path, mip=2)


def test_a_layer_of_several_channels_is_refused(tmp_path):
    from cloudvolume import CloudVolume

    CloudVolume.from_numpy(np.zeros((8, 8, 8, 3), np.uint8), vol_path=f"file://{tmp_path}", chunk_size=(8, 8, 8))
    with pytest.raises(FloodlineError, match="3 channels"):
        Layer.open(tmp_path)
