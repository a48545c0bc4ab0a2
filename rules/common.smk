# What all rules share: the checked configuration, and how a stage's part of it reaches `params`.
import os
import re
import sys
from pathlib import Path

from floodline import config as configuration
from floodline.config import files
from floodline.errors import FloodlineError
from floodline.manifest import write_text
from floodline.parallel import LAUNCHER_ENVIRONMENT

try:
    CONFIG = configuration.parse(config)
except FloodlineError as error:
    sys.exit(f"floodline: {error}")

RESULTS = f"results/{CONFIG.name}"

for name, value in LAUNCHER_ENVIRONMENT.items():
    os.environ.setdefault(name, value)

# The compute nodes of some machines are reached through the launcher only. Where there is none, mpi is empty.
LAUNCH = "mpi='{resources.mpi}'; ${{mpi:+$mpi -n {resources.tasks}}} "


def section(*keys):
    """Parts of the configuration, for `params`: only what passes through it makes a job run again."""
    values = CONFIG.model_dump(mode="json")
    return {key: values[key] for key in keys}


def masked_by(*purposes):
    """Results that the masks for training sites, seeds or floods are made from, for `input`."""
    needed = any(mask.kind == "quality" for mask in files.masks_for(CONFIG, *purposes))
    return ["results/{experiment}/quality/manifest.json"] if needed else []


def masks(*purposes):
    """The masks for training sites, seeds or floods, for `params`."""
    return [mask.model_dump(mode="json") for mask in files.masks_for(CONFIG, *purposes)]


def present(paths):
    """Those of the files that are there, for `input`; what is missing is named by the stage that wants it."""
    return [path for path in paths if path.is_file()]


def other_sites(config):
    """Training sites of other experiments: these are no part of this run, so they must be there."""
    return [
        f"{other.experiment}/coordinates/manifest.json"
        for other in config.training.volumes
    ]


def layers():
    """Layers that this experiment makes."""
    return ["image", "supervoxels", "neurons"] + (["labels"] if CONFIG.labels else [])


def given(rule):
    """A rule's resources, the profile's above its own, as plain values."""
    values = {name: resource.raw for name, resource in rule.resources.items()}
    return {
        name: value
        for name, value in values.items()
        if value is not None and not name.startswith("_") and not callable(value)
    }


REPORTED = {
    "quality": "quality/manifest.json",
    "metrics": "evaluation/metrics.json",
    "connectome": "connectome/neurons.parquet",
    "state": "neuroglancer.json",
    "mapping": "agglomeration/mapping.parquet",
    "card": "model/card.json",
    "example": "inference/example.block",
    "screenshots": "screenshots/manifest.json",
}


def reported(wildcards):
    """What the report shows: all that a run makes, or a study's table."""
    names = {"study": "study.parquet"} if CONFIG.study else dict(REPORTED)
    if CONFIG.publishing.synapses and not CONFIG.study:
        names["synapses"] = "connectome/synaptic_pairs.parquet"
    return {
        name: f"results/{wildcards.experiment}/{path}" for name, path in names.items()
    }


def cell_workers(wildcards):
    """How many workers train a cell of the study."""
    return CELLS[wildcards.cell].workers


def cell_section(wildcards):
    """What decides a cell's training, for `params`: not the matrix, so that a new value makes only new cells run."""
    values = CELLS[wildcards.cell].config.model_dump(mode="json")
    return {key: values[key] for key in ("seed", "network", "training", "inference")}


def study_results(wildcards):
    """What the target study makes."""
    if CONFIG.study is None:
        sys.exit(
            f"floodline: {CONFIG.name} is no study: its configuration has no key study (config/studies/ has examples)."
        )
    return [f"{RESULTS}/study.parquet", f"{RESULTS}/report.html"]
