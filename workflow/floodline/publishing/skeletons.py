"""Skeletons of the neurons, with radii: Neuroglancer's skeleton format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from floodline.experiment import Experiment
from floodline.publishing import igneous
from floodline.volumes.layer import open_cloud_volume
from floodline.volumes.remote import exists, reaching


def run(experiment: Experiment) -> None:
    """Write `neurons/skeletons/`, name it in the layer's `info`, and write `neurons/skeletons.json` last.

    TEASAR by kimimaro, through igneous. A neuron that is one round blob may have none; `skeletons.json` lists it.

    Raises:
        FloodlineError: there are no neurons, or igneous failed.
    """
    publishing = experiment.config.publishing
    merge = ["skeleton", "merge-sharded"] if publishing.sharded else ["skeleton", "merge", "--magnitude", "1"]
    igneous.make(
        experiment,
        "skeletons",
        forge=["skeleton", "forge"],
        # igneous' default drops what is shorter than 1000 nm.
        merge=[*merge, "--min-cable-length", "0"],
    )


def read(neurons: Path | str) -> list[Any]:
    """Every skeleton of the neurons layer, as CloudVolume's `Skeleton`s (vertices and radii in nanometres)."""
    if not exists(neurons, "skeletons/info"):
        return []
    there = sorted(igneous.finished(neurons, "skeletons"))
    with reaching(neurons, "read"):
        return open_cloud_volume(neurons).skeleton.get(there) if there else []
