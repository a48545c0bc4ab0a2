"""Training sites, and sites for scores: from partitions to files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import h5py
import numpy as np

from floodline import pool, steps
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.sites import write_coordinates
from floodline.geometry import Box, Triple, blocks, triple
from floodline.labels import held_out
from floodline.labels.balance import balanced_sites
from floodline.labels.partitions import BLOCK_XYZ, DATASET, EXCLUDED, REMOVED
from floodline.manifest import hash_of, read_json, write_json
from floodline.steps import Steps
from floodline.volumes.masks import decided_by

FILE = "coordinates-00000-of-00001.tfrecord.gz"
HELD_OUT_FILE = "held_out-00000-of-00001.tfrecord.gz"
VOLUME_NAME = "labels"


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `coordinates/`: the sites, shuffled; sites of the held-out boxes, for scores; and a manifest.

    Args:
        workers: processes that work side by side where there is no launcher.

    Raises:
        FloodlineError: `partitions.h5` is missing or damaged, or leaves no site.
        OutOfTime: the scheduler is about to end the job; what is done is kept.
    """
    pool.run(pool.Crew(partial(Experiment, experiment.folder), steps.do), partial(_lead, experiment), workers)


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    folder, sites = experiment.coordinates, experiment.config.sites
    (folder / "manifest.json").unlink(missing_ok=True)
    cut = _blocks(experiment.partitions, experiment.config.lom_radius_xyz)
    with Steps[Experiment](experiment.unfinished("coordinates"), _parameters(experiment), hand_out) as todo:
        rng = experiment.rng("coordinates")
        sites_xyz, available = balanced_sites(todo, "sites", cut, _partitions_of, sites.max_per_partition, rng)
        if len(sites_xyz) == 0:
            raise FloodlineError(
                f"{experiment.partitions} leaves no training site: everything is excluded (sites.held_out_xyz, "
                "sites.exclusion_xyzr, masks)."
            )
        held_out_xyz = held_out.sites(experiment, todo)
        write_coordinates(folder / FILE, sites_xyz, VOLUME_NAME)
        write_coordinates(folder / HELD_OUT_FILE, held_out_xyz, VOLUME_NAME)
        write_json(
            folder / "manifest.json",
            {
                "files": [FILE],
                "held_out_files": [HELD_OUT_FILE],
                "sites": len(sites_xyz),
                "held_out_sites": len(held_out_xyz),
                "sites_per_partition": len(sites_xyz) // len(available),
                "voxels_per_partition": {str(value): count for value, count in available.items()},
            },
        )


def _parameters(experiment: Experiment) -> str:
    """Hash of all that decides the sites."""
    config, file = experiment.config, experiment.partitions.stat()
    values = [config.seed, config.sites.model_dump(mode="json"), config.lom_radius_xyz, file.st_size, file.st_mtime_ns]
    if config.sites.held_out_xyz:
        values += [read_json(experiment.manifest("labels")), decided_by(experiment, "sites")]
    return hash_of(values)


def _blocks(path: Path, margin_xyz: Triple) -> dict[str, Box]:
    """Blocks of whole chunks of the file, by name, without a margin on each side of the volume.

    Raises:
        FloodlineError: the file is missing or damaged, or nothing is left of it.
    """
    try:
        with h5py.File(path) as file:
            file[REMOVED]  # or a KeyError, of a file that is not ours
            box = _box(file)
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist: run `floodline labels` with the step partitions first.") from None
    except (OSError, KeyError) as error:
        raise FloodlineError(f"{path} cannot be read ({error}): make it again.") from error
    inner = box.grown(triple(-margin for margin in margin_xyz))
    parts = (block.intersection(inner) for block in blocks(box, BLOCK_XYZ))
    cut = {part.name: part for part in parts if not part.is_empty}
    if not cut:
        raise FloodlineError(f"{path} is of {box} and has no voxel {list(margin_xyz)} from its faces: make it anew.")
    return cut


def _box(file: h5py.File) -> Box:
    return Box.of_array(file[DATASET].shape, file[DATASET].attrs["start_xyz"].tolist())


def _partitions_of(experiment: Experiment, block: Box) -> np.ndarray:
    """Partitions of a block of the file; voxels of removed labels are excluded."""
    with h5py.File(experiment.partitions) as file:
        here = block.slices_zyx(_box(file).start_xyz)
        return np.where(file[REMOVED][here], np.uint8(EXCLUDED), file[DATASET][here])
