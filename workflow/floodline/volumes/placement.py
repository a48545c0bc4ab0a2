"""Where a volume lies and how large its voxels are, from what files say in their own units."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from floodline.geometry import Triple, triple

logger = logging.getLogger("floodline")

Size = tuple[float, float, float]

NANOMETRES = {
    **dict.fromkeys(("nm", "nanometer", "nanometre", "nanometers"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "micrometers"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters"), 1e6),
    **dict.fromkeys(("m", "meter", "metre", "meters"), 1e9),
    **dict.fromkeys(("a", "å", "angstrom", "angstroms"), 0.1),
}
"""How many a unit has, by its names in lower case."""


@dataclass(frozen=True)
class Placement:
    """What a file says: None, and the origin, where it says nothing."""

    voxel_size_nm_xyz: Size | None = None
    start_xyz: Triple = (0, 0, 0)


def placed(name: str, sizes_xyz: Any, units_xyz: Sequence[str | None], offsets_xyz: Any = None) -> Placement:
    """The placement by voxel sizes and by the place of the first voxel, three numbers each in these units, x, y, z.

    Sizes that are not positive, and units that are no lengths, say nothing. A place between voxels becomes the nearest
    voxel's, with a warning.
    """
    factors = [NANOMETRES.get((unit or "").strip().lower()) for unit in units_xyz]
    if None in factors or not all(isfinite(size) and size > 0 for size in sizes_xyz):
        return Placement()
    # Without the last digits that fractions and micrometres bring.
    x, y, z = (round(float(size) * float(nm or 0), 6) for size, nm in zip(sizes_xyz, factors, strict=True))
    if offsets_xyz is None:
        return Placement((x, y, z))
    voxels = [float(offset) / float(size) for offset, size in zip(offsets_xyz, sizes_xyz, strict=True)]
    start_xyz = triple(round(place) for place in voxels)
    if any(abs(place - whole) > 0.01 for place, whole in zip(voxels, start_xyz, strict=True)):
        logger.warning(
            "%s begins between voxels, at %s; it is taken to begin at %s.",
            name, [round(place, 3) for place in voxels], list(start_xyz),
        )  # fmt: skip
    return Placement((x, y, z), start_xyz)
