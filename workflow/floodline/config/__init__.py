"""The configuration: one tree of pydantic models, from which the JSON schema and every default come.

What the science needs is here; what a machine needs (ranks, threads, walltime, launcher) is in profiles/.
Unknown keys are errors that name the key and the nearest right one. Triples are x, y, z in voxels of mip 0.
"""

from __future__ import annotations

from floodline.config.experiment import (
    Config,
)
from floodline.config.flooding import (
    BoxMask,
    DenseSeeds,
    FillEmptySpaceSeeds,
    Flood,
    FloodPolicy,
    GridSeeds,
    Inference,
    IntensityMask,
    IntensitySeeds,
    InvertOriginsSeeds,
    Mask,
    Peaks2dSeeds,
    PeaksSeeds,
    PointsSeeds,
    Seeds,
    ShiftMask,
    VolumeMask,
)
from floodline.config.reading import (
    dump,
    load,
    parse,
    schema,
)
from floodline.config.results import (
    Evaluation,
    NamedBox,
    NamedSource,
    Publishing,
)
from floodline.config.segmentation import (
    Agglomeration,
    Assembly,
    Grow,
    RegionGraph,
    Solver,
)
from floodline.config.training import (
    Defects,
    LearningRate,
    Network,
    Optimiser,
    OtherVolume,
    Selection,
    Sites,
    Training,
)
from floodline.config.volumes import (
    BodyTable,
    ChunkedSource,
    Clahe,
    FileSource,
    Hdf5Source,
    Image,
    Labels,
    PhantomSource,
    PrecomputedSource,
    RawSource,
    Source,
    StackSource,
    Storage,
)

__all__ = [
    "Agglomeration",
    "Assembly",
    "BodyTable",
    "BoxMask",
    "ChunkedSource",
    "Clahe",
    "Config",
    "Defects",
    "DenseSeeds",
    "Evaluation",
    "FileSource",
    "FillEmptySpaceSeeds",
    "Flood",
    "FloodPolicy",
    "GridSeeds",
    "Grow",
    "Hdf5Source",
    "Image",
    "Inference",
    "IntensityMask",
    "IntensitySeeds",
    "InvertOriginsSeeds",
    "Labels",
    "LearningRate",
    "Mask",
    "NamedBox",
    "NamedSource",
    "Network",
    "Optimiser",
    "OtherVolume",
    "Peaks2dSeeds",
    "PeaksSeeds",
    "PhantomSource",
    "PointsSeeds",
    "PrecomputedSource",
    "Publishing",
    "RawSource",
    "RegionGraph",
    "Seeds",
    "Selection",
    "ShiftMask",
    "Sites",
    "Solver",
    "Source",
    "StackSource",
    "Storage",
    "Training",
    "VolumeMask",
    "dump",
    "load",
    "parse",
    "schema",
]
