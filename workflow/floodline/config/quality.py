"""Quality control of the image."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from floodline.config.base import Fraction, Model, Positive, key

TileSide = Annotated[int, Field(ge=32)]


class Quality(Model):
    """Quality control of the image as its source has it. Sections are compared with their neighbours, so that slow
    changes along the volume are no findings."""

    tile_xy: tuple[TileSide, TileSide] = key(
        "Sections are looked at in tiles of this size: the damage of a part of a section is found there.", (1024, 1024)
    )
    window: Annotated[int, Field(ge=5)] = key("Sections around one that say what is usual there.", 21)
    black: Fraction = key("black: the mean grey value is below this part of the usual one.", 0.25)
    repeated: Fraction = key(
        "repeated: what the section does not share with the one before it (1 - correlation) is below this part of the "
        "usual.",
        0.2,
    )
    blurred: Fraction = key("blurred: the sharpness is below this part of the usual.", 0.6)
    shifted_voxels: Positive = key("shifted: the section fits its neighbours best so far away, or farther.", 2)
    jump: Annotated[float, Field(gt=1)] = key(
        "jump: a section and the one before it differ (1 - correlation) more than this many times as much as is usual: "
        "sections may be absent between them.",
        1.6,
    )
    low_contrast: Fraction = key("low_contrast: the standard deviation is below this part of the usual.", 0.6)
    min_stddev: Annotated[float, Field(ge=0)] = key("... or below so many grey values.", 4.0)
    saturated: Fraction = key(
        "saturated: so large a part of the voxels have the lowest or the highest grey value of the type.", 0.01
    )
