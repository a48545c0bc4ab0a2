"""What every block of the configuration is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from floodline.geometry import Box

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
SizeXYZ = tuple[Positive, Positive, Positive]
MarginXYZ = tuple[NonNegative, NonNegative, NonNegative]
PointXYZ = tuple[int, int, int]
BoxXYZ = tuple[PointXYZ, PointXYZ]


class Model(BaseModel):
    """Base of every block: immutable, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def key(description: str, default: Any = ..., **more: Any) -> Any:
    """A documented key."""
    if default is not ... and not isinstance(default, int | float | str | bool | tuple | None):
        return Field(default_factory=default, description=description, **more)
    return Field(default, description=description, **more)


def check_box(box: BoxXYZ, key: str) -> None:
    if Box.of(box).is_empty:
        raise ValueError(f"{key} {[list(corner) for corner in box]} is empty: each stop must exceed its start")
