"""Examples: a crop of the image around a site, and what the network should answer there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from floodline.config import Defects
from floodline.geometry import Triple
from floodline.training.defects import worsen
from floodline.training.volume import TrainingVolume

INSIDE, OUTSIDE = np.float32(0.95), np.float32(0.05)
"""Soft labels of the object at the centre, and of everything else."""

AXES_ZYX = "zyx"


@dataclass(frozen=True)
class Turn:
    """A permutation of the axes, and the axes that are then reflected: 48 at most, as the cube has symmetries."""

    permutation: Triple = (0, 1, 2)
    reflected: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def draw(cls, rng: np.random.Generator, permutable: Sequence[str], reflectable: Sequence[str]) -> Turn:
        """A uniform random permutation of the permutable axes, then each reflectable axis with probability 1/2."""
        free = [AXES_ZYX.index(axis) for axis in permutable]
        order = list(permutations(free))[rng.integers(len(list(permutations(free))))]
        axes = [0, 1, 2]
        for place, axis in zip(free, order, strict=True):
            axes[place] = axis
        z, y, x = (bool(rng.integers(2)) and axis in reflectable for axis in AXES_ZYX)
        return cls((axes[0], axes[1], axes[2]), (z, y, x))

    def source_shape(self, shape: Triple) -> Triple:
        """Shape of the crop that has `shape` once it is turned."""
        source = [0, 0, 0]
        for size, axis in zip(shape, self.permutation, strict=True):
            source[axis] = size
        return source[0], source[1], source[2]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view of a (z, y, x) array, permuted and then reflected."""
        z, y, x = (slice(None, None, -1 if flip else 1) for flip in self.reflected)
        return array.transpose(self.permutation)[z, y, x]


@dataclass(frozen=True)
class Example:
    """Normalised image and soft labels of one object, both float32 (z, y, x), the site at the centre.

    Attributes:
        counted: voxels (boolean) that are scored; None: all.
    """

    image: np.ndarray
    target: np.ndarray
    counted: np.ndarray | None = None


def crop(volume: np.ndarray, centre_zyx: Sequence[int], shape: Triple) -> np.ndarray:
    """The view of a given odd shape around a voxel."""
    z, y, x = (slice(c - s // 2, c - s // 2 + s) for c, s in zip(centre_zyx, shape, strict=True))
    return volume[z, y, x]


def cut(
    volume: TrainingVolume,
    site_zyx: Sequence[int],
    shape: Triple,
    turn: Turn = Turn(),
    defects: Defects | None = None,
    rng: np.random.Generator | None = None,
) -> Example:
    """The example of a site: its object is the label at its centre; at an unlabelled centre there is none.

    Args:
        shape: of the example, once it is turned.
        defects: what its image suffers; None: nothing.
        rng: decides where the defects are.
    """
    source = turn.source_shape(shape)
    image = crop(volume.image, site_zyx, source).astype(np.float32)
    image -= np.float32(volume.mean)
    image /= np.float32(volume.stddev)
    if defects is not None and rng is not None:
        image = worsen(image, defects, rng)
    label = volume.labels[tuple(site_zyx)]
    # Compared before they are turned, while the rows still lie one after the other.
    inside = (crop(volume.labels, site_zyx, source) == label) & (label > 0)
    return Example(image=turn.apply(image), target=turn.apply(np.where(inside, INSIDE, OUTSIDE)))
