"""What proofreading tools import, in `handover/`.

edges.csv               every contact that was decided on: supervoxels `a`, `b`, the `score`, the `contact_area` in
                        voxel faces, `x`, `y`, `z` in voxels, and whether the two were `merged` (0 or 1).
mapping.csv             `supervoxel`, `neuron`.
neuroglancer.json       a Neuroglancer state in which the supervoxels of a neuron are one (`equivalences`), so that its
                        own merging and splitting go on from here.
skeletons/<neuron>.swc  SWC as CATMAID, navis and Neuroglancer take it: in nanometres, with radii, roots first. SWC
                        holds trees, so a loop lacks one of its edges. R. C. Cannon et al., J. Neurosci. Methods 84
                        (1998).
chunkedgraph/           what PyChunkedGraph ingests; see floodline.publishing.chunkedgraph.
webknossos/agglomerates/neurons
                        what webKnossos shows and edits on the supervoxels; see floodline.publishing.agglomerate_view.
manifest.json           how many there are of each; written last.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import blocks
from floodline.manifest import write_json, write_text
from floodline.publishing import agglomerate_view, chunkedgraph, skeletons, state
from floodline.volumes.layer import Layer

SWC_HEAD = "# Neuron {neuron} of {experiment}, by floodline. Nanometres.\n# id type x y z radius parent\n"


def run(experiment: Experiment) -> None:
    """Write `handover/`, its manifest last.

    Raises:
        FloodlineError: the agglomeration, the supervoxels or the neurons are missing.
    """
    folder = experiment.folder / "handover"
    # The manifest goes first: what has one is whole.
    (folder / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    edges = _table(experiment.agglomeration / "edges.parquet")
    mapping = _table(experiment.agglomeration / "mapping.parquet")
    neuron = mapping.set_index("supervoxel")["neuron"]
    merged = neuron.reindex(edges["a"]).to_numpy() == neuron.reindex(edges["b"]).to_numpy()
    decided = edges[["a", "b", "score", "contact_area", "x", "y", "z"]].assign(merged=merged.astype(int))
    write_text(folder / "edges.csv", decided.to_csv(index=False))
    write_text(folder / "mapping.csv", mapping.to_csv(index=False))
    write_json(folder / "neuroglancer.json", graph_state(experiment, mapping))
    supervoxels = Layer.open(experiment.layer("supervoxels"))
    places = first_voxels(supervoxels)
    agglomerate_view.write(folder / "webknossos" / "agglomerates" / "neurons", mapping, edges, places)
    pieces = chunkedgraph.write(folder / "chunkedgraph", supervoxels, mapping, edges)
    written = 0
    for skeleton in skeletons.read(experiment.layer("neurons")):
        head = SWC_HEAD.format(neuron=skeleton.id, experiment=experiment.config.name)
        # The library's own head holds the time, and would make every run's bytes differ.
        rows = [line for line in skeleton.to_swc().splitlines() if line and not line.startswith("#")]
        write_text(folder / "skeletons" / f"{skeleton.id}.swc", head + "\n".join(rows) + "\n")
        written += 1
    write_json(
        folder / "manifest.json",
        {
            "edges": len(decided),
            "supervoxels": len(mapping),
            "neurons": neuron.nunique(),
            "skeletons": written,
            "chunkedgraph": pieces,
        },
    )


def first_voxels(layer: Layer) -> pd.DataFrame:
    """A voxel of each object of a layer: columns x, y, z; the object is the index."""
    found = []
    for block in blocks(layer.box, layer.chunk_size_xyz):
        labels = layer.read(block)
        ids, first = np.unique(labels, return_index=True)
        z, y, x = np.unravel_index(first, labels.shape)
        xyz = {axis: place + start for axis, place, start in zip("xyz", (x, y, z), block.start_xyz, strict=True)}
        found.append(pd.DataFrame(xyz, index=ids)[ids > 0])
    places = pd.concat(found)
    return places[~places.index.duplicated()]


def graph_state(experiment: Experiment, mapping: pd.DataFrame) -> dict[str, Any]:
    """The viewer's state with the supervoxels in front, those of each neuron joined.

    Args:
        mapping: columns `supervoxel`, `neuron`.
    """
    built = state.build(experiment, experiment.config.publishing.data_url)
    pieces = mapping.groupby("neuron")["supervoxel"].agg(list)
    joined = [[str(supervoxel) for supervoxel in group] for group in pieces if len(group) > 1]
    for layer in built["layers"]:
        if layer["type"] == "segmentation":
            layer["visible"] = layer["name"] == "supervoxels"
        if layer["name"] == "supervoxels":
            layer["equivalences"] = joined
    built["selectedLayer"] = {"layer": "supervoxels", "visible": True}
    return built


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FloodlineError(f"{path} is missing: run the stage that writes it first.")
    return pd.read_parquet(path)
