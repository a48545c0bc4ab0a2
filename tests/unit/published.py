"""Experiments made of arrays, for the tests of what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from floodline import config
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.manifest import write_json
from floodline.volumes import pyramid
from floodline.volumes.layer import Layer

VOXEL_SIZE_NM_XYZ = (8.0, 8.0, 10.0)
START_XYZ = (100, -20, 7)


def experiment(folder: Path, **values: Any) -> Experiment:
    """An experiment's folder with nothing but a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    source = {"source": {"kind": "phantom"}}
    tree = {"name": "test", "image": source, "network": {"weights": "unused"}, **values}
    (folder / "config.yaml").write_text(config.dump(config.parse(tree)))
    return Experiment(folder)


def layer(
    path: Path | str,
    array: np.ndarray,
    voxel_size_nm_xyz: tuple[float, float, float] = VOXEL_SIZE_NM_XYZ,
    chunk: int = 32,
) -> Layer:
    """A layer with this content (z, y, x) that starts at START_XYZ; uint8 is an image, everything else is labels."""
    box = Box.of_array(array.shape, START_XYZ)
    made = Layer.create(
        path,
        box=box,
        dtype=array.dtype.name,
        voxel_size_nm_xyz=voxel_size_nm_xyz,
        chunk_size_xyz=(chunk,) * 3,
        kind="image" if array.dtype == np.uint8 else "segmentation",
    )
    for part in blocks(box, made.chunk_size_xyz):
        made.write(part, array[part.slices_zyx(box.start_xyz)])
    return made


def add(exp: Experiment, name: str, array: np.ndarray) -> Layer:
    """A whole layer of the experiment, with manifest and pyramid."""
    made = layer(exp.layer(name), array)
    known = {"box_xyz": made.box.corners, "voxel_size_nm_xyz": list(VOXEL_SIZE_NM_XYZ), "dtype": array.dtype.name}
    if name == "image":
        known |= {"mean": float(array.mean()), "stddev": float(array.std())}
    if name == "labels":
        known |= {"boxes_xyz": [made.box.corners]}
    write_json(exp.manifest(name), known)
    pyramid.run(exp.layer(name), 1, exp.manifest(name).with_name("mips.json"))
    return made


def nanometres(shape_zyx: tuple[int, int, int], voxel_size_nm_xyz=VOXEL_SIZE_NM_XYZ) -> list[np.ndarray]:
    """x, y and z of the middle of every voxel, from the corner of the array."""
    z, y, x = np.indices(shape_zyx) + 0.5
    return [axis * nm for axis, nm in zip((x, y, z), voxel_size_nm_xyz, strict=True)]
