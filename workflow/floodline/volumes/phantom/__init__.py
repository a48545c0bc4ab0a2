"""A generated volume that looks like neuropil in an electron microscope at about 8 nm, with true labels.

It is packed with branching neurites of varied calibre that touch everywhere, so that a pipeline can be tried, and a
network trained and scored, without data. A volume depends on its size and its seed, and on nothing else.
"""

from __future__ import annotations

import numpy as np

from floodline.geometry import Triple
from floodline.volumes.phantom.anatomy import grow
from floodline.volumes.phantom.appearance import render


def labels(shape_zyx: Triple, seed: int) -> np.ndarray:
    """The neurites' numbers (z, y, x), uint64 from 1; 0 in the membranes between them."""
    return grow(shape_zyx, seed).labels.astype(np.uint64)


def image(shape_zyx: Triple, seed: int) -> np.ndarray:
    """What the microscope shows of the same neurites (z, y, x), uint8."""
    return render(grow(shape_zyx, seed), seed)
