"""A program that the ranks of a launcher run: the box-by-box stages of one experiment, from its labels and blocks on.

It is also the same stages for a test's own process, so that both do the same.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from floodline.agglomeration import edges, graph, neurons, solve
from floodline.assembly import run as assembly
from floodline.evaluation import run as evaluation
from floodline.experiment import Experiment
from floodline.labels import coordinates, held_out, partitions

SLABS_XYZ = (64, 64, 5)
"""Several blocks for the sites, too, along z alone: voxels are numbered block by block, in the order of the array."""


def run(folder: Path, workers: int = 1) -> None:
    experiment = Experiment(folder)
    partitions.run(experiment, workers)
    coordinates.run(experiment, workers)
    assembly.run(experiment, workers)
    graph.run(experiment, workers)
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
        edges.run(experiment)
        solve.run(experiment)
    neurons.run(experiment, workers)
    evaluation.run(experiment, workers)


if __name__ == "__main__":
    coordinates.BLOCK_XYZ = held_out.BLOCK_XYZ = SLABS_XYZ
    run(Path(sys.argv[1]))
