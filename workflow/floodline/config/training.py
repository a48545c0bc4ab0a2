"""The network, its training sites and its training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from floodline.config.base import (
    BoxXYZ,
    Fraction,
    MarginXYZ,
    Model,
    NonNegative,
    Positive,
    Probability,
    SizeXYZ,
    check_box,
    key,
)
from floodline.config.volumes import Source


class Network(Model):
    """The flood-filling network (ConvStack3DFFN)."""

    depth: Annotated[int, Field(ge=1)] = key(
        "Residual modules, the first included; 12 in the published FIB-25 run.", 12
    )
    features: Positive = key("Feature maps of each hidden layer.", 32)
    fov_xyz: SizeXYZ = key("Field of view, odd numbers of voxels.", (33, 33, 33))
    deltas_xyz: MarginXYZ = key("Step of the field of view.", (8, 8, 8))
    weights: str | None = key(
        "Weights to start from: prefix of a TensorFlow checkpoint in the published layout, or a model/ folder; "
        "null: train from scratch.",
        None,
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if any(size % 2 == 0 for size in self.fov_xyz):
            raise ValueError(f"fov_xyz must be odd numbers, not {list(self.fov_xyz)}")
        if any(delta > size // 2 for delta, size in zip(self.deltas_xyz, self.fov_xyz, strict=True)):
            raise ValueError(f"deltas_xyz {list(self.deltas_xyz)} must not exceed half of fov_xyz {list(self.fov_xyz)}")
        return self


class Sites(Model):
    """Training sites: partitions by the local fraction of the object, and balanced coordinates."""

    box_xyz: BoxXYZ | None = key("Part of the labels to train on; null: all of them.", None)
    thresholds: tuple[Probability, ...] = key(
        "Fractions that separate the partitions.",
        (0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    )
    lom_radius_xyz: MarginXYZ | None = key(
        "Radius of the box in which the fraction is taken; null: fov // 2 + deltas.", None
    )
    min_size: NonNegative = key("Labels of fewer voxels (in box_xyz) are not trained on.", 10_000)
    only_labels: tuple[Positive, ...] | None = key("Labels to train on; null: all.", None)
    held_out_xyz: tuple[BoxXYZ, ...] = key(
        "Boxes that training does not see: no site lies within one field of view of them.", ()
    )
    exclusion_xyzr: tuple[tuple[int, int, int, NonNegative], ...] = key(
        "Balls without sites: x, y, z of the centre and the radius, voxels.", ()
    )
    mask: Source | None = key(
        "A volume in the image source's coordinates, not 0 where tissue is damaged: no site sees such a voxel in the "
        "box of lom_radius_xyz around it; null: none.",
        None,
    )
    max_per_partition: Positive | None = key(
        "Sites of each partition: as many as the largest has, but at most so many; null: no limit.", 100_000
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.box_xyz is not None:
            check_box(self.box_xyz, "sites.box_xyz")
        for box in self.held_out_xyz:
            check_box(box, "sites.held_out_xyz")
        if not self.thresholds or list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError("thresholds must rise")
        if len(self.thresholds) > 253:
            raise ValueError("thresholds must be at most 253: partitions are stored in bytes")
        return self


class LearningRate(Model):
    """Learning rate: base times its scaling with the workers, after a linear warm-up."""

    base: Annotated[float, Field(gt=0)] = key("Rate of one worker.", 1e-3)
    scaling: Literal["none", "linear", "sqrt"] = key("How it grows with the number of workers.", "sqrt")
    warmup_fovs: NonNegative = key("Length of the linear warm-up, in fields of view seen by all workers.", 0)
    decay: Literal["constant", "cosine", "steps"] = key("What follows the warm-up.", "constant")
    drop_fovs: Positive = key("decay steps: fields of view, seen by all workers, between two drops.", 1_000_000)
    drop_factor: Fraction = key("decay steps: what each drop leaves of the rate.", 0.5)


class Optimiser(Model):
    """How a gradient changes the weights; a kind takes of the other keys what it needs."""

    kind: Literal["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"] = key("The optimiser.", "adam")
    momentum: Fraction = key("momentum: what is kept of the last step.", 0.9)
    beta_1: Fraction = key("adam, adamw: decay of the mean of gradients.", 0.9)
    beta_2: Fraction = key("adam, adamw: decay of the mean of their squares.", 0.999)
    decay: Fraction = key("rmsprop: decay of the mean of squared gradients.", 0.9)
    weight_decay: Annotated[float, Field(ge=0)] = key("adamw: shrinking of the weights, times the learning rate.", 1e-4)
    epsilon: Annotated[float, Field(gt=0)] = key("Keeps adam, adamw, rmsprop and adagrad from dividing by 0.", 1e-8)


class Training(Model):
    """Synchronous data-parallel training."""

    fovs: Positive = key("Length of the training: fields of view seen by all workers together.", 1_000_000)
    batch_size: Positive = key("Examples of one worker's step.", 4)
    optimiser: Optimiser = key("The optimiser.", Optimiser)
    learning_rate: LearningRate = key("The schedule.", LearningRate)
    clip: Annotated[float, Field(gt=0)] = key("Element-wise limit of the averaged gradient.", 0.7)
    precision: Literal["float32", "bfloat16", "auto"] = key(
        "Arithmetic of the network; auto: bfloat16 where the processor has it. Weights stay float32.", "auto"
    )
    fov_moves: NonNegative = key("Moves of the field of view away from the centre, per axis and direction.", 1)
    permutable_axes: tuple[Literal["x", "y", "z"], ...] = key("Axes that augmentation permutes.", ("x", "y"))
    reflectable_axes: tuple[Literal["x", "y", "z"], ...] = key("Axes that augmentation reflects.", ("x", "y", "z"))
    checkpoint_fovs: Positive = key("Fields of view between checkpoints.", 20_000)
    summary_fovs: Positive = key("Fields of view between rows of log.csv.", 2_000)
