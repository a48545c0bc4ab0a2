"""Layers: Neuroglancer precomputed volumes, read and written in boxes through CloudVolume."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple, triple
from floodline.volumes.arrays import Storage

Kind = Literal["image", "segmentation"]


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
        sharded = ", sharded" if cloud_volume.scale.get("sharding") else ""
        self.stored = Storage(self.chunk_size_xyz, f"{cloud_volume.encoding}{sharded}")

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        box: Box,
        dtype: str,
        voxel_size_nm_xyz: Sequence[float],
        chunk_size_xyz: Sequence[int],
        kind: Kind,
    ) -> Self:
        """Make an empty layer in a local folder, and delete what was there.

        Chunks are stored without gzip, whose header holds the time and would make every run's bytes differ;
        segmentations are small all the same by Neuroglancer's `compressed_segmentation`.
        """
        # A layer is whole when it has a manifest, so that goes before anything else does.
        (path / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        cloud_volume_class = _cloud_volume_class()
        info = cloud_volume_class.create_new_info(
            num_channels=1,
            layer_type=kind,
            data_type=np.dtype(dtype).name,
            encoding="compressed_segmentation" if kind == "segmentation" else "raw",
            resolution=list(voxel_size_nm_xyz),
            voxel_offset=list(box.start_xyz),
            volume_size=list(box.size_xyz),
            chunk_size=list(chunk_size_xyz),
        )
        cloud_volume = cloud_volume_class(_url(path), info=info, compress=False, progress=False)
        try:
            cloud_volume.commit_info()
        except OSError as error:
            raise FloodlineError(f"cannot write the layer {path}: {error.strerror or error}.") from error
        return cls(path, cloud_volume)

    @classmethod
    def open(cls, path: Path | str, mip: int = 0) -> Self:
        """Open a level of a layer's pyramid, in a folder or at a URL that CloudVolume knows.

        Raises:
            FloodlineError: there is no layer, or it has no such level, or more than one channel.
        """
        cloud_volume_class = _cloud_volume_class()
        from cloudvolume.exceptions import InfoUnavailableError, ScaleUnavailableError

        try:
            cloud_volume = cloud_volume_class(_url(path), mip=mip, compress=False, progress=False)
        except InfoUnavailableError:
            raise FloodlineError(f"{path} is not a precomputed layer: it has no file 'info'.") from None
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
            array = self._cloud_volume[_bounding_box(box)]
        except EmptyVolumeException:
            raise FloodlineError(
                f"the layer {self.path} lacks chunks of {box}: run the stage that writes it again."
            ) from None
        except (DecodingError, ValueError, OSError) as error:
            raise FloodlineError(f"the layer {self.path} cannot be read at {box}: {error}.") from error
        return np.ascontiguousarray(np.asarray(array)[..., 0].transpose())

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write whole chunks: `array` (z, y, x) fills `box`, whose faces lie on chunk borders or on the layer's faces.

        Raises:
            ValueError: the box would cut chunks, or the array does not have its shape or the layer's type.
            FloodlineError: the layer cannot be written.
        """
        self._check_write(box, array)
        try:
            self._cloud_volume[_bounding_box(box)] = array.transpose()[..., np.newaxis]
        except OSError as error:
            raise FloodlineError(f"cannot write the layer {self.path}: {error.strerror or error}.") from error

    def _check_write(self, box: Box, array: np.ndarray) -> None:
        if array.shape != box.shape_zyx or array.dtype != self.dtype:
            raise ValueError(f"{array.dtype} {array.shape} does not fill {box} of {self.path}, which is {self.dtype}")
        for a, b, start, stop, chunk in zip(
            box.start_xyz, box.stop_xyz, self.box.start_xyz, self.box.stop_xyz, self.chunk_size_xyz, strict=True
        ):
            if a < start or b > stop or (a - start) % chunk or (b != stop and (b - start) % chunk):
                raise ValueError(f"{box} is not made of whole chunks {self.chunk_size_xyz} of {self.path} ({self.box})")


def _cloud_volume_class() -> Any:
    """CloudVolume, imported late because that takes a second, and without a library's remarks on Python's age."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from cloudvolume import CloudVolume

    return CloudVolume


def _url(path: Path | str) -> str:
    return path if isinstance(path, str) and "://" in path else f"file://{Path(path).absolute()}"


def _bounding_box(box: Box) -> Any:
    from cloudvolume import Bbox

    return Bbox(box.start_xyz, box.stop_xyz)
