"""Balanced training sites: as many from each partition, in random order.

The definition is that of google/ffn's `build_coordinates`, with an upper limit on the sites of a partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.sites import write_coordinates
from floodline.geometry import Triple, to_zyx
from floodline.labels.partitions import DATASET, EXCLUDED
from floodline.manifest import write_json

FILE = "coordinates-00000-of-00001.tfrecord.gz"
VOLUME_NAME = "labels"

Slabs = Callable[[], Iterator[np.ndarray]]
"""Gives the slabs of a volume of partitions, in order along its first axis, each time it is called."""


def run(experiment: Experiment) -> None:
    """Write `coordinates/`: the sites, shuffled, and a manifest.

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
            "sites.exclusion_xyzr, sites.mask)."
        )
    write_coordinates(folder / FILE, centers_xyz + np.array(start_xyz), VOLUME_NAME)
    write_json(
        folder / "manifest.json",
        {
            "files": [FILE],
            "sites": len(centers_xyz),
            "sites_per_partition": len(centers_xyz) // len(available),
            "voxels_per_partition": {str(value): count for value, count in available.items()},
        },
    )


def read_partitions(path: Path, margin_xyz: Triple) -> tuple[Triple, Slabs]:
    """The partitions without a margin on each side, to be read slab by slab.

    Returns:
        The x, y, z of the first voxel that is left, in the coordinates of the source; and the slabs.

    Raises:
        FloodlineError: the file is missing or damaged.
    """
    margin_z, margin_y, margin_x = to_zyx(margin_xyz)

    def slabs() -> Iterator[np.ndarray]:
        with h5py.File(path) as file:
            dataset = file[DATASET]
            depth, height, width = dataset.shape
            step = dataset.chunks[0]
            for z in range(margin_z, depth - margin_z, step):
                stop = min(z + step, depth - margin_z)
                slab = dataset[z:stop, margin_y : height - margin_y, margin_x : width - margin_x]
                # Chunks are unpacked once, but their places take eight times their memory: so plane by plane.
                yield from (slab[plane : plane + 1] for plane in range(len(slab)))

    try:
        with h5py.File(path) as file:
            x, y, z = (int(a) + m for a, m in zip(file[DATASET].attrs["start_xyz"], margin_xyz, strict=True))
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist: run `floodline labels` with the step partitions first.") from None
    except (OSError, KeyError) as error:
        raise FloodlineError(f"{path} cannot be read ({error}): make it again.") from error
    return (x, y, z), slabs


def balanced_sites(slabs: Slabs, limit: int | None, rng: np.random.Generator) -> tuple[np.ndarray, dict[int, int]]:
    """Voxels of each partition, equally many of each, all shuffled together.

    From each partition as many voxels are drawn as the largest has, or `limit` if that is less: without replacement
    while they last; a smaller partition is repeated in the same random order.

    Returns:
        (n, 3) int64: x, y, z of the sites, counted from the first voxel of the first slab.
        The voxels of each partition that occurs, 255 aside.
    """
    counts = sum((np.bincount(slab.ravel(), minlength=256) for slab in slabs()), np.zeros(256, np.int64))
    available = {value: int(counts[value]) for value in range(EXCLUDED) if counts[value]}
    if not available:
        return np.zeros((0, 3), np.int64), {}
    wanted = max(available.values()) if limit is None else min(limit, max(available.values()))
    sites_xyz = {value: np.empty((wanted, 3), np.int64) for value in available}
    # Each voxel of a partition has a number there, from 0, in the order of the array; drawn numbers are looked up in
    # rising order, so that every slab is passed once.
    drawn = {value: _draw(count, wanted, rng) for value, count in available.items()}
    rising = {value: np.argsort(numbers, kind="stable") for value, numbers in drawn.items()}
    passed = dict.fromkeys(available, 0)
    first_z = 0
    for slab in slabs():
        flat = slab.ravel()
        for value, numbers in drawn.items():
            places = np.flatnonzero(flat == value)
            first, last = np.searchsorted(numbers, [passed[value], passed[value] + len(places)], sorter=rising[value])
            here = rising[value][first:last]
            z, y, x = np.unravel_index(places[numbers[here] - passed[value]], slab.shape)
            sites_xyz[value][here] = np.stack([x, y, z + first_z], axis=1)
            passed[value] += len(places)
        first_z += len(slab)
    return rng.permutation(np.concatenate(list(sites_xyz.values()))), available


def _draw(available: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` of the numbers below `available`, each as often as any other or once less, in random order."""
    if wanted < available:
        return rng.choice(available, wanted, replace=False)
    return np.resize(rng.permutation(available), wanted)
