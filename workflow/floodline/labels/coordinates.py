"""Training sites, and sites for scores: from partitions to files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.sites import write_coordinates
from floodline.geometry import Triple, to_zyx
from floodline.labels import held_out
from floodline.labels.balance import Slabs, balanced_sites
from floodline.labels.partitions import DATASET, EXCLUDED, REMOVED
from floodline.manifest import write_json

FILE = "coordinates-00000-of-00001.tfrecord.gz"
HELD_OUT_FILE = "held_out-00000-of-00001.tfrecord.gz"
VOLUME_NAME = "labels"


def run(experiment: Experiment) -> None:
    """Write `coordinates/`: the sites, shuffled; sites of the held-out boxes, for scores; and a manifest.

    Raises:
        FloodlineError: `partitions.h5` is missing or damaged, or leaves no site.
    """
    folder = experiment.coordinates
    (folder / "manifest.json").unlink(missing_ok=True)
    start_xyz, slabs = read_partitions(experiment.partitions, experiment.config.lom_radius_xyz)
    limit, rng = experiment.config.sites.max_per_partition, experiment.rng("coordinates")
    centers_xyz, available = balanced_sites(slabs, limit, rng)
    if len(centers_xyz) == 0:
        raise FloodlineError(
            f"{experiment.partitions} leaves no training site: everything is excluded (sites.held_out_xyz, "
            "sites.exclusion_xyzr, masks)."
        )
    write_coordinates(folder / FILE, centers_xyz + np.array(start_xyz), VOLUME_NAME)
    held_out_xyz = held_out.sites(experiment)
    write_coordinates(folder / HELD_OUT_FILE, held_out_xyz, VOLUME_NAME)
    write_json(
        folder / "manifest.json",
        {
            "files": [FILE],
            "held_out_files": [HELD_OUT_FILE],
            "sites": len(centers_xyz),
            "held_out_sites": len(held_out_xyz),
            "sites_per_partition": len(centers_xyz) // len(available),
            "voxels_per_partition": {str(value): count for value, count in available.items()},
        },
    )


def read_partitions(path: Path, margin_xyz: Triple) -> tuple[Triple, Slabs]:
    """The partitions without a margin on each side, to be read slab by slab; voxels of removed labels are excluded.

    Returns:
        The x, y, z of the first voxel that is left, in the coordinates of the source; and the slabs.

    Raises:
        FloodlineError: the file is missing or damaged.
    """
    margin_z, margin_y, margin_x = to_zyx(margin_xyz)

    def slabs() -> Iterator[np.ndarray]:
        with h5py.File(path) as file:
            partitions, is_removed = file[DATASET], file[REMOVED]
            depth, height, width = partitions.shape
            for z in range(margin_z, depth - margin_z):
                slab = np.s_[z : z + 1, margin_y : height - margin_y, margin_x : width - margin_x]
                yield np.where(is_removed[slab], np.uint8(EXCLUDED), partitions[slab])

    try:
        with h5py.File(path) as file:
            file[REMOVED]  # or a KeyError, of a file that is not ours
            x, y, z = (int(a) + m for a, m in zip(file[DATASET].attrs["start_xyz"], margin_xyz, strict=True))
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist: run `floodline labels` with the step partitions first.") from None
    except (OSError, KeyError) as error:
        raise FloodlineError(f"{path} cannot be read ({error}): make it again.") from error
    return (x, y, z), slabs
