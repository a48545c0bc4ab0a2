"""The volumes that are trained on: image, labels and sites of each, memory-mapped, so that all ranks share them.

The first rank reads each training box once from its layers into two plain files, in slabs; then every rank maps these.
The system keeps in memory what is used, once a node. The files are of no use after the training, and are deleted.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.sites import read_coordinates
from floodline.geometry import Box, Triple, blocks, to_xyz, to_zyx, triple
from floodline.manifest import read_json
from floodline.parallel import Ranks
from floodline.training.scale import Scale
from floodline.volumes.layer import Layer


@dataclass(frozen=True)
class TrainingVolume:
    """Image (unsigned integers) and labels (any integers, 0 = not labelled) of one box, z, y, x.

    Attributes:
        sites_zyx: centres of examples as indices into the arrays, (n, 3).
        mean, stddev: for the normalisation of the image.
        weight: how often an example is drawn from it.
    """

    image: np.ndarray
    labels: np.ndarray
    sites_zyx: np.ndarray
    mean: float
    stddev: float
    weight: float = 1.0


@dataclass(frozen=True)
class _Wanted:
    """A volume that the configuration names."""

    experiment: Experiment
    name: str
    box: Box
    scale: Scale
    weight: float

    @classmethod
    def of(cls, experiment: Experiment, name: str, weight: float, voxel_size_nm_xyz: Sequence[float] | None) -> _Wanted:
        """The labelled part of an experiment's image that its configuration trains on.

        Args:
            name: what to call it, unlike any other.
            voxel_size_nm_xyz: to bring it to; None: as it is.
        """
        image = Box.of(read_json(experiment.manifest("image"))["box_xyz"])
        box = Box.of(read_json(experiment.manifest("labels"))["box_xyz"]).intersection(image)
        if experiment.config.sites.box_xyz is not None:
            box = box.intersection(Box.of(experiment.config.sites.box_xyz))
        own = read_json(experiment.manifest("image"))["voxel_size_nm_xyz"]
        return cls(experiment, name, box, Scale.between(own, voxel_size_nm_xyz or own), weight)

    def files(self, folder: Path, number: int) -> tuple[Path, Path]:
        return folder / f"{number}-image.npy", folder / f"{number}-labels.npy"

    def read(self, folder: Path, number: int, room_zyx: Triple, margin_xyz: Triple) -> TrainingVolume:
        """Map the files that `write_files` has written.

        Args:
            room_zyx: that an example needs around its site.
            margin_xyz: that a site keeps from held-out boxes, in voxels as they are trained on.

        Raises:
            FloodlineError: this rank does not see them, or no site has room for a whole example around it.
        """
        try:
            image, labels = (np.load(path, mmap_mode="r") for path in self.files(folder, number))
        except OSError as error:
            raise FloodlineError(
                f"{folder} cannot be read ({error.strerror or error}): all nodes must share the experiment's folder."
            ) from None
        mean, stddev = self.experiment.normalisation()
        return TrainingVolume(image, labels, self._sites_zyx(room_zyx, margin_xyz), mean, stddev, self.weight)

    def _sites_zyx(self, room_zyx: Triple, margin_xyz: Triple) -> np.ndarray:
        """Sites around which a whole example lies in one labelled box and outside of every held-out box.

        The partitions know the margin, too, but that of the network and the voxel size that they were made for.
        """
        sites_xyz = self.scale.places(read_coordinates(self.experiment.coordinates) - np.array(self.box.start_xyz))
        radius = np.array(to_xyz(room_zyx)) // 2
        origin, factors = np.array(self.box.start_xyz), np.array(self.scale.factors_xyz)
        whole = np.zeros(len(sites_xyz), bool)
        for labelled in self.experiment.labelled_boxes:
            part = labelled.intersection(self.box)
            low = np.ceil((np.array(part.start_xyz) - origin) / factors) + radius
            high = np.floor((np.array(part.stop_xyz) - origin) / factors) - radius
            whole |= np.all((sites_xyz >= low) & (sites_xyz < high), axis=1)
        distance = np.maximum(radius, margin_xyz)
        for corners in self.experiment.config.sites.held_out_xyz:
            held_out = Box.of(corners)
            low = np.floor((np.array(held_out.start_xyz) - origin) / factors) - distance
            high = np.ceil((np.array(held_out.stop_xyz) - origin) / factors) + distance
            whole &= ~np.all((sites_xyz >= low) & (sites_xyz < high), axis=1)
        if not whole.any():
            raise FloodlineError(
                f"no training site in {self.experiment.coordinates} has room for an example of "
                f"{list(to_xyz(room_zyx))} voxels (network.fov_xyz + 2 * deltas_xyz * training.fov_moves) inside "
                f"{self.box} and outside of sites.held_out_xyz, a field of view from these: train on a larger box."
            )
        return np.ascontiguousarray(sites_xyz[whole][:, ::-1])

    def write_files(self, folder: Path, number: int) -> str:
        """Read image and labels from their layers into plain files.

        Returns:
            Hash of both, as they are trained on.
        """
        digest = hashlib.blake2b(digest_size=16)
        image, labels = (Layer.open(self.experiment.layer(name)) for name in ("image", "labels"))
        image_file, labels_file = self.files(folder, number)
        self._write(image_file, image, partial(self.scale.interpolated, image.read, self.box), digest.update)
        self._write(labels_file, labels, partial(self.scale.nearest, labels.read, self.box), digest.update)
        return digest.hexdigest()

    def _write(
        self, path: Path, layer: Layer, read: Callable[[Box], np.ndarray], update: Callable[[Any], None]
    ) -> None:
        """Fill a file slab by slab, so that memory holds a slab whatever the size of the box.

        It is written and not mapped: where a disk is full, writing to a map ends the process without a word.
        """
        whole = Box.sized((0, 0, 0), self.scale.size(self.box.size_xyz))
        dtype = np.dtype(layer.dtype)
        header = {"descr": dtype.str, "fortran_order": False, "shape": whole.shape_zyx}
        try:
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for slab in blocks(whole, (*whole.size_xyz[:2], layer.chunk_size_xyz[2])):
                    values = np.ascontiguousarray(read(slab), dtype)
                    file.write(values.data)
                    update(values)
        except OSError as error:
            raise FloodlineError(f"cannot write {path}: {error.strerror or error}.") from error


class Volumes:
    """All volumes of a training.

    Attributes:
        hashes: of their contents, the experiment's own by its name, others by their keys; known to the first rank only.
    """

    def __init__(self, volumes: list[TrainingVolume], hashes: dict[str, str], folder: Path) -> None:
        self.volumes, self.hashes, self.folder = volumes, hashes, folder
        weights = np.array([volume.weight for volume in volumes])
        self.shares = weights / weights.sum()

    @classmethod
    def open(cls, experiment: Experiment, training: config.Training, canvas_zyx: Triple, ranks: Ranks) -> Volumes:
        """The experiment's own volume and those that `training.volumes` names.

        Raises:
            FloodlineError: one of them has no training sites, or none with room for an example.
        """
        folder = experiment.training / "volumes"
        wanted = _wanted(experiment, training)
        hashes: dict[str, str] = {}
        if ranks.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for number, one in enumerate(wanted):
                hashes[one.name] = one.write_files(folder, number)
        ranks.wait()
        room_zyx = _room(canvas_zyx, training.permutable_axes)
        margin_xyz = to_xyz(_room(to_zyx(experiment.config.network.fov_xyz), training.permutable_axes))
        volumes = [one.read(folder, number, room_zyx, margin_xyz) for number, one in enumerate(wanted)]
        return cls(volumes, hashes, folder)

    def draw(self, rng: np.random.Generator) -> tuple[TrainingVolume, Triple]:
        """A volume, in proportion to its weight, and one of its sites (z, y, x)."""
        volume = self.volumes[rng.choice(len(self.volumes), p=self.shares) if len(self.volumes) > 1 else 0]
        return volume, triple(volume.sites_zyx[rng.integers(len(volume.sites_zyx))])

    def close(self) -> None:
        """Delete the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _wanted(experiment: Experiment, training: config.Training) -> list[_Wanted]:
    voxel_size = read_json(experiment.manifest("image"))["voxel_size_nm_xyz"]
    own = _Wanted.of(experiment, experiment.config.name, 1.0, None)
    return [own] + [
        _Wanted.of(
            Experiment(Path(other.experiment)),
            f"training.volumes[{number}]",
            other.weight,
            voxel_size if other.resample else None,
        )
        for number, other in enumerate(training.volumes)
    ]


def _room(canvas_zyx: Triple, permutable: Sequence[str]) -> Triple:
    """What an example needs however it is turned: augmentation may lay any permuted side along any permuted axis."""
    longest = max((size for size, axis in zip(canvas_zyx, "zyx", strict=True) if axis in permutable), default=0)
    return triple(longest if axis in permutable else size for size, axis in zip(canvas_zyx, "zyx", strict=True))


def identity(experiment: Experiment) -> dict[str, object]:
    """What decides the content of all volumes, short of reading them, for a hash of the training."""
    training = experiment.config.training
    folders = [experiment.folder] + [Path(other.experiment) for other in (training.volumes if training else ())]
    return {
        str(number): {
            "normalisation": one.normalisation(),
            "held_out": one.config.sites.model_dump(mode="json")["held_out_xyz"],
            "image": read_json(one.manifest("image")),
            "labels": read_json(one.manifest("labels")),
            "coordinates": read_json(one.coordinates / "manifest.json"),
        }
        for number, one in enumerate(map(Experiment, folders))
    }
