"""Volumes: where image and labels come from, and how layers are stored."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from floodline.config.base import BoxXYZ, Model, NonNegative, Positive, SizeXYZ, check_box, key

PhantomSide = Annotated[int, Field(ge=16)]


class PhantomSource(Model):
    """A generated volume that looks like EM, with true labels; `seed` decides what it looks like."""

    kind: Literal["phantom"]
    size_xyz: tuple[PhantomSide, PhantomSide, PhantomSide] = key(
        "Size of the generated volume, voxels.", (160, 160, 160)
    )


class StackSource(Model):
    """A folder of PNG or TIFF slices, one file a z, in natural order of their names; or one multi-page TIFF."""

    kind: Literal["stack"]
    path: str = key("Folder, file or glob pattern.")


class Hdf5Source(Model):
    """A three-dimensional dataset (z, y, x) of an HDF5 file."""

    kind: Literal["hdf5"]
    path: str = key("The file.")
    dataset: str = key("Path of the dataset inside the file.")


class PrecomputedSource(Model):
    """A Neuroglancer precomputed layer; its own resolution and voxel offset hold."""

    kind: Literal["precomputed"]
    path: str = key("Folder or URL of the layer.")
    mip: NonNegative = key("Level of the pyramid to read; its voxels become mip 0 here.", 0)


Source = Annotated[
    PhantomSource | StackSource | Hdf5Source | PrecomputedSource,
    Field(discriminator="kind"),
]


class Clahe(Model):
    """Contrast-limited adaptive histogram equalisation, slice by slice (scikit-image)."""

    kernel_size_xy: tuple[Positive, Positive] = key("Size of the contextual region, voxels.", (64, 64))
    clip_limit: Annotated[float, Field(gt=0, le=1)] = key("Clipping limit; larger gives more contrast.", 0.01)


class Image(Model):
    """The EM volume."""

    source: Source = key("Where it comes from.")
    voxel_size_nm_xyz: tuple[float, float, float] = key("Voxel size in nanometres.", (8.0, 8.0, 8.0))
    crop_xyz: BoxXYZ | None = key("Part of the source to use, in the source's coordinates; null: all.", None)
    clahe: Clahe | None = key("Contrast equalisation before anything else; null: none.", None)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.crop_xyz is not None:
            check_box(self.crop_xyz, "crop_xyz")
        if min(self.voxel_size_nm_xyz) <= 0:
            raise ValueError("voxel_size_nm_xyz must be positive")
        return self


class BodyTable(Model):
    """A table of (supervoxel, body) rows: labels are supervoxels, and the table maps them to neurons."""

    path: str = key("HDF5 file with the table.")
    dataset: str = key("Dataset of shape (rows, 2).", "transforms")


class Labels(Model):
    """Proofread labels of the image, or of a part of it."""

    source: Source = key("Where they come from; a phantom brings its own.")
    box_xyz: BoxXYZ | None = key("The part of the image source that they cover; null: all of it.", None)
    body_table: BodyTable | None = key("Maps supervoxels to bodies; null: the labels are neurons already.", None)


class Storage(Model):
    """How layers are stored."""

    chunk_size_xyz: SizeXYZ = key("Chunks of the precomputed layers, voxels.", (64, 64, 64))
    mips: NonNegative = key("Coarser levels of each pyramid, at most.", 2)
