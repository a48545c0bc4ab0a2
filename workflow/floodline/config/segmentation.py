"""After the flood: assembly and agglomeration."""

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


class Assembly(Model):
    """One label space over all sub-volumes. The rule is stated in floodline.assembly.matching."""

    min_agreement: Annotated[float, Field(gt=0.5, le=1)] = key(
        "Of what both sub-volumes segmented, each of two matching parts must hold at least this fraction of the "
        "other; more than a half, so that a part has one partner at most.",
        0.75,
    )
    min_overlap_fraction: Fraction = key(
        "... they must share at least this fraction of the smaller one's voxels in the overlap,", 0.5
    )
    min_overlap_voxels: Positive = key("... and at least so many voxels.", 1)
    through_neighbour: Literal["always", "unless_contradicted", "never"] = key(
        "Whether two objects of one sub-volume may be joined through an object of its neighbour.",
        "unless_contradicted",
    )
    pairs: str | None = key(
        "A .csv of places to force into one supervoxel or to forbid there, with the columns of "
        "agglomeration.solver.pairs; null: none.",
        None,
    )


class RegionGraph(Model):
    """Which supervoxels are in contact, and what is measured there."""

    reach_voxels: Annotated[float, Field(ge=0)] = key(
        "Supervoxels reach so far into unsegmented space, in voxels of the finest axis; they are in contact where "
        "they then touch, so across gaps of up to twice as much.",
        2.0,
    )
    min_contact_area: NonNegative = key("Contacts of fewer voxel faces are not considered.", 10)
    profile_voxels: Positive = key(
        "The image on a contact is compared with the image so far away on either side, in voxels of the finest axis.",
        3,
    )


class Solver(Model):
    """From scores to neurons. The algorithms are described in floodline.agglomeration.solvers."""

    algorithm: Literal["threshold", "greedy", "multicut", "mutex_watershed"] = key("Which algorithm.", "greedy")
    threshold: Probability = key(
        "Score at which a contact speaks neither for nor against a merger; higher merges less.", 0.5
    )
    max_smaller_voxels: NonNegative | None = key(
        "A contact of two supervoxels that are both larger than this never speaks for a merger; null: no limit.", None
    )
    max_neuron_voxels: Positive | None = key(
        "No neuron of several supervoxels becomes larger than this; one that would is made again from its surest "
        "contacts, without those that exceed it; null: no limit.",
        None,
    )
    pairs: str | None = key(
        "A .csv of places to force into one neuron or to forbid there: the columns action (force or forbid), ax, ay, "
        "az, bx, by, bz, two voxels in the image source's coordinates; null: none.",
        None,
    )


class Grow(Model):
    """Neurons in unsegmented space."""

    candidates: bool = key(
        "Whether unsegmented voxels first go to the object whose flood held them most probable, though not probable "
        "enough to be a part of it (inference.flood.candidate_threshold).",
        False,
    )
    voxels: Annotated[float, Field(ge=0)] = key(
        "Unsegmented voxels take the nearest neuron within this distance, in voxels of the finest axis.", 0.0
    )
    along: Literal["distance", "image"] = key(
        "image: instead of the nearest neuron they take the one that reaches them on the brightest way, in at most so "
        "many steps.",
        "distance",
    )


class Resegmentation(Model):
    """Flooding both supervoxels of a contact again; see floodline.agglomeration.resegment."""

    undecided: tuple[Fraction, Fraction] = key(
        "Contacts whose score by image and flood lies between these two are resegmented.", (0.02, 0.8)
    )
    min_voxels: NonNegative = key("... if the smaller of the two supervoxels has so many voxels.", 1000)
    radius_xyz: SizeXYZ = key("Half size of the cube that is flooded around a decision point.", (50, 50, 50))
    analysis_radius_xyz: SizeXYZ | None = key(
        "Half size of the box in which the floods are compared; null: radius_xyz less half a field of view.", None
    )
    contact_exclusion_xyz: MarginXYZ = key("No flood starts so near to the decision point.", (8, 8, 8))
    attempts: Positive = key("Floods of one supervoxel, at most.", 2)
    attempt_exclusion_xyz: MarginXYZ = key("... each starts so far from the places of those before it.", (8, 8, 8))
    recovery: Fraction = key("A flood that covers this fraction of its own supervoxel is the last one.", 0.6)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        low, high = self.undecided
        if low >= high:
            raise ValueError(f"undecided is [{low}, {high}], between which no score lies")
        return self


class Fit(Model):
    """What `floodline agglomerate fit` learns from labels."""

    kind: Literal["logistic", "boosted"] = key(
        "logistic: logistic regression; boosted: gradient-boosted trees, for thousands of labelled contacts.",
        "logistic",
    )
    boxes_xyz: tuple[BoxXYZ, ...] = key(
        "Boxes of the labels that are learnt from, in the image source's coordinates; keep others for the scores. "
        "Without any: all of the labels.",
        (),
    )
    min_purity: Fraction = key("A supervoxel is used if this fraction of its labelled voxels is of one neuron,", 0.8)
    min_voxels: Positive = key("... and if it has so many labelled voxels in the boxes.", 200)
    folds: Annotated[int, Field(ge=2)] = key("Parts of the labelled contacts for the calibration by left-out parts.", 5)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        for box in self.boxes_xyz:
            check_box(box, "boxes_xyz")
        return self


class Agglomeration(Model):
    """Merging supervoxels into neurons: graph, then solver, then the relabelled volume."""

    graph: RegionGraph = key("The graph of contacts.", RegionGraph)
    resegmentation: Resegmentation | None = key(
        "Flooding again where image and flood leave a contact undecided; null: not done.", None
    )
    model: str | None = key(
        "A model.json of `floodline agglomerate fit`, which then scores the contacts; null: the built-in rule, and the "
        "published one for contacts that were resegmented.",
        None,
    )
    fit: Fit = key(
        "Training of such a model. Snakemake does it where `model` is results/<name>/agglomeration/model.json of this "
        "experiment.",
        Fit,
    )
    solver: Solver = key("The solver.", Solver)
    grow: Grow = key("What the neurons take beyond their supervoxels.", Grow)
