"""Where floods start: the peaks policy of google/ffn (commit 5637f78)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from floodline.geometry import Triple, to_zyx, triple

EDGE_SIGMA = 49 / 6  # Gaussian blur of the gradient, its local threshold
PEAK_DISTANCE = 3
# Equal distances are told apart by this noise; its state is part of the published definition, not of the experiment.
TIE_BREAKING_STATE, TIE_BREAKING_SCALE = 42, 1e-4


def peaks(image: np.ndarray, mean: float, stddev: float) -> np.ndarray:
    """Centres of the regions between edges, as (n, 3) z, y, x in ascending order.

    1. Magnitude of the Sobel gradient of the normalised image (float32).
    2. Edges: where it exceeds its own Gaussian blur.
    3. Euclidean distance from the edges, with tiny noise to break ties.
    4. Its local maxima, at least 4 voxels apart.

    Args:
        image: z, y, x.
    """
    import edt
    from skimage.feature import peak_local_max

    normalised = (image.astype(np.float32) - np.float32(mean)) / np.float32(stddev)
    gradient = ndimage.generic_gradient_magnitude(normalised, ndimage.sobel)
    edges = gradient > ndimage.gaussian_filter(gradient, EDGE_SIGMA, mode="reflect")
    if edges.all():
        return np.empty((0, 3), dtype=np.int64)
    distance = edt.edt(~edges)
    noise = np.random.RandomState(TIE_BREAKING_STATE).random_sample(distance.shape)
    found = peak_local_max(
        distance + noise * TIE_BREAKING_SCALE, min_distance=PEAK_DISTANCE, threshold_abs=0, threshold_rel=0
    )
    return found[np.lexsort(found.T[::-1])]


def inside(seeds: np.ndarray, shape_zyx: Sequence[int], fov_xyz: Sequence[int]) -> list[Triple]:
    """The seeds (n, 3) z, y, x whose field of view lies in the volume."""
    margin = np.array(to_zyx(fov_xyz)) // 2
    fits = ((seeds >= margin) & (seeds + margin < np.array(shape_zyx))).all(axis=1)
    return [triple(seed) for seed in seeds[fits]]
