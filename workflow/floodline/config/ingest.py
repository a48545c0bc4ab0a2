"""Ingest: what is done to grey values and to labels on their way in. The sources themselves are never changed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from floodline.config.base import MarginXYZ, Model, NonNegative, Positive, key

Percentage = Annotated[float, Field(ge=0, le=100)]


class Percentiles(Model):
    """16 bits to 8: what lies between two percentiles of the whole image fills the 8 bits, what lies beyond is cut."""

    low: Percentage = key("This percentile becomes 0.", 0.1)
    high: Percentage = key("... and this one 255.", 99.9)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


class Matching(Model):
    """Histogram matching: grey values change, their order never does."""

    by: Literal["section", "volume"] = key(
        "section: each z-slice gets the reference's distribution of grey values; volume: the image as a whole does.",
        "section",
    )
    reference: str | None = key(
        "A .npy or .json file with how often each grey value occurs in the reference, such as the image/histogram.npy "
        "of another experiment; null: the image as a whole.",
        None,
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.by == "volume" and self.reference is None:
            raise ValueError("matching by volume needs a reference: the image as a whole matches itself already")
        return self


class Clahe(Model):
    """Contrast-limited adaptive histogram equalisation, slice by slice."""

    kernel_size_xy: tuple[Positive, Positive] = key("Size of the contextual region, voxels.", (64, 64))
    clip_limit: Annotated[float, Field(gt=0, le=1)] = key("Clipping limit; larger gives more contrast.", 0.01)


class Normalisation(Model):
    """Grey values on their way in. What is wanted is done in this order."""

    fill: NonNegative | None = key(
        "Grey value of the source where nothing was imaged: such voxels stay as they are (in 8 bits at most 255) and "
        "count in no statistics; null: every voxel counts.",
        None,
    )
    invert: bool = key("Whether dark becomes bright: membranes must be darker than what they enclose.", False)
    to_8_bits: Percentiles | None = key("16 bits to 8; null: the type stays.", None)
    match: Matching | None = key("Histogram matching; null: none.", None)
    clahe: Clahe | None = key("Contrast equalisation; null: none.", None)


class Cleaning(Model):
    """Labels on their way in. What is wanted is done in this order, counted, and reported."""

    disconnected: Literal["keep", "split", "largest"] = key(
        "What becomes of an object in pieces that touch nowhere, not even at a corner: keep it; split it, where the "
        "largest piece keeps the id; or keep the largest piece alone.",
        "keep",
    )
    min_voxels: NonNegative = key("Smaller objects are removed; 0: none.", 0)
    fill_holes: bool = key(
        "Whether unlabelled places that one object encloses wholly, away from the outer faces of the labels, become "
        "part of it.",
        False,
    )
    erode_xyz: MarginXYZ = key(
        "A voxel becomes unlabelled where something else than its own object is this near along all axes.", (0, 0, 0)
    )
