"""Exports: each format's own library reads the neurons, and a part that does not read back is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import published
import pytest
import tensorstore
import zarr
from published import START_XYZ, VOXEL_SIZE_NM_XYZ

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import read_json
from floodline.publishing import export
from floodline.volumes.layer import Layer

NEURONS = np.random.default_rng(0).integers(0, 4, (40, 50, 70)).astype(np.uint64).repeat(2, 2)[:, :, :70]
NEURONS[NEURONS > 0] += np.uint64(2**40)


def exported(folder: Path, **wanted: Any) -> tuple[Experiment, Path]:
    wanted = {"name": "one", "chunk_size_xyz": [16, 16, 16], **wanted}
    made = published.experiment(folder, exports=[wanted])
    published.add(made, "neurons", NEURONS)
    export.run(made, "one")
    told = read_json(made.folder / "exports" / "one.json")
    assert told["box_xyz"] == Box.of_array(NEURONS.shape, START_XYZ).corners
    assert told["voxels_read_back"] > 0
    return made, Path(told["path"])


def coarse(made: Experiment) -> np.ndarray:
    level = Layer.open(made.layer("neurons"), 1)
    return level.read(level.box)


def test_hdf5(tmp_path):
    _, path = exported(tmp_path, kind="hdf5")
    with h5py.File(path) as file:
        assert np.array_equal(file["neurons"][()], NEURONS)
        assert list(file["neurons"].attrs["resolution"]) == [10, 8, 8]
        assert list(file["neurons"].attrs["offset"]) == [70, -160, 800]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    made, path = exported(tmp_path, kind="ome_zarr", version=version)
    group = zarr.open_group(path, mode="r")
    assert group.metadata.zarr_format == (2 if version == "0.4" else 3)
    assert np.array_equal(group["0"][:], NEURONS)
    assert np.array_equal(group["1"][:], coarse(made))
    attributes = group.attrs.get("ome", group.attrs)
    (multiscale,) = attributes["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["z", "y", "x"]
    fine, half = (dataset["coordinateTransformations"] for dataset in multiscale["datasets"])
    assert fine == [{"type": "scale", "scale": [10, 8, 8]}, {"type": "translation", "translation": [70, -160, 800]}]
    # The layer begins at z 7, the first coarse voxel at 6, whose centre lies between 6 and 7.
    assert half[1]["translation"] == [65, -156, 804]


def test_n5(tmp_path):
    made, path = exported(tmp_path, kind="n5")
    for name, expected in (("s0", NEURONS), ("s1", coarse(made))):
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/{name}/"}}
        assert np.array_equal(tensorstore.open(spec).result().T.read().result(), expected)
    assert read_json(path / "attributes.json")["pixelResolution"] == {
        "dimensions": list(VOXEL_SIZE_NM_XYZ), "unit": "nm",
    }  # fmt: skip
    assert read_json(path / "s1" / "attributes.json")["downsamplingFactors"] == [2, 2, 2]


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("encoding", ["compressed_segmentation", "crackle", "raw"])
def test_precomputed(tmp_path, encoding, sharded, monkeypatch):
    from cloudvolume import CloudVolume

    # Several shards.
    monkeypatch.setattr("floodline.volumes.layer.SHARD_BYTES", 8 * 32**3)
    made, path = exported(tmp_path, kind="precomputed", encoding=encoding, sharded=sharded)
    for mip, expected in enumerate((NEURONS, coarse(made))):
        volume = CloudVolume(f"file://{path.absolute()}", mip=mip, progress=False)
        assert volume.encoding == encoding
        assert np.array_equal(np.asarray(volume[:])[..., 0].T, expected)
    shards = list(path.rglob("*.shard"))
    assert (len(shards) > 2) == sharded
    assert bool(list(path.rglob("*-*_*-*_*"))) != sharded
    if encoding != "crackle":
        # Another library reads the shards.
        spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{path}/"}}
        store = tensorstore.open(spec).result()
        assert np.array_equal(store[..., 0].read().result().T, NEURONS)


def test_the_same_neurons_give_the_same_bytes(tmp_path):
    files = []
    for name in ("a", "b"):
        _, path = exported(tmp_path / name, kind="precomputed", encoding="crackle", sharded=True)
        files.append({file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()})
    assert files[0] == files[1]


def test_a_new_export_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    made, path = exported(tmp_path, kind="ome_zarr")
    (path / "old").write_text("")
    export.run(made, "one")
    assert not (path / "old").exists()
    assert sorted(file.name for file in path.parent.iterdir()) == ["one.json", "one.ome.zarr"]


@pytest.mark.parametrize("kind", ["hdf5", "ome_zarr", "n5", "precomputed"])
def test_what_does_not_read_back_is_refused_and_the_old_export_stays(tmp_path, kind, monkeypatch):
    made, path = exported(tmp_path, kind=kind)
    before = path.stat().st_mtime_ns
    faithful = export._copy

    def one_voxel_wrong(level: Layer, write: Any, *rest: Any) -> None:
        def spoiled(box: Box, array: np.ndarray) -> None:
            array = array.copy()
            array[0, 0, 0] += 1
            write(box, array)

        faithful(level, spoiled, *rest)

    monkeypatch.setattr(export, "_copy", one_voxel_wrong)
    with pytest.raises(FloodlineError, match=r"level 0 does not read back as it was written, at x 100\.\."):
        export.run(made, "one")
    assert path.stat().st_mtime_ns == before
    assert not (made.folder / "exports" / "one.json").exists()


def test_an_export_that_is_not_configured_is_said(tmp_path):
    made = published.experiment(tmp_path, exports=[{"name": "one", "kind": "n5"}])
    with pytest.raises(FloodlineError, match="no export 'two': there are one"):
        export.run(made, "two")
