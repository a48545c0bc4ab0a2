"""Masks: places that partitions, seeds or floods keep away from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from floodline.config.base import BoxXYZ, MarginXYZ, Model, NonNegative, Positive, SizeXYZ, check_box, key
from floodline.config.volumes import Source

Purpose = Literal["sites", "seeds", "floods"]


class _Mask(Model):
    closed_to: tuple[Purpose, ...] = key(
        "Who keeps away. sites: no training site has a masked voxel in its box of sites.lom_radius_xyz; seeds: no "
        "flood starts in the mask; floods: no field of view is centred in it, so no flood starts there either.",
        ("sites", "seeds", "floods"),
    )
    invert: bool = key("Whether everything else is masked instead.", False)


class VolumeMask(_Mask):
    """Voxels of a volume: a tissue mask, blood vessels, cell bodies, the labels of a tissue classifier."""

    kind: Literal["volume"]
    source: Source = key("The volume; it covers the image.")
    scale_xyz: SizeXYZ | None = key(
        "Image voxels that one of its voxels covers, counted from the origin of the image source's coordinates; null: "
        "by the voxel size that it states, else 1.",
        None,
    )
    values: tuple[int, ...] | None = key("Values that are masked; null: all but 0, unless min or max is given.", None)
    min: float | None = key("Masked, too: from this value on; null: from the lowest.", None)
    max: float | None = key("... up to this one; null: to the highest.", None)


class IntensityMask(_Mask):
    """Grey values of the image itself, as ingested."""

    kind: Literal["intensity"]
    min: float | None = key("Masked from this grey value on; null: from the lowest.", None)
    max: float | None = key("... up to this one; null: to the highest.", None)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a mask by intensity needs min or max")
        return self


class BoxMask(_Mask):
    """Boxes."""

    kind: Literal["box"]
    boxes_xyz: tuple[BoxXYZ, ...] = key("In the image source's coordinates.")

    @model_validator(mode="after")
    def _valid(self) -> Self:
        for box in self.boxes_xyz:
            check_box(box, "boxes_xyz")
        return self


class BorderMask(_Mask):
    """The border of the image."""

    kind: Literal["border"]
    width_xyz: MarginXYZ = key("Voxels nearer to a face of the image than this.", (16, 16, 16))


class FillMask(_Mask):
    """Where nothing was imaged: squares of one grey value, slice by slice, as ingested."""

    kind: Literal["fill"]
    value: NonNegative = key("The grey value.", 0)
    square: Positive = key(
        "Masked is whatever a square of this side covers without meeting another grey value: single black voxels of "
        "tissue are not.",
        8,
    )


class ResinMask(_Mask):
    """Empty resin: where the image, as ingested, is featureless."""

    kind: Literal["resin"]
    radius_xyz: MarginXYZ = key("The box around a voxel that is looked at has this radius.", (16, 16, 4))
    max_stddev: Annotated[float, Field(gt=0)] = key(
        "Masked is where the standard deviation of the grey values in that box is at most this part of that of the "
        "whole image.",
        0.3,
    )


class QualityMask(_Mask):
    """What the quality control of the image found."""

    kind: Literal["quality"]
    findings: tuple[str, ...] | None = key(
        "Kinds of findings: missing, black, repeated, blurred, shifted, jump, low_contrast, saturated; null: all.", None
    )
    margin_z: NonNegative = key("Sections before and after that are masked with it.", 0)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        unknown = set(self.findings or ()) - set(FINDINGS)
        if unknown:
            raise ValueError(f"there is no finding '{min(unknown)}': they are {', '.join(FINDINGS)}")
        return self


FINDINGS = ("missing", "black", "repeated", "blurred", "shifted", "jump", "low_contrast", "saturated")
"""What the quality control can find."""

Mask = Annotated[
    VolumeMask | IntensityMask | BoxMask | BorderMask | FillMask | ResinMask | QualityMask,
    Field(discriminator="kind"),
]
