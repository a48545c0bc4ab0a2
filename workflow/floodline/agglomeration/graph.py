"""The region graph: contacts of supervoxels with their features, measured box by box.

Files, in `agglomeration/`:

nodes.parquet       `supervoxel`, `voxels`, `intensity` (mean, in standard deviations from the image's mean),
                    `probability` (mean of the flood's).
contacts.parquet    one row a contact, sorted by `a` < `b`; its columns are said in features.py. Written last.
"""

from __future__ import annotations

import logging
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from floodline import pool, steps
from floodline.agglomeration.contacts import Measure, combine, contacts
from floodline.agglomeration.features import dequantised, features
from floodline.agglomeration.growth import spacing_zyx
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.manifest import hash_of, hash_of_file, read_json
from floodline.segmentation.relabel import compact
from floodline.steps import Arrays, Steps
from floodline.tables import read_table, write_table
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

BOX_SIZE_XYZ = (256, 256, 256)
"""Measured at once. The result does not depend on it."""


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `nodes.parquet` and `contacts.parquet`.

    Args:
        workers: processes that work side by side where there is no launcher.

    Raises:
        FloodlineError: assembly is incomplete, or the image is not of integers.
        OutOfTime: the scheduler is about to end the job; what is done is kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), steps.do), partial(_lead, experiment), workers)


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    contacts_path = experiment.agglomeration / "contacts.parquet"
    contacts_path.unlink(missing_ok=True)
    assembled = read_json(experiment.manifest("supervoxels"))
    overlaps_path = experiment.beside("supervoxels") / "overlaps.parquet"
    overlaps = read_table(overlaps_path)
    image = read_json(experiment.manifest("image"))
    _check_image(Layer.open(experiment.layer("image")))
    config = experiment.config.agglomeration.graph
    measure = Measure(
        config.reach_voxels, spacing_zyx(image["voxel_size_nm_xyz"]), config.profile_voxels, image["stddev"]
    )
    parameters = hash_of([assembled, hash_of_file(overlaps_path), image, config.model_dump(mode="json")])
    boxes = blocks(experiment.image_box, BOX_SIZE_XYZ)
    with Steps[_Worker](experiment.unfinished("graph"), parameters, hand_out) as todo:
        sums, pairs = [], []
        for found in todo.do("measure", {box.name: partial(_measure, box, measure) for box in boxes}):
            sums.append(_table(found, "node"))
            pairs.append(_table(found, "pair"))
        nodes = _means(_total(sums), image["mean"], image["stddev"])
        edges = features(combine(pairs), nodes, overlaps, image["mean"], image["stddev"])
        edges = edges[edges["contact_area"] >= config.min_contact_area].reset_index(drop=True)
        logger.info("%d supervoxels, %d contacts", len(nodes), len(edges))
        write_table(experiment.agglomeration / "nodes.parquet", nodes)
        write_table(contacts_path, edges)


def _check_image(image: Layer) -> None:
    if not np.issubdtype(image.dtype, np.integer):
        raise FloodlineError(
            f"the layer {image.path} is of {image.dtype}: the region graph needs an image of integers."
        )


class _Worker:
    """What a process keeps from one box to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)

    @cached_property
    def layers(self) -> list[Layer]:
        names = ("supervoxels", "image", "flood_probability")
        return [Layer.open(self.experiment.layer(name)) for name in names]


def _measure(box: Box, measure: Measure, worker: _Worker) -> Arrays:
    """Sums over the supervoxels of a box, and its contacts."""
    outer = box.grown(measure.halo_xyz).intersection(worker.experiment.image_box)
    supervoxels, image, quantised = (layer.read(outer) for layer in worker.layers)
    core = box.slices_zyx(outer.start_xyz)
    tables = {
        "node": _nodes(supervoxels[core], image[core], quantised[core]),
        "pair": contacts(box, outer, supervoxels, image, quantised, measure),
    }
    return {f"{name}.{column}": table[column].to_numpy() for name, table in tables.items() for column in table}


def _table(arrays: Arrays, name: str) -> pd.DataFrame:
    """One of the tables, read from its file."""
    return pd.DataFrame({key.partition(".")[2]: a for key, a in arrays.items() if key.startswith(f"{name}.")})


def _total(sums: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(sums).groupby("supervoxel", as_index=False).sum()


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
