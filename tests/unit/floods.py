"""Block stores for the tests of assembly and agglomeration, written as inference would write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from floodline import config as configuration
from floodline.experiment import Experiment
from floodline.ffn.flood import Flooding, Predict, drive
from floodline.geometry import Box
from floodline.inference.result import Result
from floodline.inference.subvolume import flood_subvolume
from floodline.manifest import write_block, write_json, write_text
from floodline.volumes.layer import Layer

CHUNK = (8, 8, 8)


def make_experiment(
    folder: Path,
    image: np.ndarray,
    subvolume_size_xyz: tuple[int, int, int],
    overlap_xyz: tuple[int, int, int],
    start_xyz: tuple[int, int, int] = (0, 0, 0),
    **more: object,
) -> Experiment:
    """An experiment with an image and sub-volumes, and nothing flooded yet; `more` are blocks of the configuration."""
    values = {
        "name": "test",
        "image": {"source": {"kind": "phantom"}},
        "storage": {"chunk_size_xyz": CHUNK},
        "network": {"weights": "none", "fov_xyz": [1, 1, 1], "deltas_xyz": [0, 0, 0]},
        "inference": {"subvolume_size_xyz": subvolume_size_xyz, "overlap_xyz": overlap_xyz},
        **more,
    }
    write_text(folder / "config.yaml", configuration.dump(configuration.parse(values)))
    experiment = Experiment(folder)
    box = Box.of_array(image.shape, start_xyz)
    layer = Layer.create(
        experiment.layer("image"),
        box=box,
        dtype="uint8",
        voxel_size_nm_xyz=(8, 8, 8),
        chunk_size_xyz=CHUNK,
        kind="image",
    )
    layer.write(box, image)
    about = {"box_xyz": box.corners, "voxel_size_nm_xyz": [8, 8, 8], "dtype": "uint8"}
    write_json(
        experiment.manifest("image"), {**about, "mean": float(image.mean()), "stddev": float(image.std()) or 1.0}
    )
    return experiment


def write_floods(
    experiment: Experiment,
    segmentations: dict[Box, np.ndarray],
    overlaps: dict[Box, list[tuple[int, int, int]]] | None = None,
    qprob: int = 200,
    candidates: dict[Box, np.ndarray] | None = None,
    held_together: dict[Box, list[tuple[int, int]]] | None = None,
) -> None:
    """Write a block for every sub-volume, and the manifest."""
    entries = []
    for box in experiment.subvolumes:
        segmentation = segmentations[box].astype(np.int32)
        ids, sizes = np.unique(segmentation[segmentation > 0], return_counts=True)
        starts = [np.argwhere(segmentation == one)[0] for one in ids]
        write_block(
            experiment.block(box),
            "made by hand",
            {
                "segmentation": segmentation,
                "qprob": np.where(segmentation > 0, qprob, 0).astype(np.uint8),
                **of_candidates((candidates or {}).get(box, np.zeros_like(segmentation))),
                "origins": np.array([(one, *start) for one, start in zip(ids, starts, strict=True)]).reshape(-1, 4),
                "calls": np.ones(len(ids), np.int64),
                "sizes": sizes,
                "overlaps": np.array((overlaps or {}).get(box, []), np.int64).reshape(-1, 3),
                "held_together": np.array((held_together or {}).get(box, []), np.int64).reshape(-1, 2),
            },
        )
        entries.append({"box_xyz": box.corners, "file": f"blocks/{experiment.block(box).name}"})
    write_json(experiment.manifest("inference"), {"parameters": "made by hand", "blocks": entries})


def of_candidates(candidates: np.ndarray) -> dict[str, np.ndarray]:
    """Candidates of a sub-volume (z, y, x; 0: none) as they lie in a block."""
    voxels = np.flatnonzero(candidates)
    return {"candidate_voxels": voxels, "candidate_ids": candidates.ravel()[voxels].astype(np.int32)}


def same_up_to_ids(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label volumes hold the same objects, background included."""
    pairs = np.unique(np.stack([a.ravel().astype(np.uint64), b.ravel().astype(np.uint64)], axis=1), axis=0)
    one_to_one = all(len(np.unique(column)) == len(column) for column in pairs.T)
    return one_to_one and bool((pairs[:, 0][pairs[:, 1] == 0] == 0).all())


def flood_with(network: Predict, experiment: Experiment, box: Box, parameters: str) -> Result:
    """What comes of a sub-volume with a network that is a plain function."""
    results = []

    def noting() -> Flooding[None]:
        results.append((yield from flood_subvolume(experiment, box, parameters)))

    drive([noting()], network)
    return results[0]
