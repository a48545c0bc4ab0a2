"""Pyramids: every level is made of the voxels below it, and is listed only when it is whole."""

import json
from collections import Counter
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floodline.errors import FloodlineError
from floodline.geometry import Box, blocks
from floodline.manifest import read_json
from floodline.volumes import pyramid
from floodline.volumes.layer import Kind, Layer


def written(path: Path, box: Box, array: np.ndarray, kind: Kind, chunk=(8, 8, 8), voxel_size=(8, 8, 8)) -> Layer:
    layer = Layer.create(
        path, box=box, dtype=array.dtype.name, voxel_size_nm_xyz=voxel_size, chunk_size_xyz=chunk, kind=kind
    )
    for part in blocks(box, chunk):
        layer.write(part, array[part.slices_zyx(box.start_xyz)])
    return layer


def noise(box: Box, dtype: str, top: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, box.shape_zyx, dtype=dtype, endpoint=True)


def groups(array: np.ndarray, box: Box, factor_xyz: tuple[int, int, int]) -> dict[tuple[int, ...], list[int]]:
    """The voxels (x, y, z of the coarser level) that lie in each coarser voxel."""
    found: dict[tuple[int, ...], list[int]] = {}
    for x, y, z in product(*(range(a, b) for a, b in zip(box.start_xyz, box.stop_xyz, strict=True))):
        place = tuple(p // f for p, f in zip((x, y, z), factor_xyz, strict=True))
        i, j, k = (p - a for p, a in zip((x, y, z), box.start_xyz, strict=True))
        found.setdefault(place, []).append(int(array[k, j, i]))
    return found


starts = st.tuples(*[st.integers(-9, 9)] * 3)
sizes = st.tuples(*[st.integers(1, 14)] * 3).filter(lambda size: max(size) > 8)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=starts, size=sizes)
@pytest.mark.parametrize("kind", ["image", "segmentation"])
def test_a_level_is_made_of_the_voxels_below_it_wherever_the_layer_lies(tmp_path, kind, start, size):
    box = Box.sized(start, size)
    array = noise(box, "uint8", 255) if kind == "image" else noise(box, "uint64", 2) * np.uint64(2**40)
    written(tmp_path / "layer", box, array, kind)
    pyramid.run(tmp_path / "layer", 1, tmp_path / "layer" / "mips.json")

    level = Layer.open(tmp_path / "layer", 1)
    voxels = level.read(level.box)
    expected = groups(array, box, (2, 2, 2))
    assert level.box.voxels == len(expected)
    for (x, y, z), below in expected.items():
        i, j, k = (p - a for p, a in zip((x, y, z), level.box.start_xyz, strict=True))
        if kind == "image":
            assert abs(voxels[k, j, i] - np.mean(below)) <= 0.5
        else:
            often = Counter(below)
            assert voxels[k, j, i] == min(label for label in often if often[label] == max(often.values()))
    assert np.array_equal(Layer.open(tmp_path / "layer").read(box), array)


def test_levels_end_where_one_fits_in_a_chunk(tmp_path):
    box = Box((0, 0, 0), (40, 33, 9))
    written(tmp_path, box, noise(box, "uint8", 255), "image")
    pyramid.run(tmp_path, 9, tmp_path / "mips.json")
    sizes_xyz = [[40, 33, 9], [20, 17, 5], [10, 9, 3], [5, 5, 2]]
    assert read_json(tmp_path / "mips.json") == {
        "levels": 4,
        "sizes": [{"size_xyz": size, "voxel_size_nm_xyz": [8.0 * 2**i] * 3} for i, size in enumerate(sizes_xyz)],
    }
    for mip, size in enumerate(sizes_xyz):
        level = Layer.open(tmp_path, mip)
        assert level.box.size_xyz == tuple(size)
        assert level.read(level.box).size


def test_anisotropic_voxels_become_cubes(tmp_path):
    box = Box((0, 0, 0), (40, 40, 20))
    array = noise(box, "uint8", 255)
    written(tmp_path, box, array, "image", voxel_size=(4, 4, 12))
    pyramid.run(tmp_path, 3, tmp_path / "mips.json")
    found = [read["voxel_size_nm_xyz"] for read in read_json(tmp_path / "mips.json")["sizes"]]
    assert found == [[4, 4, 12], [8, 8, 12], [16, 16, 24], [32, 32, 48]]
    half = Layer.open(tmp_path, 1)
    mean = array.reshape(20, 20, 2, 20, 2).mean(axis=(2, 4))
    assert np.abs(half.read(half.box) - mean).max() <= 0.5


def test_without_levels_the_file_says_so(tmp_path):
    box = Box((0, 0, 0), (20, 20, 20))
    written(tmp_path, box, noise(box, "uint8", 255), "image")
    pyramid.run(tmp_path, 0, tmp_path / "mips.json")
    assert read_json(tmp_path / "mips.json")["levels"] == 1


def test_fewer_levels_leave_nothing_of_more(tmp_path):
    box = Box((0, 0, 0), (40, 40, 40))
    written(tmp_path, box, noise(box, "uint8", 255), "image")
    pyramid.run(tmp_path, 2, tmp_path / "mips.json")
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    pyramid.run(tmp_path, 1, tmp_path / "mips.json")
    assert folders == {"8_8_8", "16_16_16", "32_32_32"}
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"8_8_8", "16_16_16"}
    with pytest.raises(FloodlineError, match="no level 2"):
        Layer.open(tmp_path, 2)


def test_a_missing_chunk_is_found_and_nothing_passes_for_whole(tmp_path):
    box = Box((0, 0, 0), (20, 20, 20))
    written(tmp_path, box, noise(box, "uint8", 255), "image")
    pyramid.run(tmp_path, 1, tmp_path / "mips.json")
    (tmp_path / "8_8_8" / "8-16_0-8_16-20").unlink()
    with pytest.raises(FloodlineError, match="lacks chunks"):
        pyramid.run(tmp_path, 1, tmp_path / "mips.json")
    assert not (tmp_path / "mips.json").exists()


def test_what_info_says_of_meshes_stays(tmp_path):
    box = Box((0, 0, 0), (20, 20, 20))
    written(tmp_path, box, noise(box, "uint64", 3), "segmentation")
    info = read_json(tmp_path / "info") | {"mesh": "mesh"}
    (tmp_path / "info").write_text(json.dumps(info))
    pyramid.run(tmp_path, 1, tmp_path / "mips.json")
    assert read_json(tmp_path / "info")["mesh"] == "mesh"


def test_the_same_voxels_give_the_same_bytes(tmp_path):
    box = Box((3, 4, 5), (23, 24, 25))
    for name in ("a", "b"):
        written(tmp_path / name, box, noise(box, "uint64", 3), "segmentation")
        pyramid.run(tmp_path / name, 1, tmp_path / name / "mips.json")
    a, b = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert a == b
    assert len(a) > ceil(20 / 8) ** 3
