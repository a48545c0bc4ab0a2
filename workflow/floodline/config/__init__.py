"""The configuration: one tree of pydantic models, from which the JSON schema and every default come.

What the science needs is here; what a machine needs (ranks, threads, walltime, launcher) is in profiles/.
Unknown keys are errors that name the key and the nearest right one. Triples are x, y, z in voxels of mip 0.
"""

from __future__ import annotations

from floodline.config.cells import (
    Cell,
    cells,
)
from floodline.config.experiment import (
    Config,
)
from floodline.config.flooding import (
    DenseSeeds,
    FillEmptySpaceSeeds,
    Flood,
    FloodPolicy,
    GridSeeds,
    Inference,
    IntensitySeeds,
    InvertOriginsSeeds,
    Peaks2dSeeds,
    PeaksSeeds,
    PointsSeeds,
    Seeds,
    ShiftMask,
)
from floodline.config.ingest import (
    Clahe,
    Cleaning,
    Matching,
    Normalisation,
    Percentiles,
)
from floodline.config.masks import (
    FINDINGS,
    BorderMask,
    BoxMask,
    FillMask,
    IntensityMask,
    Mask,
    Purpose,
    QualityMask,
    ResinMask,
    VolumeMask,
)
from floodline.config.quality import Quality
from floodline.config.reading import (
    dump,
    load,
    parse,
)
from floodline.config.results import (
    Evaluation,
    Export,
    LayerSynapses,
    NamedBox,
    NamedSource,
    Publishing,
    TableSynapses,
)
from floodline.config.segmentation import (
    Agglomeration,
    Assembly,
    Fit,
    Grow,
    RegionGraph,
    Resegmentation,
    Solver,
)
from floodline.config.sentence import schema
from floodline.config.study import (
    WORKERS,
    Study,
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
    BoxesSource,
    ChunkedSource,
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
    "FINDINGS",
    "WORKERS",
    "Agglomeration",
    "Assembly",
    "BodyTable",
    "BorderMask",
    "BoxMask",
    "BoxesSource",
    "Cell",
    "ChunkedSource",
    "Clahe",
    "Cleaning",
    "Config",
    "Defects",
    "DenseSeeds",
    "Evaluation",
    "Export",
    "FileSource",
    "FillEmptySpaceSeeds",
    "FillMask",
    "Fit",
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
    "LayerSynapses",
    "LearningRate",
    "Mask",
    "Matching",
    "NamedBox",
    "NamedSource",
    "Network",
    "Normalisation",
    "Optimiser",
    "OtherVolume",
    "Peaks2dSeeds",
    "PeaksSeeds",
    "Percentiles",
    "PhantomSource",
    "PointsSeeds",
    "PrecomputedSource",
    "Publishing",
    "Purpose",
    "Quality",
    "QualityMask",
    "RawSource",
    "RegionGraph",
    "Resegmentation",
    "ResinMask",
    "Seeds",
    "Selection",
    "ShiftMask",
    "Sites",
    "Solver",
    "Source",
    "StackSource",
    "Storage",
    "Study",
    "TableSynapses",
    "Training",
    "VolumeMask",
    "cells",
    "dump",
    "load",
    "parse",
    "schema",
]
