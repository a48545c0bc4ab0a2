"""Volumes: where image and labels come from, and how layers are stored."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from floodline.config.base import BoxXYZ, Model, NonNegative, SizeXYZ, check_box, key
from floodline.config.ingest import Cleaning, Normalisation
from floodline.geometry import Box

PhantomSide = Annotated[int, Field(ge=16)]


class PhantomSource(Model):
    """A generated volume that looks like EM, with true labels; `seed` decides what it looks like."""

    kind: Literal["phantom"]
    size_xyz: tuple[PhantomSide, PhantomSide, PhantomSide] = key(
        "Size of the generated volume, voxels.", (160, 160, 160)
    )


class StackSource(Model):
    """A folder of PNG, JPEG or TIFF slices, one file a z, in natural order of their names; or one multi-page TIFF."""

    kind: Literal["stack"]
    path: str = key("Folder, file or glob pattern.")


class Hdf5Source(Model):
    """A three-dimensional dataset (z, y, x) of an HDF5 file.

    Attributes of the dataset, or of a group that it lies in, may say its voxel size (`resolution` or `voxel_size` in
    nanometres, `element_size_um`) and where it begins (`offset` in nanometres), all z, y, x.
    """

    kind: Literal["hdf5"]
    path: str = key("The file.")
    dataset: str = key("Path of the dataset inside the file.")


class PrecomputedSource(Model):
    """A Neuroglancer precomputed layer, in a folder or at a URL: s3://, gs://, http://, https://."""

    kind: Literal["precomputed"]
    path: str = key("Folder or URL of the layer.")
    mip: NonNegative = key("Level of the pyramid to read; its voxels become mip 0 here.", 0)


class ChunkedSource(Model):
    """An array of Zarr 2, Zarr 3 or N5, or an image of OME-Zarr 0.4 or 0.5, in a folder or at a URL.

    Axes of length one before the three of space are left out. What the array or its group says of voxel size and place
    holds: the transformations of OME-Zarr; `resolution` or `voxel_size`, and `offset`, of plain Zarr (nanometres;
    z, y, x); `transform`, `pixelResolution` or `resolution`, and `offset`, of N5 (x, y, z).
    """

    kind: Literal["zarr", "n5"] = key("The format.")
    path: str = key("Folder or URL of the array, or of the group that holds a pyramid.")
    mip: NonNegative = key("Level of the pyramid to read; its voxels become mip 0 here.", 0)


class FileSource(Model):
    """One file with a header: NRRD, MRC or NIfTI.

    What the header says of voxel size and place holds, if it names its unit; the 1 Å that MRC files carry unless told
    otherwise says nothing. A file that is compressed as a whole is unpacked into the temporary folder first.
    """

    kind: Literal["nrrd", "mrc", "nifti"] = key("The format.")
    path: str = key("The file.")


class RawSource(Model):
    """A file of nothing but voxels, x running fastest."""

    kind: Literal["raw"]
    path: str = key("The file.")
    size_xyz: SizeXYZ = key("Size of the volume, voxels.")
    dtype: Literal["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"] = key(
        "Type of a voxel.", "uint8"
    )
    byte_order: Literal["little", "big"] = key("Which byte of a voxel comes first.", "little")
    header_bytes: NonNegative = key("Bytes before the first voxel.", 0)


Source = Annotated[
    PhantomSource | StackSource | Hdf5Source | PrecomputedSource | ChunkedSource | FileSource | RawSource,
    Field(discriminator="kind"),
]


class Image(Model):
    """The EM volume."""

    source: Source = key("Where it comes from.")
    voxel_size_nm_xyz: tuple[float, float, float] | None = key(
        "Voxel size in nanometres; null: what the source says, which is 8 of a phantom. Of both, neither may "
        "contradict the other.",
        None,
    )
    crop_xyz: BoxXYZ | None = key("Part of the source to use, in the source's coordinates; null: all.", None)
    normalise: Normalisation = key("What is done to its grey values before anything else.", Normalisation)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.crop_xyz is not None:
            check_box(self.crop_xyz, "crop_xyz")
        if self.voxel_size_nm_xyz is not None and min(self.voxel_size_nm_xyz) <= 0:
            raise ValueError("voxel_size_nm_xyz must be positive")
        return self


class BodyTable(Model):
    """A table of (supervoxel, body) rows: labels are supervoxels, and the table maps them to neurons."""

    path: str = key("HDF5 file with the table; or a .csv or .parquet whose first two columns are supervoxel and body.")
    dataset: str = key("Of an HDF5 file: dataset of shape (rows, 2).", "transforms")


class LabelledBox(Model):
    """Labels of one box of the image."""

    source: Source = key("Where they come from.")
    box_xyz: BoxXYZ = key("The part of the image source that they cover.")


class BoxesSource(Model):
    """Labels of several boxes, each from a source of its own. What lies between the boxes is not labelled.

    A training site is so far inside of a box that all the network sees from there is labelled.
    """

    kind: Literal["boxes"]
    boxes: tuple[LabelledBox, ...] = key("The boxes, which have no voxel in common.", min_length=1)
    ids: Literal["of_each_box", "shared"] = key(
        "of_each_box: whoever labelled a box counted anew, so all ids of box i = 0, 1, 2, ... but 0 are raised by "
        "i * 10^12; shared: the same id in two boxes is the same object.",
        "of_each_box",
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        for number, one in enumerate(self.boxes):
            check_box(one.box_xyz, f"boxes.{number}.box_xyz")
            if isinstance(one.source, PhantomSource):
                raise ValueError(f"boxes.{number}.source: a phantom brings the labels of all of its volume")
            for other in range(number):
                if not Box.of(one.box_xyz).intersection(Box.of(self.boxes[other].box_xyz)).is_empty:
                    raise ValueError(f"boxes.{other} and boxes.{number} overlap: every voxel may have one label")
        return self


class Labels(Model):
    """Proofread labels of the image, or of a part of it."""

    source: Annotated[Source | BoxesSource, Field(discriminator="kind")] = key(
        "Where they come from; a phantom brings its own."
    )
    box_xyz: BoxXYZ | None = key(
        "The part of the image source that they cover; null: where their source says that they begin, else all of it.",
        None,
    )
    body_table: BodyTable | None = key("Maps supervoxels to bodies; null: the labels are neurons already.", None)
    clean: Cleaning = key("What is done to them after that.", Cleaning)

    @model_validator(mode="after")
    def _boxes(self) -> Self:
        if isinstance(self.source, BoxesSource):
            if self.box_xyz is not None:
                raise ValueError("box_xyz belongs to labels in one box: those of source.boxes say where they are")
            if self.source.ids == "of_each_box" and self.body_table is not None:
                raise ValueError("a body_table maps ids of all boxes: it needs source.ids: shared")
            if self.source.ids == "shared" and self.clean.disconnected != "keep":
                raise ValueError("clean.disconnected: objects that boxes share are in pieces; keep them")
        return self


class Storage(Model):
    """How layers are stored."""

    layers: Annotated[str, Field(pattern=r"^(s3|gs)://[^/]+(/.*)?$")] | None = key(
        "Where the voxels of all layers, meshes and skeletons go, below the experiment's name: s3://bucket/prefix or "
        "gs://bucket/prefix; null: into the experiment's folder. Manifests, tables and blocks stay in the folder.",
        None,
    )
    chunk_size_xyz: SizeXYZ = key("Chunks of the precomputed layers, voxels.", (64, 64, 64))
    mips: NonNegative = key("Coarser levels of each pyramid, at most.", 2)
