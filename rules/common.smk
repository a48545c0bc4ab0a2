# What all rules share: the checked configuration, and how a stage's part of it reaches `params`.
import os
import re
import sys
from pathlib import Path

from floodline import config as configuration
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
    needed = any(
        mask.kind == "quality" and {*mask.closed_to} & {*purposes}
        for mask in CONFIG.masks
    )
    return ["results/{experiment}/quality/manifest.json"] if needed else []


def masks(*purposes):
    """The masks for training sites, seeds or floods, for `params`."""
    return [
        mask.model_dump(mode="json")
        for mask in CONFIG.masks
        if {*mask.closed_to} & {*purposes}
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
        if value is not None and not name.startswith("_")
    }
