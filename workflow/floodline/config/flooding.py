"""Inference: the flood, its seeds, and where it may not go."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from floodline.config.base import (
    Fraction,
    MarginXYZ,
    Model,
    NonNegative,
    Positive,
    Probability,
    SizeXYZ,
    key,
)
from floodline.config.volumes import Source

FloodPolicy = Literal["efficient", "reference"]


class Flood(Model):
    """The flood itself; the defaults are those of the published FIB-25 run, but for the policy."""

    policy: FloodPolicy = key(
        "reference: the published algorithm, step by step; efficient: the same with a fraction of the network's calls, "
        "because what is certain already is not looked at again.",
        "efficient",
    )
    init_activation: Probability = key("Probability painted at the seed.", 0.95)
    pad_value: Probability = key("Probability shown to the network where nothing was predicted yet.", 0.05)
    move_threshold: Probability = key("The field of view moves to places at least this probable.", 0.9)
    segment_threshold: Probability = key("Voxels at least this probable belong to the object.", 0.6)
    min_boundary_dist_xyz: MarginXYZ = key("Smallest distance of a seed from an earlier segment.", (1, 1, 1))
    min_segment_size: Positive = key("Smaller objects are discarded, voxels.", 1000)
    candidate_threshold: Probability = key(
        "Of a voxel that stays unsegmented, the object is noted whose flood holds it most probable, if at least this: "
        "neurons may take it (agglomeration.grow.candidates).",
        0.1,
    )
    disco_seed_threshold: float = key(
        "Voxels once found improbable stay so when the mean of active voxels exceeds this; negative: off.", 0.0
    )
    certain_probability: Annotated[float, Field(gt=0.5, lt=1)] = key(
        "Policy efficient: a voxel is certain if it belongs to the object with at least this probability, or does not.",
        0.73,
    )
    uncertain_share: Fraction = key(
        "Policy efficient: a position is looked at again if more than this share of the voxels around it is uncertain.",
        0.1,
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.init_activation < self.move_threshold:
            raise ValueError(
                f"init_activation {self.init_activation} is less than move_threshold {self.move_threshold}: no flood "
                "would take its first step"
            )
        return self


class _Seeds(Model):
    reversed: bool = key("Whether the seeds come in reverse order.", False)


class PeaksSeeds(_Seeds):
    """Places far from edges of the image: the published policy (PolicyPeaks)."""

    policy: Literal["peaks"]
    order: Literal["raster", "largest_first"] | None = key(
        "raster: in the order of z, y, x, as published; largest_first: the farthest from edges first, so that large "
        "bodies are flooded before what lies against them; null: raster with the flood's policy reference, else "
        "largest_first.",
        None,
    )

    def is_largest_first(self, policy: FloodPolicy) -> bool:
        """Whether the seeds of floods by this policy come in that order."""
        return (self.order or ("raster" if policy == "reference" else "largest_first")) == "largest_first"


class Peaks2dSeeds(_Seeds):
    """The same in each z-slice by itself (PolicyPeaks2d); for thick slices."""

    policy: Literal["peaks_2d"]
    min_distance: Positive = key("Two seeds of a slice are farther apart than this along x or y.", 7)
    min_edge_distance: Annotated[float, Field(ge=0)] = key("Seeds are farther than this from edges, voxels.", 2.5)


class GridSeeds(_Seeds):
    """A regular grid, first coarse and then shifted (PolicyGrid3d, PolicyGrid2d)."""

    policy: Literal["grid"]
    dimensions: Literal[2, 3] = key("3: a grid in space; 2: the same grid in every z-slice.", 3)
    step: Positive = key("Distance of the grid's points.", 16)
    offsets: tuple[NonNegative, ...] | None = key(
        "The grid is placed with each of these shifts along every axis in turn; null: 0 8 4 12 2 10 14, and in two "
        "dimensions 0 8 4 12 2 6 10 14.",
        None,
    )


class DenseSeeds(_Seeds):
    """Every bright (or dark) voxel, in the order of z, y, x (PolicyDenseSeeds)."""

    policy: Literal["dense"]
    threshold: float = key("Seeds are brighter than this in the normalised image.", 0.5)
    invert: bool = key("Whether seeds are the voxels that are not.", False)
    erosions: NonNegative = key("Voxels by which the bright (or dark) regions are made thinner first.", 0)


class IntensitySeeds(_Seeds):
    """Bright places."""

    policy: Literal["intensity"]
    voxels: Literal["max_peaks", "all"] = key(
        "max_peaks: local maxima above the mean, in the order of z, y, x (PolicyMaxPeaks); all: every voxel, the "
        "brightest first (PolicyMax).",
        "max_peaks",
    )


class PointsSeeds(_Seeds):
    """Points of a file, in its order."""

    policy: Literal["points"]
    path: str = key(
        "A .csv with the columns x, y, z, or a .npy of shape (points, 3), in the image source's coordinates."
    )


class FillEmptySpaceSeeds(_Seeds):
    """The middle of what the policies before this one left unsegmented (PolicyFillEmptySpace)."""

    policy: Literal["fill_empty_space"]


class InvertOriginsSeeds(_Seeds):
    """Where the objects of an earlier run started, the last one first (PolicyInvertOrigins)."""

    policy: Literal["invert_origins"]
    experiment: str = key("Folder of the earlier experiment, which has the same sub-volumes.")


Seeds = Annotated[
    PeaksSeeds
    | Peaks2dSeeds
    | GridSeeds
    | DenseSeeds
    | IntensitySeeds
    | PointsSeeds
    | FillEmptySpaceSeeds
    | InvertOriginsSeeds,
    Field(discriminator="policy"),
]


class ShiftMask(Model):
    """Where neighbouring slices are badly aligned: no field of view may hold a large shift."""

    dx: Source = key("A volume with the shift along x of every voxel.")
    dy: Source = key("The same along y.")
    scale: Positive = key("Image voxels along x and y that one voxel of these volumes covers.", 1)
    threshold: Annotated[float, Field(gt=0)] = key("A shift is large from here on, along x or y.", 4.0)
    fov_xyz: SizeXYZ | None = key("Box around a position that is looked at, odd; null: network.fov_xyz.", None)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.fov_xyz is not None and any(size % 2 == 0 for size in self.fov_xyz):
            raise ValueError(f"fov_xyz must be odd numbers, not {list(self.fov_xyz)}")
        return self


class Inference(Model):
    """Flooding of overlapping sub-volumes."""

    subvolume_size_xyz: SizeXYZ = key("Size of a sub-volume.", (256, 256, 256))
    overlap_xyz: MarginXYZ | None = key("Overlap of neighbours; null: 2 * (fov // 2).", None)
    shards: Positive = key("Jobs that share the sub-volumes.", 1)
    image_mean: float | None = key("Mean for the normalisation; null: as measured at ingest.", None)
    image_stddev: Annotated[float, Field(gt=0)] | None = key("Standard deviation; null: as measured.", None)
    precision: Literal["float32", "bfloat16", "auto"] = key(
        "Arithmetic of the network. bfloat16 is quicker where the processor has it, and its objects are as good, but "
        "not the same; auto: bfloat16 there, but float32 elsewhere and with the policy reference. The first processor "
        "decides for all that flood the experiment.",
        "float32",
    )
    runtime: Literal["tensorflow", "openvino"] = key(
        "What computes the network; openvino is an optional dependency (`make openvino`), quicker on some processors: "
        "`floodline tune` measures both.",
        "tensorflow",
    )
    checkpoint_seconds: Annotated[float, Field(gt=0)] = key(
        "Time between checkpoints inside a sub-volume: what an interruption may cost.", 120.0
    )
    flood: Flood = key("The flood.", Flood)
    seeds: tuple[Seeds, ...] = key(
        "Where floods start: one policy after another.", lambda: (PeaksSeeds(policy="peaks"),), min_length=1
    )
    shift_mask: ShiftMask | None = key("Misaligned places to keep away from; null: none.", None)
    initial_segmentation: Source | None = key(
        "Objects to keep, in the image source's coordinates: floods fill the space between them, and their pieces in "
        "the sub-volumes are assembled as those of floods are; null: none.",
        None,
    )
    reference_histogram: str | None = key(
        "A .npy or .json file with as many numbers as there are grey values: how often each occurs in the reference, "
        "or the cumulative fractions. The contrast of each z-slice of a sub-volume is matched to it, and null in "
        "image_mean and image_stddev then means the reference's; null: the image stays as it is.",
        None,
    )
    consensus: Literal["split"] | None = key(
        "split: every sub-volume is flooded a second time in reverse order, and objects are split where the two "
        "disagree; null: one pass.",
        None,
    )
    consensus_order: Literal["invert_origins", "reversed_seeds"] = key(
        "The second pass starts where the objects of the first one started, the last one first; or from the same "
        "seeds, every policy reversed.",
        "invert_origins",
    )
    consensus_min_size: NonNegative = key("Smaller pieces are discarded after the split, voxels.", 1000)
