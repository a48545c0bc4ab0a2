"""Training sites, measured: partitions of a label volume and balanced coordinates, in voxels a second.

    .venv/bin/python benchmarks/labels.py [--side 768] [--workers 2] [--rounds 3]

The volume is of cubes of 192 voxels a side, each the same Voronoi cells of about 60 voxels across with ids of its own.
The radius of the surroundings is that of the published network (24 voxels). The best round counts; its seconds are wall
time with the start of the workers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from floodline import config
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.labels import coordinates, partitions
from floodline.manifest import write_json, write_text
from floodline.volumes.layer import Layer

CUBE, ACROSS = 192, 60


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=768, help="voxels along each axis")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        experiment = labelled(Path(name), arguments.side)
        stages = (partitions.run, coordinates.run)
        rounds = [
            [seconds_of(stage, experiment, arguments.workers) for stage in stages] for _ in range(arguments.rounds)
        ]
    voxels, (first, second) = arguments.side**3 / 1e6, min(rounds, key=sum)
    print(
        f"{voxels:.0f} million voxels, {arguments.workers} workers: partitions {first:.1f} s, balanced coordinates "
        f"{second:.1f} s; {voxels / first:.1f} and {voxels / (first + second):.1f} million voxels a second for the "
        "first and for both"
    )


def labelled(folder: Path, side: int) -> Experiment:
    """An experiment with labels."""
    phantom = {"source": {"kind": "phantom", "size_xyz": [side] * 3}}
    values = {"name": "labels", "image": phantom, "labels": phantom, "training": {}}
    write_text(folder / "config.yaml", config.dump(config.parse(values)))
    experiment, box = Experiment(folder), Box((0, 0, 0), (side, side, side))
    layer = Layer.create(
        experiment.layer("labels"),
        box=box, dtype="uint64", voxel_size_nm_xyz=(8, 8, 8), chunk_size_xyz=(64, 64, 64), kind="segmentation",
    )  # fmt: skip
    centres = np.random.default_rng(0).uniform(0, CUBE, ((CUBE // ACROSS) ** 3, 3))
    places = np.moveaxis(np.indices((CUBE, CUBE, CUBE)), 0, -1)
    cells = (cKDTree(centres).query(places, workers=-1)[1] + 1).astype(np.uint64)
    for number, cube in enumerate(blocks(box, (CUBE, CUBE, CUBE))):
        layer.write(cube, (cells + np.uint64(number * len(centres)))[Box.of_array(cube.shape_zyx).slices_zyx()])
    write_json(experiment.manifest("labels"), {"box_xyz": box.corners, "boxes_xyz": [box.corners]})
    return experiment


def seconds_of(stage: Callable[[Experiment, int], None], experiment: Experiment, workers: int) -> float:
    """Wall time of a stage."""
    began = time.monotonic()
    stage(experiment, workers)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
