"""The network, its training sites and its training."""

from __future__ import annotations

from math import prod, sqrt
from typing import Annotated, Any, Literal, Self

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


class FieldOfView(Model):
    """What the network sees at once, and how far that moves."""

    fov_xyz: SizeXYZ = key("Field of view, odd numbers of voxels.", (33, 33, 33))
    deltas_xyz: MarginXYZ = key("Step of the field of view.", (8, 8, 8))

    @model_validator(mode="after")
    def _moves_inside(self) -> Self:
        if any(size % 2 == 0 for size in self.fov_xyz):
            raise ValueError(f"fov_xyz must be odd numbers, not {list(self.fov_xyz)}")
        if any(delta > size // 2 for delta, size in zip(self.deltas_xyz, self.fov_xyz, strict=True)):
            raise ValueError(f"deltas_xyz {list(self.deltas_xyz)} must not exceed half of fov_xyz {list(self.fov_xyz)}")
        return self


class Network(FieldOfView):
    """The flood-filling network (ConvStack3DFFN)."""

    depth: Annotated[int, Field(ge=1)] = key(
        "Residual modules, the first included; 12 in the published FIB-25 run.", 12
    )
    features: Positive = key("Feature maps of each hidden layer.", 32)
    weights: str | None = key(
        "Weights to start from: prefix of a TensorFlow checkpoint in the published layout, or a model/ folder; "
        "null: train from scratch.",
        None,
    )
    licence: str | None = key("Under which the weights may be used, for their card; null: it is not said.", None)

    def without_weights(self) -> dict[str, Any]:
        """All but where the weights are from and under which licence: what decides the logits, with their values."""
        return self.model_dump(mode="json", exclude={"weights", "licence"})


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
    """Learning rate: base times its scaling with the workers, after a linear warm-up.

    Lengths are in fields of view that all workers have seen together, or in steps that all make together; both mean
    the same at any number of workers.
    """

    base: Annotated[float, Field(gt=0)] = key("Rate of one worker.", 1e-3)
    scaling: Literal["none", "linear", "sqrt"] = key("How it grows with the number of workers.", "sqrt")
    warmup_fovs: NonNegative = key("Length of the linear warm-up, in fields of view.", 0)
    warmup_steps: NonNegative | None = key("... in steps; null: warmup_fovs holds.", None)
    decay: Literal["constant", "cosine", "steps"] = key("What follows the warm-up.", "constant")
    drop_fovs: Positive = key("decay steps: length between two drops, in fields of view.", 1_000_000)
    drop_steps: Positive | None = key("... in steps; null: drop_fovs holds.", None)
    drop_factor: Fraction = key("decay steps: what each drop leaves of the rate.", 0.5)

    def peak(self, workers: int) -> float:
        """The rate of so many workers after the warm-up."""
        return self.base * {"none": 1.0, "linear": float(workers), "sqrt": sqrt(workers)}[self.scaling]


class Optimiser(Model):
    """How a gradient changes the weights; a kind takes of the other keys what it needs."""

    kind: Literal["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"] = key("The optimiser.", "adam")
    momentum: Fraction = key("momentum: what is kept of the last step.", 0.9)
    beta_1: Fraction = key("adam, adamw: decay of the mean of gradients.", 0.9)
    beta_2: Fraction = key("adam, adamw: decay of the mean of their squares.", 0.999)
    decay: Fraction = key("rmsprop: decay of the mean of squared gradients.", 0.9)
    weight_decay: Annotated[float, Field(ge=0)] = key("adamw: shrinking of the weights, times the learning rate.", 1e-4)
    epsilon: Annotated[float, Field(gt=0)] = key("Keeps adam, adamw, rmsprop and adagrad from dividing by 0.", 1e-8)


class Defects(Model):
    """What the images of examples suffer at random, so that the network learns to bear it.

    Sections are the z-slices of the volume. The report shows pictures of what is switched on.
    """

    contrast: Fraction = key("The contrast of an example changes by a factor of up to 1 + this, or 1 - this.", 0.0)
    brightness: Annotated[float, Field(ge=0)] = key("Its brightness changes by up to so many standard deviations.", 0.0)
    missing_sections: Fraction = key("Probability of a section to be missing: of mean grey.", 0.0)
    misaligned_sections: Fraction = key("Probability of a section's image to be displaced.", 0.0)
    max_displacement: Positive = key("... along x and y, by up to so many voxels.", 4)
    blurred_sections: Fraction = key("Probability of a section to be out of focus.", 0.0)
    max_blur: Annotated[float, Field(gt=0)] = key("... by a Gaussian with a sigma of up to so many voxels.", 2.0)


class OtherVolume(Model):
    """Another experiment's volume to train on, with its own normalisation; its training sites must be there.

    `snakemake labels` makes them.
    """

    experiment: str = key("The experiment's folder.")
    weight: Annotated[float, Field(gt=0)] = key("Examples from it for each one of this experiment's own volume.", 1.0)
    resample: bool = key(
        "Whether it is brought to the voxel size of this experiment's image; else the network sees it voxel by voxel.",
        True,
    )


class Selection(Model):
    """Which checkpoint becomes the model: the one whose flood of a box has the lowest adapted Rand error."""

    box_xyz: BoxXYZ = key(
        "The box, labelled and not trained on. It is flooded as `inference` says, but as one sub-volume, with the seed "
        "policy `peaks`, in TensorFlow, and without masks, shift mask, consensus and initial segmentation."
    )
    checkpoints: Positive = key(
        "So many of the last checkpoints are tried; and, in fine-tuning, the weights that it began with.", 5
    )
    convention: Literal["labelled_by_both", "all_labelled"] = key(
        "Voxels that count: those with a label and a segment, or all with a label.", "all_labelled"
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        check_box(self.box_xyz, "training.selection.box_xyz")
        return self


class FirstViews(FieldOfView):
    """A smaller field of view for the start of the training, when it is steps that count and not what a step sees."""

    fovs: Positive = key("So many of them, all workers together.")


class Training(Model):
    """Synchronous data-parallel training."""

    fovs: Positive = key("Length of the training: fields of view seen by all workers together.", 1_000_000)
    steps: Positive | None = key("... in steps that all workers make together; null: fovs holds.", None)
    first_views: tuple[FirstViews, ...] = key(
        "Smaller fields of view to begin with, one kind after the other; they count in `fovs`. The network is "
        "convolutional, so its weights serve any size. Held-out patches are of network.fov_xyz throughout.",
        (),
    )
    initial_weights: Literal["glorot", "identity"] = key(
        "Where a training from scratch starts: with random kernels, as published; or with residual modules that pass "
        "on what they get, unknown voxels that count as zero, and predictions near the share of the object, which "
        "gets off the ground in fewer steps.",
        "glorot",
    )
    batch_size: Positive = key("Examples of one worker's step.", 4)
    micro_batch: Positive | None = key(
        "A worker's batch is computed in parts of so many examples, which need less memory and give the same step; "
        "null: at once.",
        None,
    )
    optimiser: Optimiser = key("The optimiser.", Optimiser)
    learning_rate: LearningRate = key("The schedule.", LearningRate)
    clip: Annotated[float, Field(gt=0)] = key("Element-wise limit of the averaged gradient.", 0.7)
    average_decay: Annotated[float, Field(ge=0, lt=1)] = key(
        "What a step leaves of the running mean of the weights, which is then the model, e.g. 0.999; 0: the model has "
        "the weights of the last step.",
        0.0,
    )
    precision: Literal["float32", "bfloat16", "auto"] = key(
        "Arithmetic of the network; auto: bfloat16 where the processor has it. Weights stay float32.", "auto"
    )
    movement: Literal["fixed", "max_predictions", "none"] = key(
        "Where the field of view goes in an example: through the places of a grid that the network holds to be in the "
        "object, in random order; to the most probable voxels, as in inference; or nowhere.",
        "fixed",
    )
    fov_moves: NonNegative = key("Moves of the field of view away from the centre, per axis and direction.", 1)
    permutable_axes: tuple[Literal["x", "y", "z"], ...] = key("Axes that augmentation permutes.", ("x", "y"))
    reflectable_axes: tuple[Literal["x", "y", "z"], ...] = key("Axes that augmentation reflects.", ("x", "y", "z"))
    defects: Defects = key("Artificial defects of the examples; by default none.", Defects)
    volumes: tuple[OtherVolume, ...] = key("Other volumes that are trained on, too.", ())
    held_out_patches: NonNegative = key(
        "Examples in sites.held_out_xyz that are scored at each checkpoint as the training's examples are.", 100
    )
    selection: Selection | None = key("The choice of the checkpoint; null: the last one.", None)
    checkpoint_fovs: Positive = key(
        "Fields of view between checkpoints, which are scored on held-out patches and may become the model. So that "
        "little is lost when the job is killed, the state is kept every two minutes besides.",
        20_000,
    )
    summary_fovs: Positive = key("Fields of view between rows of log.csv.", 2_000)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.micro_batch and self.micro_batch < self.batch_size and self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} must divide batch_size {self.batch_size}")
        first = sum(views.fovs for views in self.first_views)
        if self.steps is None and first >= self.fovs:
            raise ValueError(f"first_views take {first} fields of view, which leaves none of fovs {self.fovs}")
        warmup = self.learning_rate.warmup_fovs
        if self.steps is None and self.learning_rate.warmup_steps is None and warmup >= self.fovs:
            raise ValueError(f"the warm-up takes {warmup} fields of view, which leaves none of fovs {self.fovs}")
        return self

    def voxels_of(self, fovs: float, own: FieldOfView) -> float:
        """Voxels of the first `fovs` fields of view; after `first_views` they are of the network's `own` size."""
        voxels = 0.0
        for views in self.first_views:
            seen = min(fovs, views.fovs)
            voxels, fovs = voxels + seen * prod(views.fov_xyz), fovs - seen
        return voxels + fovs * prod(own.fov_xyz)
