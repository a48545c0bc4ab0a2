"""The configuration: one tree of pydantic models, from which the JSON schema and every default come.

What the science needs is here; what a machine needs (ranks, threads, walltime, launcher) is in profiles/.
Unknown keys are errors that name the key and the nearest right one. Triples are x, y, z in voxels of mip 0.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from floodline.errors import FloodlineError
from floodline.geometry import Box, Triple

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


def _key(description: str, default: Any = ..., **more: Any) -> Any:
    """A documented key."""
    if default is not ... and not isinstance(default, int | float | str | bool | tuple | None):
        return Field(default_factory=default, description=description, **more)
    return Field(default, description=description, **more)


def _check_box(box: BoxXYZ, key: str) -> None:
    if Box.of(box).is_empty:
        raise ValueError(f"{key} {[list(corner) for corner in box]} is empty: each stop must exceed its start")


# --- volumes ---------------------------------------------------------------------------------------------------------


PhantomSide = Annotated[int, Field(ge=16)]


class PhantomSource(Model):
    """A generated volume that looks like EM, with true labels; `seed` decides what it looks like."""

    kind: Literal["phantom"]
    size_xyz: tuple[PhantomSide, PhantomSide, PhantomSide] = _key(
        "Size of the generated volume, voxels.", (160, 160, 160)
    )


class StackSource(Model):
    """A folder of PNG or TIFF slices, one file a z, in natural order of their names; or one multi-page TIFF."""

    kind: Literal["stack"]
    path: str = _key("Folder, file or glob pattern.")


class Hdf5Source(Model):
    """A three-dimensional dataset (z, y, x) of an HDF5 file."""

    kind: Literal["hdf5"]
    path: str = _key("The file.")
    dataset: str = _key("Path of the dataset inside the file.")


class PrecomputedSource(Model):
    """A Neuroglancer precomputed layer; its own resolution and voxel offset hold."""

    kind: Literal["precomputed"]
    path: str = _key("Folder or URL of the layer.")
    mip: NonNegative = _key("Level of the pyramid to read; its voxels become mip 0 here.", 0)


Source = Annotated[
    PhantomSource | StackSource | Hdf5Source | PrecomputedSource,
    Field(discriminator="kind"),
]


class Clahe(Model):
    """Contrast-limited adaptive histogram equalisation, slice by slice (scikit-image)."""

    kernel_size_xy: tuple[Positive, Positive] = _key("Size of the contextual region, voxels.", (64, 64))
    clip_limit: Annotated[float, Field(gt=0, le=1)] = _key("Clipping limit; larger gives more contrast.", 0.01)


class Image(Model):
    """The EM volume."""

    source: Source = _key("Where it comes from.")
    voxel_size_nm_xyz: tuple[float, float, float] = _key("Voxel size in nanometres.", (8.0, 8.0, 8.0))
    crop_xyz: BoxXYZ | None = _key("Part of the source to use, in the source's coordinates; null: all.", None)
    clahe: Clahe | None = _key("Contrast equalisation before anything else; null: none.", None)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.crop_xyz is not None:
            _check_box(self.crop_xyz, "crop_xyz")
        if min(self.voxel_size_nm_xyz) <= 0:
            raise ValueError("voxel_size_nm_xyz must be positive")
        return self


class BodyTable(Model):
    """A table of (supervoxel, body) rows: labels are supervoxels, and the table maps them to neurons."""

    path: str = _key("HDF5 file with the table.")
    dataset: str = _key("Dataset of shape (rows, 2).", "transforms")


class Labels(Model):
    """Proofread labels of the image, or of a part of it."""

    source: Source = _key("Where they come from; a phantom brings its own.")
    box_xyz: BoxXYZ | None = _key("The part of the image source that they cover; null: all of it.", None)
    body_table: BodyTable | None = _key("Maps supervoxels to bodies; null: the labels are neurons already.", None)


class Storage(Model):
    """How layers are stored."""

    chunk_size_xyz: SizeXYZ = _key("Chunks of the precomputed layers, voxels.", (64, 64, 64))
    mips: NonNegative = _key("Coarser levels of each pyramid, at most.", 2)


# --- network and training --------------------------------------------------------------------------------------------


class Network(Model):
    """The flood-filling network (ConvStack3DFFN)."""

    depth: Annotated[int, Field(ge=1)] = _key(
        "Residual modules, the first included; 12 in the published FIB-25 run.", 12
    )
    features: Positive = _key("Feature maps of each hidden layer.", 32)
    fov_xyz: SizeXYZ = _key("Field of view, odd numbers of voxels.", (33, 33, 33))
    deltas_xyz: MarginXYZ = _key("Step of the field of view.", (8, 8, 8))
    weights: str | None = _key(
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

    box_xyz: BoxXYZ | None = _key("Part of the labels to train on; null: all of them.", None)
    thresholds: tuple[Probability, ...] = _key(
        "Fractions that separate the partitions.",
        (0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    )
    lom_radius_xyz: MarginXYZ | None = _key(
        "Radius of the box in which the fraction is taken; null: fov // 2 + deltas.", None
    )
    min_size: NonNegative = _key("Labels of fewer voxels (in box_xyz) are not trained on.", 10_000)
    only_labels: tuple[Positive, ...] | None = _key("Labels to train on; null: all.", None)
    held_out_xyz: tuple[BoxXYZ, ...] = _key(
        "Boxes that training does not see: no site lies within one field of view of them.", ()
    )
    exclusion_xyzr: tuple[tuple[int, int, int, NonNegative], ...] = _key(
        "Balls without sites: x, y, z of the centre and the radius, voxels.", ()
    )
    mask: Source | None = _key(
        "A volume in the image source's coordinates, not 0 where tissue is damaged: no site sees such a voxel in the "
        "box of lom_radius_xyz around it; null: none.",
        None,
    )
    max_per_partition: Positive | None = _key(
        "Sites of each partition: as many as the largest has, but at most so many; null: no limit.", 100_000
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.box_xyz is not None:
            _check_box(self.box_xyz, "sites.box_xyz")
        for box in self.held_out_xyz:
            _check_box(box, "sites.held_out_xyz")
        if not self.thresholds or list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError("thresholds must rise")
        if len(self.thresholds) > 253:
            raise ValueError("thresholds must be at most 253: partitions are stored in bytes")
        return self


class LearningRate(Model):
    """Learning rate: base times its scaling with the workers, after a linear warm-up."""

    base: Annotated[float, Field(gt=0)] = _key("Rate of one worker.", 1e-3)
    scaling: Literal["none", "linear", "sqrt"] = _key("How it grows with the number of workers.", "sqrt")
    warmup_fovs: NonNegative = _key("Length of the linear warm-up, in fields of view seen by all workers.", 0)
    decay: Literal["constant", "cosine", "steps"] = _key("What follows the warm-up.", "constant")
    drop_fovs: Positive = _key("decay steps: fields of view, seen by all workers, between two drops.", 1_000_000)
    drop_factor: Fraction = _key("decay steps: what each drop leaves of the rate.", 0.5)


class Optimiser(Model):
    """How a gradient changes the weights; a kind takes of the other keys what it needs."""

    kind: Literal["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"] = _key("The optimiser.", "adam")
    momentum: Fraction = _key("momentum: what is kept of the last step.", 0.9)
    beta_1: Fraction = _key("adam, adamw: decay of the mean of gradients.", 0.9)
    beta_2: Fraction = _key("adam, adamw: decay of the mean of their squares.", 0.999)
    decay: Fraction = _key("rmsprop: decay of the mean of squared gradients.", 0.9)
    weight_decay: Annotated[float, Field(ge=0)] = _key(
        "adamw: shrinking of the weights, times the learning rate.", 1e-4
    )
    epsilon: Annotated[float, Field(gt=0)] = _key("Keeps adam, adamw, rmsprop and adagrad from dividing by 0.", 1e-8)


class Training(Model):
    """Synchronous data-parallel training."""

    fovs: Positive = _key("Length of the training: fields of view seen by all workers together.", 1_000_000)
    batch_size: Positive = _key("Examples of one worker's step.", 4)
    optimiser: Optimiser = _key("The optimiser.", Optimiser)
    learning_rate: LearningRate = _key("The schedule.", LearningRate)
    clip: Annotated[float, Field(gt=0)] = _key("Element-wise limit of the averaged gradient.", 0.7)
    precision: Literal["float32", "bfloat16", "auto"] = _key(
        "Arithmetic of the network; auto: bfloat16 where the processor has it. Weights stay float32.", "auto"
    )
    fov_moves: NonNegative = _key("Moves of the field of view away from the centre, per axis and direction.", 1)
    permutable_axes: tuple[Literal["x", "y", "z"], ...] = _key("Axes that augmentation permutes.", ("x", "y"))
    reflectable_axes: tuple[Literal["x", "y", "z"], ...] = _key("Axes that augmentation reflects.", ("x", "y", "z"))
    checkpoint_fovs: Positive = _key("Fields of view between checkpoints.", 20_000)
    summary_fovs: Positive = _key("Fields of view between rows of log.csv.", 2_000)


# --- inference -------------------------------------------------------------------------------------------------------


class Flood(Model):
    """The flood itself; the defaults are those of the published FIB-25 run."""

    init_activation: Probability = _key("Probability painted at the seed.", 0.95)
    pad_value: Probability = _key("Probability shown to the network where nothing was predicted yet.", 0.05)
    move_threshold: Probability = _key("The field of view moves to places at least this probable.", 0.9)
    segment_threshold: Probability = _key("Voxels at least this probable belong to the object.", 0.6)
    min_boundary_dist_xyz: MarginXYZ = _key("Smallest distance of a seed from an earlier segment.", (1, 1, 1))
    min_segment_size: NonNegative = _key("Smaller objects are discarded, voxels.", 1000)
    disco_seed_threshold: float = _key(
        "Voxels once found improbable stay so when the mean of active voxels exceeds this; negative: off.", 0.0
    )


class _Seeds(Model):
    reversed: bool = _key("Whether the seeds come in reverse order.", False)


class PeaksSeeds(_Seeds):
    """Places far from edges of the image, in the order of z, y, x: the published policy (PolicyPeaks)."""

    policy: Literal["peaks"]


class Peaks2dSeeds(_Seeds):
    """The same in each z-slice by itself (PolicyPeaks2d); for thick slices."""

    policy: Literal["peaks_2d"]
    min_distance: Positive = _key("Two seeds of a slice are farther apart than this along x or y.", 7)
    min_edge_distance: Annotated[float, Field(ge=0)] = _key("Seeds are farther than this from edges, voxels.", 2.5)


class GridSeeds(_Seeds):
    """A regular grid, first coarse and then shifted (PolicyGrid3d, PolicyGrid2d)."""

    policy: Literal["grid"]
    dimensions: Literal[2, 3] = _key("3: a grid in space; 2: the same grid in every z-slice.", 3)
    step: Positive = _key("Distance of the grid's points.", 16)
    offsets: tuple[NonNegative, ...] | None = _key(
        "The grid is placed with each of these shifts along every axis in turn; null: 0 8 4 12 2 10 14, and in two "
        "dimensions 0 8 4 12 2 6 10 14.",
        None,
    )


class DenseSeeds(_Seeds):
    """Every bright (or dark) voxel, in the order of z, y, x (PolicyDenseSeeds)."""

    policy: Literal["dense"]
    threshold: float = _key("Seeds are brighter than this in the normalised image.", 0.5)
    invert: bool = _key("Whether seeds are the voxels that are not.", False)
    erosions: NonNegative = _key("Voxels by which the bright (or dark) regions are made thinner first.", 0)


class IntensitySeeds(_Seeds):
    """Bright places."""

    policy: Literal["intensity"]
    voxels: Literal["max_peaks", "all"] = _key(
        "max_peaks: local maxima above the mean, in the order of z, y, x (PolicyMaxPeaks); all: every voxel, the "
        "brightest first (PolicyMax).",
        "max_peaks",
    )


class PointsSeeds(_Seeds):
    """Points of a file, in its order."""

    policy: Literal["points"]
    path: str = _key(
        "A .csv with the columns x, y, z, or a .npy of shape (points, 3), in the image source's coordinates."
    )


class FillEmptySpaceSeeds(_Seeds):
    """The middle of what the policies before this one left unsegmented (PolicyFillEmptySpace)."""

    policy: Literal["fill_empty_space"]


class InvertOriginsSeeds(_Seeds):
    """Where the objects of an earlier run started, the last one first (PolicyInvertOrigins)."""

    policy: Literal["invert_origins"]
    experiment: str = _key("Folder of the earlier experiment, which has the same sub-volumes.")


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


class _Mask(Model):
    invert: bool = _key("Whether everything else is masked instead.", False)


class VolumeMask(_Mask):
    """Voxels of a volume: a tissue mask or the labels of a tissue classifier."""

    kind: Literal["volume"]
    source: Source = _key("The volume; it covers the image.")
    scale_xyz: SizeXYZ | None = _key(
        "Image voxels that one of its voxels covers, counted from the origin of the image source's coordinates; null: "
        "by the voxel size that it states, else 1.",
        None,
    )
    values: tuple[int, ...] | None = _key("Values that are masked; null: all but 0, unless min or max is given.", None)
    min: float | None = _key("Masked, too: from this value on; null: from the lowest.", None)
    max: float | None = _key("... up to this one; null: to the highest.", None)


class IntensityMask(_Mask):
    """Grey values of the image itself, as ingested."""

    kind: Literal["intensity"]
    min: float | None = _key("Masked from this grey value on; null: from the lowest.", None)
    max: float | None = _key("... up to this one; null: to the highest.", None)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a mask by intensity needs min or max")
        return self


class BoxMask(_Mask):
    """Boxes."""

    kind: Literal["box"]
    boxes_xyz: tuple[BoxXYZ, ...] = _key("In the image source's coordinates.")

    @model_validator(mode="after")
    def _valid(self) -> Self:
        for box in self.boxes_xyz:
            _check_box(box, "boxes_xyz")
        return self


Mask = Annotated[VolumeMask | IntensityMask | BoxMask, Field(discriminator="kind")]


class ShiftMask(Model):
    """Where neighbouring slices are badly aligned: no field of view may hold a large shift."""

    dx: Source = _key("A volume with the shift along x of every voxel.")
    dy: Source = _key("The same along y.")
    scale: Positive = _key("Image voxels along x and y that one voxel of these volumes covers.", 1)
    threshold: Annotated[float, Field(gt=0)] = _key("A shift is large from here on, along x or y.", 4.0)
    fov_xyz: SizeXYZ | None = _key("Box around a position that is looked at, odd; null: network.fov_xyz.", None)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.fov_xyz is not None and any(size % 2 == 0 for size in self.fov_xyz):
            raise ValueError(f"fov_xyz must be odd numbers, not {list(self.fov_xyz)}")
        return self


class Inference(Model):
    """Flooding of overlapping sub-volumes."""

    subvolume_size_xyz: SizeXYZ = _key("Size of a sub-volume.", (256, 256, 256))
    overlap_xyz: MarginXYZ | None = _key("Overlap of neighbours; null: 2 * (fov // 2).", None)
    shards: Positive = _key("Jobs that share the sub-volumes.", 1)
    image_mean: float | None = _key("Mean for the normalisation; null: as measured at ingest.", None)
    image_stddev: Annotated[float, Field(gt=0)] | None = _key("Standard deviation; null: as measured.", None)
    precision: Literal["float32", "bfloat16", "auto"] = _key("Arithmetic of the network.", "auto")
    checkpoint_seconds: Annotated[float, Field(gt=0)] = _key(
        "Time between checkpoints inside a sub-volume: what an interruption may cost.", 120.0
    )
    flood: Flood = _key("The flood.", Flood)
    seeds: tuple[Seeds, ...] = _key(
        "Where floods start: one policy after another.", lambda: (PeaksSeeds(policy="peaks"),), min_length=1
    )
    masks: tuple[Mask, ...] = _key("The centre of the field of view never enters these.", ())
    seed_masks: tuple[Mask, ...] = _key("No flood starts in these.", ())
    shift_mask: ShiftMask | None = _key("Misaligned places to keep away from; null: none.", None)
    initial_segmentation: Source | None = _key(
        "Objects to keep, in the image source's coordinates: floods fill the space between them; null: none.", None
    )
    reference_histogram: str | None = _key(
        "A .npy or .json file with as many numbers as there are grey values: how often each occurs in the reference, "
        "or the cumulative fractions. The contrast of each z-slice of a sub-volume is matched to it, and null in "
        "image_mean and image_stddev then means the reference's; null: the image stays as it is.",
        None,
    )
    consensus: Literal["split"] | None = _key(
        "split: every sub-volume is flooded a second time in reverse order, and objects are split where the two "
        "disagree; null: one pass.",
        None,
    )
    consensus_order: Literal["invert_origins", "reversed_seeds"] = _key(
        "The second pass starts where the objects of the first one started, the last one first; or from the same "
        "seeds, every policy reversed.",
        "invert_origins",
    )
    consensus_min_size: NonNegative = _key("Smaller pieces are discarded after the split, voxels.", 1000)


# --- after the flood -------------------------------------------------------------------------------------------------


class Assembly(Model):
    """One label space over all sub-volumes. The rule is stated in floodline.assembly.matching."""

    min_agreement: Annotated[float, Field(gt=0.5, le=1)] = _key(
        "Of what both sub-volumes segmented, each of two matching parts must hold at least this fraction of the "
        "other; more than a half, so that a part has one partner at most.",
        0.75,
    )
    min_overlap_fraction: Fraction = _key(
        "... they must share at least this fraction of the smaller one's voxels in the overlap,", 0.5
    )
    min_overlap_voxels: Positive = _key("... and at least so many voxels.", 1)
    through_neighbour: Literal["always", "unless_contradicted", "never"] = _key(
        "Whether two objects of one sub-volume may be joined through an object of its neighbour.",
        "unless_contradicted",
    )


class RegionGraph(Model):
    """Which supervoxels are in contact, and what is measured there."""

    reach_voxels: Annotated[float, Field(ge=0)] = _key(
        "Supervoxels reach so far into unsegmented space, in voxels of the finest axis; they are in contact where "
        "they then touch, so across gaps of up to twice as much.",
        2.0,
    )
    min_contact_area: NonNegative = _key("Contacts of fewer voxel faces are not considered.", 10)
    profile_voxels: Positive = _key(
        "The image on a contact is compared with the image so far away on either side, in voxels of the finest axis.",
        3,
    )


class Solver(Model):
    """From scores to neurons."""

    threshold: Probability = _key(
        "Score at which a contact speaks neither for nor against a merger; higher merges less.", 0.5
    )


class Grow(Model):
    """Neurons in unsegmented space."""

    voxels: Annotated[float, Field(ge=0)] = _key(
        "Unsegmented voxels take the nearest neuron within this distance, in voxels of the finest axis.", 0.0
    )


class Agglomeration(Model):
    """Merging supervoxels into neurons: graph, then solver, then the relabelled volume."""

    graph: RegionGraph = _key("The graph of contacts.", RegionGraph)
    solver: Solver = _key("The solver.", Solver)
    grow: Grow = _key("What the neurons take beyond their supervoxels.", Grow)


class NamedBox(Model):
    """A box with a name."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = _key("Its name in metrics.json.")
    box_xyz: BoxXYZ = _key("The box, in the image source's coordinates.")


class NamedSource(Model):
    """A segmentation from elsewhere, with a name."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = _key("Its name in metrics.json.")
    source: Source = _key("Where it is, in the image source's coordinates.")


class Evaluation(Model):
    """Scores against the labels."""

    boxes: tuple[NamedBox, ...] = _key("Parts that are scored; empty: all that is labelled.", ())
    segmentations: tuple[NamedSource, ...] = _key(
        "Segmentations that are scored beside supervoxels and neurons: a published one, last week's.", ()
    )
    skeletons: bool = _key("Whether to score along skeletons of the labels, too: run length and edge accuracy.", True)
    merge_threshold_nodes: NonNegative = _key(
        "A segment is a merger in these scores if it covers more skeleton nodes (voxels) than this of each of two or "
        "more neurons.",
        50,
    )
    bootstrap_samples: NonNegative = _key("Resamplings of blocks behind the intervals of the scores; 0: none.", 200)
    worst: NonNegative = _key("Mergers and splits of each segmentation that worst.json lists, largest first.", 20)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        for box in self.boxes:
            _check_box(box.box_xyz, f"evaluation box {box.name}")
        names = [box.name for box in self.boxes]
        if len(set(names)) != len(names):
            raise ValueError("evaluation.boxes must have different names")
        names = ["supervoxels", "neurons", *(segmentation.name for segmentation in self.segmentations)]
        if len(set(names)) != len(names):
            raise ValueError("evaluation.segmentations must have names of their own, not supervoxels or neurons")
        return self


class Publishing(Model):
    """Meshes and skeletons."""

    mesh_error_nm: NonNegative = _key("Largest deviation of a simplified mesh.", 40)
    min_voxels: NonNegative = _key("Smaller neurons get neither mesh nor skeleton.", 1000)
    mesh_levels: Positive = _key("Coarser levels of detail of each mesh, at most.", 2)
    task_size_xyz: SizeXYZ = _key("Meshes and skeletons are made in pieces of this size.", (256, 256, 256))
    sharded: bool = _key("Few large files of meshes and skeletons in place of one a neuron.", False)
    data_url: str = _key(
        "Where neuroglancer.json finds the experiment's folder; the default is where `floodline view` serves it.",
        "http://127.0.0.1:8080/data",
    )
    contact_gap_nm: NonNegative = _key(
        "Neurons touch where the centres of their voxels are at most this far apart and no other neuron is between.", 60
    )


class Config(Model):
    """An experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = _key("Results go to results/<name>/.")
    seed: NonNegative = _key("Every random choice comes from this number and a name.", 1)
    data: str = _key("Folder or URL that {data} stands for in every path of the configuration.", "data")
    image: Image = _key("The EM volume.")
    labels: Labels | None = _key("Proofread labels; null: none, so no training and no scores.", None)
    storage: Storage = _key("How layers are stored.", Storage)
    network: Network = _key("The network.", Network)
    sites: Sites = _key("Training sites.", Sites)
    training: Training | None = _key("Training; null: the weights of network.weights are used as they are.", None)
    inference: Inference = _key("Flooding.", Inference)
    assembly: Assembly = _key("One label space.", Assembly)
    agglomeration: Agglomeration = _key("Supervoxels to neurons.", Agglomeration)
    evaluation: Evaluation = _key("Scores.", Evaluation)
    publishing: Publishing = _key("Meshes and skeletons.", Publishing)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.training is None and self.network.weights is None:
            raise ValueError("either training or network.weights must be given, else there is no network to flood with")
        if self.training is not None and self.labels is None:
            raise ValueError("training needs labels")
        overlap = self.inference.overlap_xyz or (0, 0, 0)
        if any(o >= s for o, s in zip(overlap, self.inference.subvolume_size_xyz, strict=True)):
            raise ValueError("inference.overlap_xyz must be smaller than inference.subvolume_size_xyz")
        if any(f > s for f, s in zip(self.network.fov_xyz, self.inference.subvolume_size_xyz, strict=True)):
            raise ValueError("inference.subvolume_size_xyz must hold at least one network.fov_xyz")
        return self

    @property
    def overlap_xyz(self) -> Triple:
        """Overlap of sub-volumes: as given, or such that the ranges of field-of-view centres just meet."""
        x, y, z = self.inference.overlap_xyz or (2 * (size // 2) for size in self.network.fov_xyz)
        return x, y, z

    @property
    def lom_radius_xyz(self) -> Triple:
        """Radius of the box in which a site's object fraction is taken."""
        x, y, z = self.sites.lom_radius_xyz or (
            fov // 2 + delta for fov, delta in zip(self.network.fov_xyz, self.network.deltas_xyz, strict=True)
        )
        return x, y, z


def parse(values: Any, where: str = "the configuration") -> Config:
    """Validate a configuration tree.

    Raises:
        FloodlineError: a key is unknown or impossible; the sentence names it, and the nearest right one.
    """
    data = values.get("data", Config.model_fields["data"].default) if isinstance(values, dict) else None
    try:
        return Config.model_validate(_fill_in(values, str(data)))
    except ValidationError as error:
        raise FloodlineError(f"{where}: {_sentence(error)}") from None


def _fill_in(values: Any, data: str) -> Any:
    """Put the folder of the data wherever a text says {data}."""
    if isinstance(values, dict):
        return {key: _fill_in(value, data) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_fill_in(value, data) for value in values]
    return values.replace("{data}", data) if isinstance(values, str) else values


def load(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises:
        FloodlineError: the file is missing, is not YAML, or has an unknown or impossible key.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FloodlineError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    return parse(values, str(path))


def dump(config: Config) -> str:
    """The resolved configuration as YAML, every default filled in."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)


def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


# pydantic puts the tag of a union ("phantom") into the path of a key: a user did not write it there.
TAGS = {"phantom", "stack", "hdf5", "precomputed", "volume", "intensity", "box"} | {
    "peaks", "peaks_2d", "grid", "dense", "points", "fill_empty_space", "invert_origins",
}  # fmt: skip


def _sentence(error: ValidationError) -> str:
    """One sentence about the first thing that is wrong."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in TAGS]
    key = ".".join(path) or "the top level"
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], _known_keys(path[:-1]), n=1, cutoff=0.5)
        hint = f": did you mean '{close[0]}'?" if close else "."
        return f"unknown key '{key}'{hint}"
    if first["type"] == "missing":
        return f"key '{key}' is missing."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    given = "" if isinstance(first["input"], dict) else f" (given: {first['input']!r})"
    return f"key '{key}': {message[0].lower()}{message[1:]}{given}."


def _known_keys(path: list[str]) -> list[str]:
    """Keys allowed at a place of the tree, from the schema."""
    root = schema()
    nodes = [root]
    for part in path:
        nodes = [
            _resolve(root, child)
            for node in nodes
            for option in _options(root, node)
            for child in [option.get("properties", {}).get(part) or option.get("items")]
            if child
        ]
    return [key for node in nodes for option in _options(root, node) for key in option.get("properties", {})]


def _resolve(root: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _options(root: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    node = _resolve(root, node)
    return [_resolve(root, option) for option in [*node.get("anyOf", []), *node.get("oneOf", [])]] or [node]
