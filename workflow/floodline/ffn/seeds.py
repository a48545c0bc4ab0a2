"""Where floods start: places far from edges, the published policy of google/ffn (commit 5637f78).

Everything is computed in slabs along z with the halo that each filter needs, so that beside the image only the distance
transform is held as a whole; the seeds are the same as those of whole arrays. The other policies are in seed_policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from floodline.geometry import to_zyx

EDGE_SIGMA = 49 / 6  # Gaussian blur of the gradient, its local threshold
EDGE_HALO = 1 + int(4 * EDGE_SIGMA + 0.5)  # Sobel, and the Gaussian that SciPy cuts at four sigma
PEAK_DISTANCE = 3
# Equal distances are told apart by this noise; its state is part of the published definition, not of the experiment.
TIE_BREAKING_STATE, TIE_BREAKING_SCALE = 42, 1e-4
SLAB_OF_EDGES, SLAB_OF_MAXIMA = 32, 8  # slices; a thick slab is worth a thick halo


def _slabs(depth: int, slab: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Slabs of z: the slices to read, halo included, and where the slab itself lies in them."""
    for start in range(0, depth, slab):
        stop = min(start + slab, depth)
        first = max(start - halo, 0)
        yield slice(first, min(stop + halo, depth)), slice(start - first, stop - first)


def find_edges(image: np.ndarray, mean: float, stddev: float) -> np.ndarray:
    """Voxels (z, y, x) where the Sobel gradient of the normalised image exceeds its own Gaussian blur; boolean."""
    edges = np.empty(image.shape, dtype=bool)
    for around, own in _slabs(image.shape[0], SLAB_OF_EDGES, EDGE_HALO):
        normalised = (image[around].astype(np.float32) - np.float32(mean)) / np.float32(stddev)
        gradient = ndimage.generic_gradient_magnitude(normalised, ndimage.sobel)
        above = gradient > ndimage.gaussian_filter(gradient, EDGE_SIGMA, mode="reflect")
        edges[around][own] = above[own]
    return edges


def local_maxima(values: np.ndarray, min_distance: int = PEAK_DISTANCE, threshold: float = 0.0) -> np.ndarray:
    """Local maxima (n, 3) z, y, x above a threshold, ascending, off the border by `min_distance`.

    Tiny noise breaks ties, so that any two maxima are more than `min_distance` apart along some axis.
    """
    random = np.random.RandomState(TIE_BREAKING_STATE)
    noise = np.empty((0, *values.shape[1:]))
    first_of_noise = 0
    found = []
    for around, own in _slabs(values.shape[0], SLAB_OF_MAXIMA, min_distance):
        # The noise is drawn once, in the order of the array, and only the slices still needed are kept.
        fresh = random.random_sample((around.stop - first_of_noise - len(noise), *values.shape[1:]))
        noise = np.concatenate([noise[around.start - first_of_noise :], fresh])
        first_of_noise = around.start
        noisy = values[around] + noise * TIE_BREAKING_SCALE
        peak = (noisy == ndimage.maximum_filter(noisy, 2 * min_distance + 1, mode="nearest")) & (noisy > threshold)
        found.append(np.argwhere(peak[own]) + np.array([around.start + own.start, 0, 0]))
    peaks = np.concatenate(found)
    off_border = ((peaks >= min_distance) & (peaks < np.array(values.shape) - min_distance)).all(axis=1)
    return peaks[off_border]


def peaks(
    image: np.ndarray,
    mean: float,
    stddev: float,
    masked: np.ndarray | None = None,
    segmentation: np.ndarray | None = None,
    largest_first: bool = False,
) -> np.ndarray:
    """Centres of the regions between edges, as (n, 3) z, y, x.

    Args:
        image: z, y, x.
        mean: of the normalisation, as is `stddev`.
        masked: voxels that count as edges (boolean), so that their borders draw no seeds.
        segmentation: the voxels of objects (> 0) hold no seeds.
        largest_first: the farthest from edges come first, and equally far ones in ascending order, as all do without.
    """
    import edt

    edges = find_edges(image, mean, stddev)
    if masked is not None:
        edges |= masked
    if edges.all() or not edges.any():
        return np.empty((0, 3), dtype=np.int64)
    distance = edt.edt(np.logical_not(edges, out=edges))
    del edges
    if segmentation is not None:
        for distances, ids in zip(distance, segmentation, strict=True):
            distances[ids > 0] = -1
    found = local_maxima(distance)
    return found[np.argsort(-distance[tuple(found.T)], kind="stable")] if largest_first else found


def inside(seeds: np.ndarray, shape_zyx: Sequence[int], fov_xyz: Sequence[int]) -> np.ndarray:
    """The seeds (n, 3) z, y, x whose field of view lies in the volume."""
    margin = np.array(to_zyx(fov_xyz)) // 2
    return seeds[((seeds >= margin) & (seeds + margin < np.array(shape_zyx))).all(axis=1)]
