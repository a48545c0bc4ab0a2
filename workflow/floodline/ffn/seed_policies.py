"""Where floods start: every policy of the configuration. The definitions follow google/ffn (HEAD of 2026-08)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.canvas import FAILED
from floodline.ffn.seeds import EDGE_SIGMA, TIE_BREAKING_SCALE, TIE_BREAKING_STATE, inside, local_maxima, peaks
from floodline.geometry import Box, to_zyx
from floodline.manifest import read_block, read_json

GRID_OFFSETS = {3: (0, 8, 4, 12, 2, 10, 14), 2: (0, 8, 4, 12, 2, 6, 10, 14)}


@dataclass(frozen=True)
class Ground:
    """What a policy looks at: a sub-volume, and what was segmented before the policy's turn came.

    Attributes:
        box: where the sub-volume lies, x, y, z.
        image: grey values; z, y, x, as all arrays.
        mean: of the normalisation, as is `stddev`.
        segmentation: objects (> 0), places where floods failed (FAILED), free space (all others).
        masked: boolean, where no flood may start; None: nowhere.
    """

    box: Box
    image: np.ndarray
    mean: float
    stddev: float
    segmentation: np.ndarray
    masked: np.ndarray | None = None

    def normalised(self, z: slice | int = slice(None)) -> np.ndarray:
        """The image as the network sees it, float32; only some slices of it, if wanted."""
        return (self.image[z].astype(np.float32) - np.float32(self.mean)) / np.float32(self.stddev)


def find_seeds(
    policy: config.Seeds, ground: Ground, fov_xyz: Sequence[int], flood_policy: config.FloodPolicy = "reference"
) -> np.ndarray:
    """The seeds of a policy whose field of view lies in the sub-volume.

    Args:
        flood_policy: decides their order where the configuration does not.

    Returns:
        (n, 3) int32: z, y, x in the sub-volume, in the order in which they are to be tried.

    Raises:
        FloodlineError: the file or the experiment that the policy takes them from is missing or is not what it should
            be.
    """
    match policy:
        case config.PeaksSeeds():
            largest_first = policy.is_largest_first(flood_policy)
            seeds = peaks(ground.image, ground.mean, ground.stddev, ground.masked, ground.segmentation, largest_first)
        case config.Peaks2dSeeds():
            seeds = peaks_2d(ground, policy.min_distance, policy.min_edge_distance)
        case config.GridSeeds():
            offsets = GRID_OFFSETS[policy.dimensions] if policy.offsets is None else policy.offsets
            seeds = grid(ground.image.shape, policy.step, offsets, policy.dimensions)
        case config.DenseSeeds():
            seeds = dense(ground, policy.threshold, policy.invert, policy.erosions)
        case config.IntensitySeeds():
            seeds = intensity_peaks(ground) if policy.voxels == "max_peaks" else by_falling_intensity(ground.image)
        case config.PointsSeeds():
            seeds = read_points(Path(policy.path))[:, ::-1] - np.array(to_zyx(ground.box.start_xyz))
        case config.FillEmptySpaceSeeds():
            seeds = fill_empty_space(ground.segmentation)
        case config.InvertOriginsSeeds():
            seeds = invert(origins_of(Experiment(Path(policy.experiment)), ground.box))
    seeds = inside(seeds, ground.image.shape, fov_xyz).astype(np.int32)
    return seeds[::-1] if policy.reversed else seeds


def check_sources(policies: Sequence[config.Seeds], boxes: Sequence[Box]) -> None:
    """Look at what policies take seeds from before any flood: the turn of a later one may come after hours.

    Args:
        boxes: the sub-volumes that are going to be flooded.

    Raises:
        FloodlineError: a file or an experiment is missing or is not what it should be.
    """
    for policy in policies:
        if isinstance(policy, config.PointsSeeds):
            read_points(Path(policy.path))
        if isinstance(policy, config.InvertOriginsSeeds):
            earlier = Experiment(Path(policy.experiment))
            read_json(earlier.manifest("inference"))
            for box in boxes:
                _must_be_there(earlier.block(box))


def peaks_2d(ground: Ground, min_distance: int, min_edge_distance: float) -> np.ndarray:
    """Centres of the regions between the edges of each slice, slice by slice."""
    import edt
    from skimage.feature import peak_local_max

    found = [np.empty((0, 3), np.int64)]
    for z in range(ground.image.shape[0]):
        gradient = ndimage.generic_gradient_magnitude(ground.normalised(z), ndimage.sobel)
        edges = gradient > ndimage.gaussian_filter(gradient, EDGE_SIGMA, mode="reflect")
        if ground.masked is not None:
            edges |= ground.masked[z]
        if edges.all() or not edges.any():
            continue
        noise = np.random.RandomState(TIE_BREAKING_STATE).random_sample(edges.shape) * TIE_BREAKING_SCALE
        places = peak_local_max(edt.edt(~edges) + noise, min_distance=min_distance, threshold_abs=min_edge_distance)
        places = places[np.lexsort(places.T[::-1])]
        found.append(np.insert(places, 0, z, axis=1))
    return np.concatenate(found)


def grid(shape_zyx: Sequence[int], step: int, offsets: Sequence[int], dimensions: int) -> np.ndarray:
    """A grid for each offset, which shifts it along all axes; in two dimensions it is the same in every slice."""
    found = []
    for offset in offsets:
        axes = [np.arange(offset, size, step) for size in shape_zyx]
        if dimensions == 2:
            axes[0] = np.arange(shape_zyx[0])
        found.append(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
    return np.concatenate([np.empty((0, 3), np.int64), *found])


def dense(ground: Ground, threshold: float, inverted: bool, erosions: int) -> np.ndarray:
    """Every voxel above the threshold (or every other), after erosions with the cross of a voxel's six neighbours."""
    bright = ground.normalised() > threshold
    if inverted:
        np.logical_not(bright, out=bright)
    if erosions:
        # Voxels outside of the sub-volume take nothing away.
        bright = ndimage.binary_erosion(bright, iterations=erosions, border_value=1)
    if ground.masked is not None:
        bright &= ~ground.masked
    return np.argwhere(bright)


def intensity_peaks(ground: Ground) -> np.ndarray:
    """Local maxima above the mean; masked and segmented voxels count as the mean."""
    image = ground.normalised()
    image[ground.segmentation > 0] = 0
    if ground.masked is not None:
        image[ground.masked] = 0
    return local_maxima(image)


def by_falling_intensity(image: np.ndarray) -> np.ndarray:
    """Every voxel, the brightest first; equal ones in the order of z, y, x."""
    top = np.iinfo(image.dtype).max
    order = np.argsort(top - image.ravel(), kind="stable")
    return np.stack(np.unravel_index(order, image.shape), axis=1)


def fill_empty_space(segmentation: np.ndarray) -> np.ndarray:
    """Centres of what is not segmented; places where floods failed are taken out of it.

    Where nothing is segmented at all, the sub-volume's faces bound the empty space.
    """
    import edt

    empty = np.empty(segmentation.shape, bool)
    for z, ids in enumerate(segmentation):
        empty[z] = (ids <= 0) & (ids != FAILED)
    distance = edt.edt(empty, black_border=bool(empty.all()))
    del empty
    return local_maxima(distance, min_distance=2, threshold=0.5)


def read_points(path: Path) -> np.ndarray:
    """Points (n, 3) int64 x, y, z of a .csv file with these columns, or of a .npy file.

    Raises:
        FloodlineError: the file is missing or is neither.
    """
    import pandas

    try:
        if path.suffix == ".npy":
            points = np.load(path, allow_pickle=False)
        else:
            points = pandas.read_csv(path, skipinitialspace=True)[["x", "y", "z"]].to_numpy()
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist: inference.seeds takes points from it.") from None
    except (ValueError, KeyError, EOFError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise FloodlineError(
            f"{path} cannot be read ({reason}): a .csv with the columns x, y, z or a .npy is needed."
        ) from None
    whole = points.dtype.kind in "iuf" and points.shape[1:] == (3,) and np.array_equal(points, np.floor(points))
    if not whole:
        raise FloodlineError(f"{path} holds {points.dtype} {points.shape}: whole numbers (points, 3) are needed.")
    return points.astype(np.int64)


def origins_of(experiment: Experiment, box: Box) -> np.ndarray:
    """Origins (n, 4: id, z, y, x) of an experiment's sub-volume.

    Raises:
        FloodlineError: it was not flooded, or the experiment has other sub-volumes.
    """
    parameters, path = read_json(experiment.manifest("inference"))["parameters"], experiment.block(box)
    _must_be_there(path)
    block = read_block(path, parameters)
    if block is None:
        raise FloodlineError(
            f"{path} was made with other parameters than its experiment's inference/manifest.json says."
        )
    return block["origins"]


def _must_be_there(block: Path) -> None:
    if not block.is_file():
        raise FloodlineError(f"{block} is not there: invert_origins needs an experiment with the same sub-volumes.")


def invert(origins: np.ndarray) -> np.ndarray:
    """Starts (n, 3) of objects, the last id first."""
    return origins[np.argsort(-origins[:, 0], kind="stable"), 1:]
