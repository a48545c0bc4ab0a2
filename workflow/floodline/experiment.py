"""One experiment's folder: its configuration, and where every result lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from floodline import config as configuration
from floodline.errors import FloodlineError
from floodline.geometry import Box, tile
from floodline.manifest import hash_of, read_json

MAIN = "main"


@dataclass(frozen=True)
class Experiment:
    """`results/<experiment>/`, with the names that the stages agree on.

    A layer is a folder in Neuroglancer's precomputed format with a `manifest.json`, which is written last and is the
    output that Snakemake sees. Voxels, meshes and skeletons may lie in an object store (`storage.layers`); manifests
    and tables are always here.

    Attributes:
        run: which training: `main`, or a cell of the experiment's study, which has a configuration and a model of its
            own.
    """

    folder: Path
    run: str = MAIN

    @cached_property
    def config(self) -> configuration.Config:
        """The resolved configuration.

        Raises:
            FloodlineError: the folder is no experiment, or its study has no such cell.
        """
        path = self.folder / "config.yaml"
        if not path.is_file():
            raise FloodlineError(
                f"{path} does not exist: make the experiment's folder with `floodline configure`, or run snakemake."
            )
        config = configuration.load(path)
        if self.run == MAIN:
            return config
        cells = configuration.cells(config)
        if self.run not in cells:
            raise FloodlineError(f"{self.run} is no cell of the study {config.name}; there is {next(iter(cells))}.")
        return cells[self.run].config

    def layer(self, name: str) -> Path | str:
        """Folder or URL of a layer: image, labels, supervoxels, flood_probability, candidates or neurons."""
        if self.config.storage.layers is None:
            return self.folder / name
        return f"{self.config.storage.layers.rstrip('/')}/{self.config.name}/{name}"

    def beside(self, name: str) -> Path:
        """The folder with the manifest and the tables of a layer; its voxels may be in an object store."""
        return self.folder / name

    def manifest(self, name: str) -> Path:
        """The manifest of a layer or of the inference block store."""
        return self.beside(name) / "manifest.json"

    @property
    def partitions(self) -> Path:
        return self.folder / "partitions.h5"

    @property
    def coordinates(self) -> Path:
        return self.folder / "coordinates"

    @property
    def training(self) -> Path:
        return self.folder / "training" / self.run

    @property
    def model(self) -> Path:
        return self.folder / "model" if self.run == MAIN else self.training / "model"

    @property
    def inference(self) -> Path:
        return self.folder / "inference"

    @property
    def agglomeration(self) -> Path:
        return self.folder / "agglomeration"

    @property
    def connectome(self) -> Path:
        return self.folder / "connectome"

    @property
    def quality(self) -> Path:
        return self.folder / "quality"

    @property
    def metrics(self) -> Path:
        return self.folder / "evaluation" / "metrics.json"

    @cached_property
    def image_box(self) -> Box:
        """The image as it was ingested."""
        return Box.of(read_json(self.manifest("image"))["box_xyz"])

    @property
    def labelled_boxes(self) -> list[Box]:
        """The boxes that are labelled; what lies between them is not."""
        return [Box.of(corners) for corners in read_json(self.manifest("labels"))["boxes_xyz"]]

    def normalisation(self) -> tuple[float, float]:
        """Mean and standard deviation that the network's input is normalised with."""
        measured = read_json(self.manifest("image"))
        wanted = self.config.inference
        mean = measured["mean"] if wanted.image_mean is None else wanted.image_mean
        stddev = measured["stddev"] if wanted.image_stddev is None else wanted.image_stddev
        return float(mean), float(stddev)

    @cached_property
    def subvolumes(self) -> list[Box]:
        """The sub-volumes of inference, x fastest."""
        return tile(self.image_box, self.config.inference.subvolume_size_xyz, self.config.overlap_xyz)

    def block(self, subvolume: Box) -> Path:
        """The inference result of a sub-volume."""
        return self.inference / "blocks" / f"{subvolume.name}.block"

    def shard(self, shard: int) -> Path:
        """Says that a shard of the inference is done."""
        return self.inference / "shards" / f"{shard}.json"

    def unfinished(self, stage: str) -> Path:
        """What a stage keeps on its way, and deletes when it is done."""
        return self.folder / "unfinished" / stage

    def rng(self, purpose: str) -> np.random.Generator:
        """A random generator that depends on the configured seed and on what it is for, and on nothing else."""
        return np.random.default_rng(int(hash_of([self.config.seed, purpose]), 16))
