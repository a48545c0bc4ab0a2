"""The region graph: contacts of supervoxels with their features and scores, measured box by box.

Files, in `agglomeration/`:

nodes.parquet       `supervoxel`, `voxels`, `intensity` (mean, in standard deviations from the image's mean),
                    `probability` (mean of the flood's).
edges.parquet       one row a contact, sorted by `a` < `b`; its columns are said in features.py. Written last.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from floodline.agglomeration.contacts import Measure, combine, contacts
from floodline.agglomeration.features import dequantised, features
from floodline.agglomeration.growth import spacing_zyx
from floodline.agglomeration.score import score
from floodline.agglomeration.tables import read_table, write_table
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.manifest import read_json
from floodline.progress import Meter
from floodline.segmentation.relabel import compact
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

BOX_SIZE_XYZ = (256, 256, 256)
"""Measured at once. The result does not depend on it."""


def run(experiment: Experiment) -> None:
    """Write `nodes.parquet` and `edges.parquet`.

    Raises:
        FloodlineError: assembly is incomplete, or the image is not of integers.
    """
    edges_path = experiment.agglomeration / "edges.parquet"
    edges_path.unlink(missing_ok=True)
    read_json(experiment.manifest("supervoxels"))
    overlaps = read_table(experiment.layer("supervoxels") / "overlaps.parquet")
    image = read_json(experiment.manifest("image"))
    config = experiment.config.agglomeration.graph
    measure = Measure(
        config.reach_voxels, spacing_zyx(image["voxel_size_nm_xyz"]), config.profile_voxels, image["stddev"]
    )
    sums, pairs = measure_boxes(experiment, blocks(experiment.image_box, BOX_SIZE_XYZ), measure)
    nodes = _means(sums, image["mean"], image["stddev"])
    edges = features(pairs, nodes, overlaps, image["mean"], image["stddev"])
    edges = edges[edges["contact_area"] >= config.min_contact_area].reset_index(drop=True)
    edges["score"] = score(edges)
    logger.info("%d supervoxels, %d contacts", len(nodes), len(edges))
    write_table(experiment.agglomeration / "nodes.parquet", nodes)
    write_table(edges_path, edges)


def measure_boxes(experiment: Experiment, boxes: list[Box], measure: Measure) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sums over supervoxels, and contacts, of the volume that the boxes fill."""
    layers = [Layer.open(experiment.layer(name)) for name in ("supervoxels", "image", "flood_probability")]
    if not np.issubdtype(layers[1].dtype, np.integer):
        raise FloodlineError(
            f"the layer {layers[1].path} is of {layers[1].dtype}: the region graph needs an image of integers."
        )
    nodes, pairs = [], []
    with Meter("graph", len(boxes), "boxes") as meter:
        for box in boxes:
            outer = box.grown(measure.halo_xyz).intersection(experiment.image_box)
            supervoxels, image, quantised = (layer.read(outer) for layer in layers)
            pairs.append(contacts(box, outer, supervoxels, image, quantised, measure))
            core = box.slices_zyx(outer.start_xyz)
            nodes.append(_nodes(supervoxels[core], image[core], quantised[core]))
            meter.advance()
    return pd.concat(nodes).groupby("supervoxel", as_index=False).sum(), combine(pairs)


def _nodes(supervoxels: np.ndarray, image: np.ndarray, quantised: np.ndarray) -> pd.DataFrame:
    """Sums over the voxels of every supervoxel of a box."""
    numbers, ids = compact(np.ascontiguousarray(supervoxels))
    sums = [
        np.bincount(numbers.ravel(), values.ravel(), len(ids)) for values in (np.ones_like(image), image, quantised)
    ]
    voxels, intensity, probability = (values[1:].astype(np.int64) for values in sums)
    return pd.DataFrame({"supervoxel": ids[1:], "voxels": voxels, "intensity": intensity, "quantised": probability})


def _means(sums: pd.DataFrame, mean: float, stddev: float) -> pd.DataFrame:
    """`nodes.parquet`."""
    voxels = sums["voxels"]
    return pd.DataFrame(
        {
            "supervoxel": sums["supervoxel"],
            "voxels": voxels,
            "intensity": (sums["intensity"] / voxels - mean) / stddev,
            "probability": dequantised(sums["quantised"] / voxels),
        }
    )
