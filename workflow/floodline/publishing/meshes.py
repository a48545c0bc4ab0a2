"""Meshes of the neurons: Neuroglancer's multi-resolution format."""

from __future__ import annotations

from floodline.experiment import Experiment
from floodline.publishing import igneous


def run(experiment: Experiment) -> None:
    """Write `neurons/mesh/`, name it in the layer's `info`, and write `neurons/mesh.json` last.

    Marching cubes and quadric simplification by zmesh, through igneous; meshes are closed at the faces of the volume.

    Raises:
        FloodlineError: there are no neurons, or igneous failed.
    """
    publishing = experiment.config.publishing
    merge = ["mesh", "merge-sharded"] if publishing.sharded else ["mesh", "merge", "--magnitude", "1"]
    igneous.make(
        experiment,
        "mesh",
        forge=["mesh", "forge", "--max-error", str(publishing.mesh_error_nm), "--compress", "none"],
        merge=[*merge, "--nlod", str(publishing.mesh_levels)],
    )
