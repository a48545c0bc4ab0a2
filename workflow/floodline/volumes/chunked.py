"""Sources that are chunked arrays with metadata beside them: Zarr 2 and 3, OME-Zarr 0.4 and 0.5, N5, by tensorstore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.geometry import to_xyz
from floodline.volumes.arrays import ArrayVolume, Storage
from floodline.volumes.placement import Placement, placed
from floodline.volumes.remote import context, is_url, kvstore, name_of, read_json_at, settled


@dataclass(frozen=True)
class Node:
    """An array or a group: its driver in tensorstore if it is an array, and its attributes."""

    location: str
    driver: str | None
    attributes: dict[str, Any]


class _Lazy:
    """A tensorstore array that is sliced and read like numpy's, errors being sentences."""

    def __init__(self, store: Any, name: str) -> None:
        self.store, self.name = store, name
        self.shape, self.dtype = tuple(store.shape), np.dtype(store.dtype.numpy_dtype)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(settled(self.store[index].read(), self.name))


def open_chunked(source: config.ChunkedSource) -> ArrayVolume:
    """An array of Zarr or N5, or a level of a pyramid of OME-Zarr or N5.

    Raises:
        FloodlineError: there is none, it has no such level, it is damaged, or it has not three dimensions.
    """
    read_node = _n5_node if source.kind == "n5" else _zarr_node
    node = read_node(source.path)
    if node is None:
        what = "N5 array or group" if source.kind == "n5" else "Zarr array or group"
        raise FloodlineError(f"{source.path} is no {what}: it does not exist, or has no metadata.")
    group = node
    if node.driver is None:
        paths = _levels(node, source.kind)
        if not paths:
            raise FloodlineError(f"{source.path} is a group without a pyramid: name an array in it.")
        if source.mip >= len(paths):
            raise FloodlineError(f"{source.path} has no level {source.mip}: it has {len(paths)}.")
        location = name_of(source.path, paths[source.mip])
        inner = read_node(location)
        if inner is None or inner.driver is None:
            raise FloodlineError(f"{source.path} lacks its level {source.mip}: {location} is no array.")
        node = inner
    elif source.mip:
        raise FloodlineError(f"{source.path} is one array, so it has no level {source.mip}: mip must be 0.")
    else:
        group = _parent(node, read_node) or node
    return _opened(node, group, source.kind)


def is_chunked(location: str) -> list[config.ChunkedSource]:
    """The source that a folder or URL stands for, if it is of Zarr or N5, or has such arrays in the groups below it."""
    for kind, read_node in (("zarr", _zarr_node), ("n5", _n5_node)):
        node = read_node(location)
        if node is None:
            continue
        source = config.ChunkedSource.model_validate({"kind": kind, "path": location})
        if node.driver or _levels(node, kind):
            return [source]
        if not is_url(location):
            below = sorted(path for path in Path(location).iterdir() if path.is_dir())
            return [one for path in below for one in is_chunked(str(path))]
    return []


def _zarr_node(location: str) -> Node | None:
    if (three := read_json_at(location, "zarr.json")) is not None:
        return Node(location, "zarr3" if three.get("node_type") == "array" else None, three.get("attributes", {}))
    array = read_json_at(location, ".zarray")
    if array is None and read_json_at(location, ".zgroup") is None:
        return None
    return Node(location, "zarr" if array is not None else None, read_json_at(location, ".zattrs") or {})


def _n5_node(location: str) -> Node | None:
    attributes = read_json_at(location, "attributes.json")
    if attributes is None:
        return None
    return Node(location, "n5" if "blockSize" in attributes else None, attributes)


def _parent(node: Node, read_node: Any) -> Node | None:
    """The group of which an array is a level, so that the group's metadata hold for it."""
    above, _, _ = node.location.rstrip("/").rpartition("/")
    if not above or above.endswith(":/"):
        return None
    group = read_node(above)
    return group if group is not None and group.driver is None else None


def _multiscale(group: Node) -> dict[str, Any] | None:
    """The first pyramid that OME-Zarr's metadata describe."""
    found = group.attributes.get("ome", group.attributes).get("multiscales")
    return found[0] if isinstance(found, list) and found and "datasets" in found[0] else None


def _levels(group: Node, kind: str) -> list[str]:
    """Paths of the levels of a pyramid, finest first."""
    if (multiscale := _multiscale(group)) is not None:
        return [dataset["path"] for dataset in multiscale["datasets"]]
    levels: list[str] = []
    # N5 pyramids are known by the names of their levels alone.
    while kind == "n5" and _n5_node(name_of(group.location, f"s{len(levels)}")) is not None:
        levels.append(f"s{len(levels)}")
    return levels


def _opened(node: Node, group: Node, kind: str) -> ArrayVolume:
    import tensorstore

    spec = {"driver": node.driver, "kvstore": kvstore(node.location)}
    store = settled(tensorstore.open(spec, open=True, read=True, context=context()), node.location)
    if kind == "n5":
        store = store.T
    extra = len(store.shape) - 3
    if extra > 0 and any(size != 1 for size in store.shape[:extra]):
        raise FloodlineError(
            f"{node.location} has shape {tuple(store.shape)}: the axes before the three of space must have length 1."
        )
    chunk = store.chunk_layout.read_chunk.shape or store.shape
    compression = _compression(store)
    for _ in range(extra):
        store = store[0]
    placement = _n5_placement(node, group) if kind == "n5" else _zarr_placement(node, group)
    return ArrayVolume(_Lazy(store, node.location), node.location, Storage(to_xyz(chunk[-3:]), compression), placement)


def _compression(store: Any) -> str:
    """The name of the compressor, as tensorstore tells it."""
    codec = store.codec.to_json() if store.codec is not None else {}
    if "codecs" in codec:
        codecs, sharded = codec["codecs"], ""
        if codecs and codecs[0]["name"] == "sharding_indexed":
            codecs, sharded = codecs[0]["configuration"]["codecs"], ", sharded"
        names = [one["name"] for one in codecs if one["name"] not in ("bytes", "transpose", "crc32c")]
        return (" ".join(names) or "none") + sharded
    found = codec.get("compressor") or codec.get("compression") or {}
    name = str(found.get("cname") or found.get("id") or found.get("type") or "none")
    return "none" if name == "raw" else name


def _zarr_placement(node: Node, group: Node) -> Placement:
    """By OME-Zarr's transformations; of plain arrays by attributes."""
    multiscale = _multiscale(group)
    path = node.location.rstrip("/").rpartition("/")[2]
    for dataset in multiscale["datasets"] if multiscale else []:
        if multiscale is not None and dataset["path"].rpartition("/")[2] == path:
            return _of_ome(node.location, multiscale, dataset)
    attributes = node.attributes
    for name in ("resolution", "voxel_size"):
        if np.size(attributes.get(name, ())) == 3:
            units = attributes.get("units")
            units_zyx = units if isinstance(units, list) and len(units) == 3 else ["nm"] * 3
            offset: Any = attributes.get("offset", ())
            return placed(
                node.location, attributes[name][::-1], units_zyx[::-1], offset[::-1] if np.size(offset) == 3 else None
            )
    return Placement()


def _of_ome(name: str, multiscale: dict[str, Any], dataset: dict[str, Any]) -> Placement:
    """OME-Zarr 0.4 and 0.5, https://ngff.openmicroscopy.org: the level's transformations, then those of all levels."""
    axes = multiscale.get("axes", [])
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    for transformations in (dataset, multiscale):
        for one in transformations.get("coordinateTransformations", []):
            if one.get("type") == "scale":
                scale, translation = scale * one["scale"], translation * one["scale"]
            elif one.get("type") == "translation":
                translation = translation + one["translation"]
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in axes]
    if not set("xyz") <= set(names):
        return Placement()
    if names[-3:] != ["z", "y", "x"]:
        raise FloodlineError(f"{name} has the axes {names}: z, y, x must be the last, in this order.")
    units = [axis.get("unit") for axis in axes[-3:]]
    # OME-Zarr places the centres of voxels: those of a level of larger voxels lie half of the difference further in.
    # Not everybody writes it so; where voxels begin is what fits better.
    ratio = _scale_of(multiscale["datasets"][0], len(axes)) / _scale_of(dataset, len(axes))
    corner = translation - scale * (1 - ratio) / 2
    far = [np.abs(place / scale - np.rint(place / scale))[-3:].max() for place in (translation, corner)]
    place = corner if far[1] < far[0] else translation
    return placed(name, scale[-3:][::-1], units[::-1], place[-3:][::-1])


def _scale_of(dataset: dict[str, Any], axes: int) -> np.ndarray:
    scales = [one["scale"] for one in dataset.get("coordinateTransformations", []) if one.get("type") == "scale"]
    return np.asarray(scales[0] if scales else [1] * axes, float)


def _n5_placement(node: Node, group: Node) -> Placement:
    """By the attributes that Janelia's `transform`, the N5 viewer's `pixelResolution`, and `resolution` are."""
    factors = node.attributes.get("downsamplingFactors", [1, 1, 1])
    if isinstance(transform := node.attributes.get("transform"), dict) and set("xyz") <= set(transform.get("axes", [])):
        order = [transform["axes"].index(axis) for axis in "xyz"]
        scale, units, offset = (
            [transform[key][i] for i in order] if len(transform.get(key, ())) >= 3 else None
            for key in ("scale", "units", "translate")
        )
        return placed(node.location, scale or [0] * 3, units or [None] * 3, offset)
    for holder, factor in ((node.attributes, [1, 1, 1]), (group.attributes, factors)):
        if isinstance(said := holder.get("pixelResolution"), dict):
            sizes, units = said.get("dimensions", ()), [said.get("unit")] * 3
        else:
            sizes, units = holder.get("resolution", ()), holder.get("units", ["nm"] * 3)
        offset = node.attributes.get("offset", group.attributes.get("offset", ()))
        if np.size(sizes) == 3 and len(units) == 3:
            finest = [float(size) * f for size, f in zip(sizes, factor, strict=True)]
            return placed(node.location, finest, units, offset if np.size(offset) == 3 else None)
    return Placement()
