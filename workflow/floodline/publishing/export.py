"""The neurons in other formats: `exports/<name>`, and `<name>.json`, written last, when a part was read back."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks, to_zyx, triple
from floodline.manifest import read_json, write_json
from floodline.progress import Meter
from floodline.volumes import pyramid
from floodline.volumes.layer import Layer
from floodline.volumes.placement import Size
from floodline.volumes.remote import context, is_url, kvstore, name_of, read_json_at, remove, settled
from floodline.volumes.sources import Volume, open_source

logger = logging.getLogger("floodline")

ENDINGS = {"precomputed": "", "ome_zarr": ".ome.zarr", "n5": ".n5", "hdf5": ".h5"}
DATASET = "neurons"
WRITTEN_AT_ONCE = 256
"""About how many voxels a side are written at once."""
READ_BACK = 16
"""Blocks of each level that are read back, the first and the last among them."""


def run(experiment: Experiment, name: str) -> None:
    """Write one of the configuration's exports, read a part of it back, and write `exports/<name>.json`.

    A local export is written beside its place and takes it when it is whole and was read back; at a URL it is written
    at its place, so `<name>.json` alone says that it is whole.

    Raises:
        FloodlineError: there is no such export, there are no neurons, or what is read back is not what was written.
    """
    wanted = next((export for export in experiment.config.exports if export.name == name), None)
    if wanted is None:
        names = ", ".join(export.name for export in experiment.config.exports) or "none"
        raise FloodlineError(f"the configuration has no export '{name}': there are {names}.")
    manifest = experiment.folder / "exports" / f"{name}.json"
    manifest.unlink(missing_ok=True)
    levels = [experiment.layer("neurons")] * read_json(experiment.beside("neurons") / "mips.json")["levels"]
    neurons = [Layer.open(path, mip) for mip, path in enumerate(levels)][: 1 if wanted.kind == "hdf5" else None]
    end: Path | str = wanted.path or experiment.folder / "exports" / f"{name}{ENDINGS[wanted.kind]}"
    start = end if is_url(end) else Path(end).with_name(f".{Path(end).name}.partial")
    _remove(start)
    if not is_url(start):
        Path(start).parent.mkdir(parents=True, exist_ok=True)
    _write(wanted, start, neurons, manifest)
    read_back = sum(
        check(_opened(wanted, start, mip), level, experiment.rng(f"export {name} {mip}"), f"{end}, level {mip}")
        for mip, level in enumerate(neurons)
    )
    if not is_url(end):
        _remove(end)
        Path(start).replace(end)
    write_json(
        manifest,
        {
            "kind": wanted.kind,
            "path": str(end),
            "levels": len(neurons),
            "box_xyz": neurons[0].box.corners,
            "voxels_read_back": read_back,
        },
    )


def _remove(place: Path | str) -> None:
    if not is_url(place):
        Path(place).unlink(missing_ok=True) if Path(place).is_file() else remove(place)
    else:
        remove(place)


def _write(wanted: config.Export, place: Path | str, neurons: list[Layer], manifest: Path) -> None:
    match wanted.kind:
        case "precomputed":
            _precomputed(wanted, place, neurons, manifest)
        case "hdf5":
            _hdf5(wanted, Path(place), neurons[0])
        case "n5":
            _n5(wanted, place, neurons)
        case "ome_zarr":
            _ome_zarr(wanted, place, neurons)


def check(written: Volume, level: Layer, rng: np.random.Generator, name: str) -> int:
    """Compare blocks of what was written with the layer that it came from.

    Returns:
        how many voxels were compared.

    Raises:
        FloodlineError: they differ.
    """
    size_nm_xyz = written.voxel_size_nm_xyz
    same_size = size_nm_xyz is not None and np.allclose(size_nm_xyz, level.voxel_size_nm_xyz)
    for what, there, wanted, same in (
        ("box", written.box, level.box, written.box == level.box),
        ("type", written.dtype, level.dtype, written.dtype == level.dtype),
        ("voxel size", size_nm_xyz, level.voxel_size_nm_xyz, same_size),
    ):
        if not same:
            raise FloodlineError(f"the {what} of {name} reads back as {there}, but {wanted} was written.")
    boxes = blocks(level.box, level.chunk_size_xyz)
    inner = rng.permutation(np.arange(1, len(boxes) - 1))[: READ_BACK - 2].tolist()
    chosen = [boxes[i] for i in sorted({0, *inner, len(boxes) - 1})]
    for box in chosen:
        if not np.array_equal(written.read(box), level.read(box)):
            raise FloodlineError(f"{name} does not read back as it was written, at {box}: export it again.")
    return sum(box.voxels for box in chosen)


def _opened(wanted: config.Export, place: Path | str, mip: int) -> Volume:
    """What was written, read as any source is."""
    fields: dict[str, Any] = {"kind": wanted.kind, "path": str(place), "mip": mip}
    source: config.Source
    match wanted.kind:
        case "precomputed":
            source = config.PrecomputedSource.model_validate(fields)
        case "hdf5":
            source = config.Hdf5Source(kind="hdf5", path=str(place), dataset=DATASET)
        case _:
            source = config.ChunkedSource.model_validate(fields | {"kind": "n5" if wanted.kind == "n5" else "zarr"})
    return open_source(source, 0)


def _copy(level: Layer, write: Callable[[Box, np.ndarray], None], size_xyz: Any, name: str) -> None:
    """Hand a level over block by block, each once."""
    todo = blocks(level.box, triple(size_xyz))
    with Meter(f"export {name}", len(todo), "blocks") as meter:
        for box in todo:
            write(box, level.read(box))
            meter.advance()


def _several(chunk_size_xyz: Any) -> list[int]:
    return [max(WRITTEN_AT_ONCE // size, 1) * size for size in chunk_size_xyz]


def _precomputed(wanted: config.Export, place: Path | str, neurons: list[Layer], manifest: Path) -> None:
    finest = neurons[0]
    layer = Layer.create(
        place,
        box=finest.box,
        dtype=finest.dtype.name,
        voxel_size_nm_xyz=finest.voxel_size_nm_xyz,
        chunk_size_xyz=wanted.chunk_size_xyz,
        kind="segmentation",
        encoding=wanted.encoding,
        sharded=wanted.sharded,
    )
    size = layer.write_size_xyz if wanted.sharded else _several(wanted.chunk_size_xyz)
    _copy(finest, layer.write, size, wanted.name)
    summary = manifest.with_name(f".{wanted.name}.mips.json")
    pyramid.run(place, len(neurons) - 1, summary)
    summary.unlink()


def _hdf5(wanted: config.Export, path: Path, level: Layer) -> None:
    import h5py

    chunks = to_zyx([min(a, b) for a, b in zip(wanted.chunk_size_xyz, level.box.size_xyz, strict=True)])
    with h5py.File(path, "w", track_order=True) as file:
        dataset = file.create_dataset(
            DATASET, level.box.shape_zyx, level.dtype, chunks=chunks, compression="gzip", shuffle=True
        )
        dataset.attrs["resolution"] = level.voxel_size_nm_xyz[::-1]
        dataset.attrs["offset"] = _corner_nm(level)[::-1]

        def write(box: Box, array: np.ndarray) -> None:
            dataset[box.slices_zyx(level.box.start_xyz)] = array

        _copy(level, write, _several(wanted.chunk_size_xyz), wanted.name)
        file.flush()
        os.fsync(file.id.get_vfd_handle())


def _corner_nm(level: Layer) -> list[float]:
    return [start * nm for start, nm in zip(level.box.start_xyz, level.voxel_size_nm_xyz, strict=True)]


def _put(place: Path | str, key: str, value: Any) -> None:
    import tensorstore

    name = name_of(place, key)
    store = settled(tensorstore.KvStore.open(kvstore(place), context=context()), name)
    settled(store.write(key, json.dumps(value, indent=2).encode()), name)


def _create(spec: dict[str, Any], place: str) -> Any:
    import tensorstore

    return settled(
        tensorstore.open({**spec, "kvstore": kvstore(place)}, create=True, delete_existing=True, context=context()),
        place,
    )


def _n5(wanted: config.Export, place: Path | str, neurons: list[Layer]) -> None:
    finest = neurons[0].voxel_size_nm_xyz
    pixels = {"dimensions": finest, "unit": "nm"}
    _put(place, "attributes.json", {"n5": "2.5.1", "pixelResolution": pixels, "resolution": finest})
    for mip, level in enumerate(neurons):
        array = name_of(place, f"s{mip}")
        metadata = {
            "dimensions": level.box.size_xyz,
            "blockSize": wanted.chunk_size_xyz,
            "dataType": level.dtype.name,
            "compression": {"type": "gzip"},
        }
        store = _create({"driver": "n5", "metadata": metadata}, array)

        def write(box: Box, voxels: np.ndarray, store: Any = store, level: Layer = level, array: str = array) -> None:
            z, y, x = box.slices_zyx(level.box.start_xyz)
            settled(store[x, y, z].write(voxels.transpose()), array)

        _copy(level, write, _several(wanted.chunk_size_xyz), f"{wanted.name} s{mip}")
        more = {
            "resolution": level.voxel_size_nm_xyz,
            "offset": _corner_nm(level),
            "downsamplingFactors": _factors(level.voxel_size_nm_xyz, finest),
        }
        _put(array, "attributes.json", {**(read_json_at(array, "attributes.json") or {}), **more})


def _factors(nm: Size, finest: Size) -> list[int]:
    return [round(a / b) for a, b in zip(nm, finest, strict=True)]


def _ome_zarr(wanted: config.Export, place: Path | str, neurons: list[Layer]) -> None:
    """OME-Zarr, https://ngff.openmicroscopy.org: a group whose arrays are the levels."""
    finest = neurons[0].voxel_size_nm_xyz
    for mip, level in enumerate(neurons):
        array, chunk_zyx = name_of(place, str(mip)), to_zyx(wanted.chunk_size_xyz)
        store = _create(_zarr_spec(wanted.version, level, chunk_zyx), array)

        def write(box: Box, voxels: np.ndarray, store: Any = store, level: Layer = level, array: str = array) -> None:
            settled(store[box.slices_zyx(level.box.start_xyz)].write(voxels), array)

        _copy(level, write, _several(wanted.chunk_size_xyz), f"{wanted.name} {mip}")
    multiscales: dict[str, Any] = {
        "name": wanted.name,
        "axes": [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"],
        "datasets": [
            {"path": str(mip), "coordinateTransformations": _transformations(level, finest)}
            for mip, level in enumerate(neurons)
        ],
    }
    # Last: it makes the group a picture.
    if wanted.version == "0.4":
        _put(place, ".zgroup", {"zarr_format": 2})
        _put(place, ".zattrs", {"multiscales": [multiscales | {"version": "0.4"}]})
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": [multiscales]}}
        _put(place, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _zarr_spec(version: str, level: Layer, chunk_zyx: Any) -> dict[str, Any]:
    if version == "0.4":
        metadata: dict[str, Any] = {
            "shape": level.box.shape_zyx,
            "chunks": chunk_zyx,
            "dtype": level.dtype.newbyteorder("<").str,
            "compressor": {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 1},
            "dimension_separator": "/",
        }
        return {"driver": "zarr", "metadata": metadata}
    blosc = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "typesize": level.dtype.itemsize}
    return {
        "driver": "zarr3",
        "metadata": {
            "shape": level.box.shape_zyx,
            "data_type": level.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_zyx}},
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "blosc", "configuration": blosc},
            ],
            "dimension_names": ["z", "y", "x"],
        },
    }


def _transformations(level: Layer, finest: Size) -> list[dict[str, Any]]:
    """Size of the voxels, and the centre of the first one from that of the finest voxel 0."""
    centre = [
        corner + (nm - fine) / 2
        for corner, nm, fine in zip(_corner_nm(level), level.voxel_size_nm_xyz, finest, strict=True)
    ]
    return [
        {"type": "scale", "scale": level.voxel_size_nm_xyz[::-1]},
        {"type": "translation", "translation": centre[::-1]},
    ]
