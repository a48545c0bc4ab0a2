"""Where floods may not go: tissue masks, seed masks and misaligned slices, as arrays of one sub-volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from floodline.geometry import Triple


@dataclass(frozen=True)
class Restriction:
    """Boolean arrays z, y, x of a sub-volume; None: nowhere.

    Attributes:
        closed: where the centre of the field of view may not be.
        seedless: where no flood may start, `closed` included.
    """

    closed: np.ndarray | None = None
    seedless: np.ndarray | None = None

    def forbids(self, position: Triple) -> bool:
        """Whether the field of view may not be centred here."""
        return self.closed is not None and bool(self.closed[position])

    def forbids_seed(self, position: Triple) -> bool:
        """Whether no flood may start here."""
        return self.seedless is not None and bool(self.seedless[position])


def near(large: np.ndarray, fov: Triple) -> np.ndarray:
    """Positions whose box of odd size `fov` (z, y, x) around them holds a voxel of `large` (boolean)."""
    return ndimage.maximum_filter(large, fov, mode="constant", cval=0)
