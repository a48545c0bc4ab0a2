"""Layers: Neuroglancer precomputed volumes, read and written in boxes through CloudVolume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple, blocks, triple
from floodline.volumes.arrays import Storage
from floodline.volumes.remote import cloud_files, cloud_volume_class, is_url, name_of, reaching, remove, secrets

Kind = Literal["image", "segmentation"]

SHARD_BYTES = 2**28
"""Voxels of a shard, before they are compressed."""


class Layer:
    """A precomputed layer of one channel.

    Boxes are x, y, z in voxels of the level that was opened; a layer keeps the coordinates of the source it came from
    (its `voxel_offset`). Arrays are z, y, x.
    """

    def __init__(self, path: Path | str, cloud_volume: Any) -> None:
        self.path = path
        self._cloud_volume = cloud_volume
        bounds = cloud_volume.bounds
        self.box = Box(triple(bounds.minpt), triple(bounds.maxpt))
        self.dtype = np.dtype(cloud_volume.dtype)
        x, y, z = (float(size) for size in cloud_volume.resolution)
        self.voxel_size_nm_xyz: tuple[float, float, float] = (x, y, z)
        self.chunk_size_xyz: Triple = triple(cloud_volume.chunk_size)
        self._sharded = bool(cloud_volume.scale.get("sharding"))
        sharded = ", sharded" if self._sharded else ""
        self.stored = Storage(self.chunk_size_xyz, f"{cloud_volume.encoding}{sharded}")

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        box: Box,
        dtype: str,
        voxel_size_nm_xyz: Sequence[float],
        chunk_size_xyz: Sequence[int],
        kind: Kind,
        encoding: str | None = None,
        sharded: bool = False,
    ) -> Self:
        """Make an empty layer in a folder or an object store, and delete what was there.

        Args:
            encoding: of its chunks; None: `compressed_segmentation` for a segmentation, `raw` for an image.
            sharded: few large files in place of one a chunk; whole files are then written, `write_size_xyz` each.

        Chunks are stored without gzip, whose header holds the time and would make every run's bytes differ;
        segmentations are small all the same by Neuroglancer's `compressed_segmentation`.

        Raises:
            FloodlineError: the place cannot be written.
        """
        # A layer in a folder is whole when it has a manifest, so that goes before anything else does.
        if not is_url(path):
            (Path(path) / "manifest.json").unlink(missing_ok=True)
        remove(path)
        info = cloud_volume_class().create_new_info(
            num_channels=1,
            layer_type=kind,
            data_type=np.dtype(dtype).name,
            encoding=encoding or ("compressed_segmentation" if kind == "segmentation" else "raw"),
            resolution=list(voxel_size_nm_xyz),
            voxel_offset=list(box.start_xyz),
            volume_size=list(box.size_xyz),
            chunk_size=list(chunk_size_xyz),
        )
        if sharded:
            info["scales"][0]["sharding"] = _sharding(box, chunk_size_xyz, dtype)
        with reaching(path, "written"):
            cloud_volume = open_cloud_volume(path, info=info)
            cloud_volume.commit_info()
        return cls(path, cloud_volume)

    @classmethod
    def open(cls, path: Path | str, mip: int = 0) -> Self:
        """Open a level of a layer's pyramid, in a folder or at a URL that CloudVolume knows.

        Raises:
            FloodlineError: there is no layer, it cannot be reached, or it has no such level, or more than one channel.
        """
        cloud_volume_class()
        from cloudvolume.exceptions import InfoUnavailableError, ScaleUnavailableError

        try:
            with reaching(path, "read"):
                cloud_volume = open_cloud_volume(path, mip=mip)
        except InfoUnavailableError:
            # CloudFiles takes 403 for 404 there.
            hidden = ", or its server does not show it" if str(path).startswith("http") else ""
            raise FloodlineError(f"{path} is not a precomputed layer: it has no file 'info'{hidden}.") from None
        except ScaleUnavailableError:
            raise FloodlineError(f"the layer {path} has no level {mip}: ask for one that its 'info' lists.") from None
        except (ValueError, KeyError) as error:
            raise FloodlineError(f"the file 'info' of the layer {path} cannot be read: {error}.") from error
        if cloud_volume.num_channels != 1:
            raise FloodlineError(f"the layer {path} has {cloud_volume.num_channels} channels; one is needed.")
        return cls(path, cloud_volume)

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box, z, y, x.

        Raises:
            FloodlineError: the box reaches outside the layer, or a chunk is missing or damaged.
        """
        from cloudvolume.exceptions import DecodingError, EmptyVolumeException

        if box.is_empty or not self.box.contains(box):
            raise FloodlineError(f"cannot read {box} of the layer {self.path}: its box is {self.box}.")
        try:
            with reaching(f"the layer {self.path}", "read"):
                array = self._cloud_volume[_bounding_box(box)]
        except EmptyVolumeException:
            raise FloodlineError(
                f"the layer {self.path} lacks chunks of {box}: run the stage that writes it again."
            ) from None
        except (DecodingError, ValueError) as error:
            raise FloodlineError(f"the layer {self.path} cannot be read at {box}: {error}.") from error
        return np.ascontiguousarray(np.asarray(array)[..., 0].transpose())

    @property
    def write_size_xyz(self) -> Triple:
        """What is written at once is made of pieces of this size: chunks, or the chunks of one file."""
        if not self._sharded:
            return self.chunk_size_xyz
        spec = self._cloud_volume.image.shard_spec(self._cloud_volume.mip)
        return triple(spec.image_shard_shape(self.box.size_xyz, self.chunk_size_xyz))

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write whole pieces: `array` (z, y, x) fills `box`, whose faces lie on their borders or on the layer's faces.

        Of a sharded layer one piece is written at a time.

        Raises:
            ValueError: the box would cut chunks, or the array does not have its shape or the layer's type.
            FloodlineError: the layer cannot be written.
        """
        self._check_write(box, array)
        voxels = array.transpose()[..., np.newaxis]
        with reaching(f"the layer {self.path}", "written"):
            if self._sharded:
                volume = self._cloud_volume
                name, shard = volume.image.make_shard(voxels, _bounding_box(box), volume.mip)
                cloud_files(name_of(self.path, volume.key)).put(name, shard, compress=None, cache_control="no-cache")
            elif self._cloud_volume.encoding == "raw" and not is_url(self.path):
                self._write_raw(box, array)
            else:
                self._cloud_volume[_bounding_box(box)] = voxels

    def _write_raw(self, box: Box, array: np.ndarray) -> None:
        """Write chunks to a folder: their voxels, x fastest, are the files. CloudVolume takes twice the time for it."""
        folder = Path(self.path) / self._cloud_volume.key
        folder.mkdir(exist_ok=True)
        for chunk in blocks(box, self.chunk_size_xyz):
            (folder / chunk.name).write_bytes(np.ascontiguousarray(array[chunk.slices_zyx(box.start_xyz)]).data)

    def _check_write(self, box: Box, array: np.ndarray) -> None:
        if array.shape != box.shape_zyx or array.dtype != self.dtype:
            raise ValueError(f"{array.dtype} {array.shape} does not fill {box} of {self.path}, which is {self.dtype}")
        for a, b, start, stop, chunk in zip(
            box.start_xyz, box.stop_xyz, self.box.start_xyz, self.box.stop_xyz, self.chunk_size_xyz, strict=True
        ):
            if a < start or b > stop or (a - start) % chunk or (b != stop and (b - start) % chunk):
                raise ValueError(f"{box} is not made of whole chunks {self.write_size_xyz} of {self.path} ({self.box})")


def _sharding(box: Box, chunk_size_xyz: Sequence[int], dtype: str) -> dict[str, Any]:
    """Chunks to files as CloudVolume recommends it, but to files that fit into memory, and without gzip's time."""
    from cloudvolume.datasource.precomputed.sharding import compute_shard_params_for_image

    spec = compute_shard_params_for_image(
        box.size_xyz, chunk_size_xyz, "raw", dtype, SHARD_BYTES, minishard_index_encoding="raw", data_encoding="raw"
    )
    return dict(spec.to_dict())


def open_cloud_volume(path: Path | str, **how: Any) -> Any:
    """CloudVolume's own view of a layer: its meshes and skeletons are read through it, too."""
    return cloud_volume_class()(_url(path), compress=False, progress=False, secrets=secrets(path), **how)


def _url(path: Path | str) -> str:
    return str(path) if is_url(path) else f"file://{Path(path).absolute()}"


def _bounding_box(box: Box) -> Any:
    from cloudvolume import Bbox

    return Bbox(box.start_xyz, box.stop_xyz)
