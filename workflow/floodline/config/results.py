"""Scores, and what is published."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from floodline.config.base import BoxXYZ, Model, NonNegative, Positive, SizeXYZ, check_box, key
from floodline.config.volumes import Source


class NamedBox(Model):
    """A box with a name."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = key("Its name in metrics.json.")
    box_xyz: BoxXYZ = key("The box, in the image source's coordinates.")


class NamedSource(Model):
    """A segmentation from elsewhere, with a name."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = key("Its name in metrics.json.")
    source: Source = key("Where it is, in the image source's coordinates.")


class Evaluation(Model):
    """Scores against the labels."""

    boxes: tuple[NamedBox, ...] = key("Parts that are scored; empty: all that is labelled.", ())
    segmentations: tuple[NamedSource, ...] = key(
        "Segmentations that are scored beside supervoxels and neurons: a published one, last week's.", ()
    )
    skeletons: bool = key("Whether to score along skeletons of the labels, too: run length and edge accuracy.", True)
    merge_threshold_nodes: NonNegative = key(
        "A segment is a merger in these scores if it covers more skeleton nodes (voxels) than this of each of two or "
        "more neurons.",
        50,
    )
    bootstrap_samples: NonNegative = key("Resamplings of blocks behind the intervals of the scores; 0: none.", 200)
    worst: NonNegative = key("Mergers and splits of each segmentation that worst.json lists, largest first.", 20)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        for box in self.boxes:
            check_box(box.box_xyz, f"evaluation box {box.name}")
        names = [box.name for box in self.boxes]
        if len(set(names)) != len(names):
            raise ValueError("evaluation.boxes must have different names")
        names = ["supervoxels", "neurons", *(segmentation.name for segmentation in self.segmentations)]
        if len(set(names)) != len(names):
            raise ValueError("evaluation.segmentations must have names of their own, not supervoxels or neurons")
        return self


class TableSynapses(Model):
    """A table of synapses: a point on either side of each."""

    kind: Literal["table"]
    path: str = key(
        "CSV or parquet file with the columns pre_x, pre_y, pre_z, post_x, post_y, post_z: voxels, in the image "
        "source's coordinates."
    )


class LayerSynapses(Model):
    """A label volume of synaptic clefts, an object each. It does not say which side is which."""

    kind: Literal["layer"]
    source: Source = key("Where it is, in the image source's coordinates.")


Synapses = Annotated[TableSynapses | LayerSynapses, Field(discriminator="kind")]


class Publishing(Model):
    """Meshes, skeletons, the connectome."""

    mesh_error_nm: NonNegative = key("Largest deviation of a simplified mesh.", 40)
    min_voxels: NonNegative = key("Smaller neurons get neither mesh nor skeleton.", 1000)
    mesh_levels: Positive = key("Coarser levels of detail of each mesh, at most.", 2)
    task_size_xyz: SizeXYZ = key("Meshes and skeletons are made in pieces of this size.", (256, 256, 256))
    sharded: bool = key("Few large files of meshes and skeletons in place of one a neuron.", False)
    data_url: str = key(
        "Where neuroglancer.json finds the experiment's folder; the default is where `floodline view` serves it.",
        "http://127.0.0.1:8080/data",
    )
    contact_gap_nm: NonNegative = key(
        "Neurons touch where the centres of their voxels are at most this far apart and no other neuron is between.", 60
    )
    synapses: Synapses | None = key("Synapses, for the graph of who synapses onto whom; null: none.", None)


class Export(Model):
    """The neurons once more, in a format that another program wants. Each is read back in part and compared."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = key("Its name in exports/.")
    kind: Literal["precomputed", "ome_zarr", "n5", "hdf5"] = key(
        "The format; all have the levels of the neurons' pyramid, but for HDF5, which has the finest."
    )
    path: str | None = key("File, folder or URL to write, and to replace; null: exports/<name> with an ending.", None)
    chunk_size_xyz: SizeXYZ = key("Size of its chunks, voxels.", (64, 64, 64))
    encoding: Literal["compressed_segmentation", "crackle", "raw"] = key(
        "precomputed: how chunks are compressed.", "compressed_segmentation"
    )
    sharded: bool = key("precomputed: few large files in place of one a chunk.", False)
    version: Literal["0.4", "0.5"] = key("ome_zarr: 0.4 is of Zarr 2, 0.5 of Zarr 3.", "0.5")

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.kind == "hdf5" and "://" in (self.path or ""):
            raise ValueError("an HDF5 file is written to a local path")
        return self
