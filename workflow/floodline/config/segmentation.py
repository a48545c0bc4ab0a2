"""After the flood: assembly and agglomeration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from floodline.config.base import Fraction, Model, NonNegative, Positive, Probability, key


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

    voxels: Annotated[float, Field(ge=0)] = key(
        "Unsegmented voxels take the nearest neuron within this distance, in voxels of the finest axis.", 0.0
    )


class Agglomeration(Model):
    """Merging supervoxels into neurons: graph, then solver, then the relabelled volume."""

    graph: RegionGraph = key("The graph of contacts.", RegionGraph)
    solver: Solver = key("The solver.", Solver)
    grow: Grow = key("What the neurons take beyond their supervoxels.", Grow)
