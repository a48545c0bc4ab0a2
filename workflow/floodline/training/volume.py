"""The volume that is trained on, held in memory: image, labels and the sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.sites import read_coordinates
from floodline.geometry import Box, Triple
from floodline.volumes.layer import Layer


@dataclass(frozen=True)
class TrainingVolume:
    """Image (uint8) and labels (any integers, 0 = not labelled) of one box, z, y, x.

    Attributes:
        sites_zyx: centres of examples as indices into the arrays, (n, 3).
        mean, stddev: for the normalisation of the image.
    """

    image: np.ndarray
    labels: np.ndarray
    sites_zyx: np.ndarray
    mean: float
    stddev: float

    @classmethod
    def read(cls, experiment: Experiment, canvas_zyx: Triple) -> TrainingVolume:
        """Read the labelled part of the image that the configuration trains on.

        Raises:
            FloodlineError: no site has room for a whole example around it.
        """
        image, labels = Layer.open(experiment.layer("image")), Layer.open(experiment.layer("labels"))
        box = labels.box.intersection(image.box)
        if experiment.config.sites.box_xyz is not None:
            box = box.intersection(Box.of(experiment.config.sites.box_xyz))
        sites_xyz = read_coordinates(experiment.coordinates) - np.asarray(box.start_xyz)
        # Augmentation may turn any side of an example along any axis, so the longest one needs room everywhere.
        radius = max(canvas_zyx) // 2
        whole = np.all((sites_xyz >= radius) & (sites_xyz < np.asarray(box.size_xyz) - radius), axis=1)
        if not whole.any():
            raise FloodlineError(
                f"no training site in {experiment.coordinates} has room for an example of {max(canvas_zyx)} voxels "
                f"(network.fov_xyz + 2 * deltas_xyz * training.fov_moves) inside {box}: train on a larger box."
            )
        mean, stddev = experiment.normalisation()
        return cls(image.read(box), labels.read(box), sites_xyz[whole][:, ::-1].copy(), mean, stddev)
