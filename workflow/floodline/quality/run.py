"""Quality control of the image as its source has it, before any normalisation.

1. Every tile of some sections is measured, on all workers.
2. One process compares each section with its neighbours and writes tables, pictures and, last, the manifest.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from floodline import pool, steps
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.manifest import hash_of, write_bytes, write_json
from floodline.quality import findings, measure, pictures
from floodline.steps import Arrays, Steps
from floodline.volumes.fingerprint import fingerprint
from floodline.volumes.sources import Volume, open_image

SECTIONS = 32
"""Sections of a task."""

MEASURED = (
    "imaged", "mean", "stddev", "lowest", "highest", "at_bottom", "at_top", "sharpness", "correlation", "shift_x",
    "shift_y", "aligned",
)  # fmt: skip


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `quality/`: `sections.parquet`, `profiles.parquet`, `findings.parquet`, pictures, and the manifest.

    Raises:
        FloodlineError: the image was not ingested, or its source is missing or damaged.
        OutOfTime: the scheduler is about to end the job; what was measured is kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), steps.do), partial(_lead, experiment), workers)


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    boxes = blocks(experiment.image_box, (*experiment.config.quality.tile_xy, SECTIONS))
    manifest = experiment.quality / "manifest.json"
    manifest.unlink(missing_ok=True)
    with Steps[_Worker](experiment.unfinished("quality"), _parameters(experiment), hand_out) as todo:
        measured = todo.do("measure", {box.name: partial(_measure, box) for box in boxes})
        sections, profiles = _tables(experiment.image_box, boxes, measured)
    found = findings.find(sections, experiment.config.quality)
    shutil.rmtree(experiment.quality / "pictures", ignore_errors=True)
    pictures.write(experiment.quality / "pictures", _open(experiment), experiment.image_box, found)
    _write_table(experiment.quality / "sections.parquet", sections)
    _write_table(experiment.quality / "profiles.parquet", profiles)
    _write_table(experiment.quality / "findings.parquet", found)
    write_json(
        manifest,
        {
            "box_xyz": experiment.image_box.corners,
            "sections": experiment.image_box.size_xyz[2],
            "tiles": len({box.start_xyz[:2] for box in boxes}),
            "findings": [
                {"kind": str(kind), "sections": sorted({int(z) for z in group["z0"]})}
                for kind, group in found.groupby("kind")
            ],
        },
    )


def _parameters(experiment: Experiment) -> str:
    """Hash of all that decides what is measured."""
    image = experiment.config.image
    return hash_of(
        {
            "source": image.source.model_dump(mode="json"),
            "files": fingerprint(image.source),
            "seed": experiment.config.seed,
            "box_xyz": experiment.image_box.corners,
            "fill": image.normalise.fill,
        }
    )


def _open(experiment: Experiment) -> Volume:
    return open_image(experiment.config.image.source, experiment.config.seed)


def _tables(whole: Box, boxes: list[Box], measured: Iterator[Arrays]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each section of each tile; and mean and standard deviation at each place of each axis."""
    rows = []
    sums = {name: np.zeros((3, size)) for name, size in zip("xyz", whole.size_xyz, strict=True)}
    for box, result in zip(boxes, measured, strict=True):
        (x0, y0, z0), (x1, y1, z1) = box.start_xyz, box.stop_xyz
        z = np.arange(z0, z1)
        place: dict[str, Any] = {"x0": x0, "y0": y0, "z0": z, "x1": x1, "y1": y1, "z1": z + 1}
        rows.append(pd.DataFrame(place | {name: result[name] for name in MEASURED}))
        for axis, name in enumerate("xyz"):
            start = box.start_xyz[axis] - whole.start_xyz[axis]
            sums[name][:, start : start + box.size_xyz[axis]] += result[f"sums_{name}"]
    sections = pd.concat(rows).sort_values(["z0", "y0", "x0"], kind="stable").reset_index(drop=True)
    return sections, _profiles(whole, sums)


def _profiles(whole: Box, sums: dict[str, np.ndarray]) -> pd.DataFrame:
    """Mean and standard deviation of the grey values from their sums along each axis."""
    parts = []
    for axis, name in enumerate("xyz"):
        count, first, second = sums[name]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = first / count
            stddev = np.sqrt(np.maximum(0, second / count - mean**2))
        place = whole.start_xyz[axis] + np.arange(len(count))
        parts.append(pd.DataFrame({"axis": name, "place": place, "mean": mean, "stddev": stddev}))
    return pd.concat(parts, ignore_index=True)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())


class _Worker:
    """What a process keeps from one task to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)

    @cached_property
    def volume(self) -> Volume:
        """Opened with the first task that is not done yet."""
        return _open(self.experiment)


def _measure(box: Box, worker: _Worker) -> Arrays:
    """What is measured of a tile of some sections."""
    fill = worker.experiment.config.image.normalise.fill
    before = Box((*box.start_xyz[:2], box.start_xyz[2] - 1), (*box.stop_xyz[:2], box.start_xyz[2]))
    previous = worker.volume.read(before)[0] if worker.experiment.image_box.contains(before) else None
    voxels = worker.volume.read(box)
    rows = list(measure.measure(voxels, previous, fill))
    arrays = {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in MEASURED}
    return arrays | {f"sums_{name}": array for name, array in measure.sums_along(voxels, fill).items()}
