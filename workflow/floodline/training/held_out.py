"""Patches of held-out boxes, scored as the training's own patches are, by the network as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from floodline.config import Training
from floodline.experiment import Experiment
from floodline.ffn.flood import Predict
from floodline.ffn.sites import read_coordinates
from floodline.geometry import Box, Triple, to_xyz
from floodline.manifest import read_json
from floodline.parallel import Ranks
from floodline.training.batches import Batches, Place
from floodline.training.examples import Example, cut
from floodline.training.metrics import Counts
from floodline.training.movement import Geometry, Patch
from floodline.training.volume import TrainingVolume
from floodline.volumes.layer import Layer


@dataclass(frozen=True)
class HeldOut:
    """This rank's share of the held-out examples.

    Attributes:
        makers: each gives an example with an empty canvas, every time the same.
        batch_size: of a call of the network: no more than what a step of training holds at once.
    """

    makers: list[Callable[[], Patch]]
    geometry: Geometry
    batch_size: int

    @classmethod
    def read(cls, experiment: Experiment, training: Training, geometry: Geometry, ranks: Ranks) -> HeldOut:
        """Examples at the held-out sites that the labels stage has drawn; none where nothing is held out.

        The network may look beyond the held-out box, as it does in inference; only voxels inside of it are scored.
        """
        manifest = read_json(experiment.coordinates / "manifest.json")
        sites_xyz = read_coordinates(experiment.coordinates, manifest.get("held_out_files", []))
        image = Layer.open(experiment.layer("image"))
        x, y, z = to_xyz([size // 2 for size in geometry.canvas])
        inner = image.box.grown((-x, -y, -z))
        inside = [site for site in sites_xyz.tolist() if inner.contains_point(site)][: training.held_out_patches]
        makers = [
            _maker(_example(experiment, image, site, geometry.canvas), geometry, experiment, number)
            for number, site in enumerate(inside)
            if number % ranks.size == ranks.rank
        ]
        return cls(makers, geometry, min(training.batch_size, training.micro_batch or training.batch_size))

    def count(self, predict: Predict) -> Counts:
        """Go through all examples as training does, but without learning."""
        counts = Counts()
        shares = [self.makers[place :: self.batch_size] for place in range(self.batch_size)]
        batches = Batches([Place((make() for make in share), counts.add) for share in shares], self.geometry)
        while batches.any_left:
            batch = batches.gather()
            batches.scatter(predict(batch.image, batch.seed))
        return counts


def _maker(example: Example, geometry: Geometry, experiment: Experiment, number: int) -> Callable[[], Patch]:
    return lambda: Patch(example, geometry, experiment.rng(f"held-out patch {number}"))


def _example(experiment: Experiment, image: Layer, site_xyz: list[int], canvas: Triple) -> Example:
    """The example of a site; voxels outside of the labelled boxes, and of the site's held-out box, are not scored."""
    start_xyz = [s - c // 2 for s, c in zip(site_xyz, to_xyz(canvas), strict=True)]
    box = Box.sized(start_xyz, to_xyz(canvas))
    layer = Layer.open(experiment.layer("labels"))
    labels = np.zeros(canvas, np.uint64)
    known = box.intersection(layer.box)
    labels[known.slices_zyx(box.start_xyz)] = layer.read(known)
    held_out = [Box.of(corners) for corners in experiment.config.sites.held_out_xyz]
    counted = np.zeros(canvas, bool)
    for one in held_out:
        for labelled in experiment.labelled_boxes:
            common = one.intersection(labelled).intersection(box)
            if one.contains_point(site_xyz) and not common.is_empty:
                counted[common.slices_zyx(box.start_xyz)] = True
    z, y, x = (size // 2 for size in canvas)
    volume = TrainingVolume(image.read(box), labels, np.array([[z, y, x]]), *experiment.normalisation())
    example = cut(volume, (z, y, x), canvas)
    return Example(example.image, example.target, counted)
