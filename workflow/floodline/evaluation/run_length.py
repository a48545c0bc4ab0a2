"""Scores along the skeletons of the truth: expected run length and edge accuracy.

Definitions after Januszewski et al., Nature Methods 15:605 (2018).
"""

from __future__ import annotations

from math import nan

import numpy as np

from floodline.evaluation.skeletons import Size, Skeletons

OUTCOMES = ("correct", "split", "merged", "omitted")


def score_skeletons(
    skeletons: Skeletons,
    node_segments: np.ndarray,
    voxel_size_nm_xyz: Size,
    merge_threshold_nodes: int,
) -> dict[str, float]:
    """Score a segmentation by the segments at the nodes of the truth's skeletons.

    A segment is a merger if it covers more than `merge_threshold_nodes` nodes of each of two or more neurons. An edge
    is `omitted` if one of its nodes is unsegmented, else `split` if they lie in different segments, else `merged` if
    that segment is a merger, else `correct`.

    A run is what one segment covers correctly of one neuron. The expected run length is the mean length of the run in
    which a point lies that is drawn from all cable; outside of all runs it is 0. Normalised, it is divided by what
    it would be without any error.

    Args:
        skeletons: of the truth.
        node_segments: (n,) segment at each node, 0 for none.
        voxel_size_nm_xyz: for lengths.
        merge_threshold_nodes: see above.

    Returns:
        `cable_nm`, `erl_nm`, `nerl`, and `edges_<outcome>`: shares of the cable. NaN where there is no cable.
    """
    lengths = skeletons.edge_lengths(voxel_size_nm_xyz)
    neurons = skeletons.neurons[skeletons.edges[:, 0]]
    one, other = node_segments[skeletons.edges].T
    in_merger = np.isin(one, mergers(skeletons.neurons, node_segments, merge_threshold_nodes))
    omitted = (one == 0) | (other == 0)
    split = ~omitted & (one != other)
    merged = ~omitted & ~split & in_merger
    correct = ~omitted & ~split & ~merged

    cable = lengths.sum()
    possible = _square_sum(lengths, neurons)
    reached = _square_sum(lengths[correct], neurons[correct], one[correct])
    shares = {
        f"edges_{name}": _ratio(lengths[chosen].sum(), cable)
        for name, chosen in zip(OUTCOMES, (correct, split, merged, omitted), strict=True)
    }
    return {"cable_nm": float(cable), "erl_nm": _ratio(reached, cable), "nerl": _ratio(reached, possible), **shares}


def mergers(neurons: np.ndarray, segments: np.ndarray, threshold: int) -> np.ndarray:
    """Segments that cover more than `threshold` nodes of each of two or more neurons."""
    pairs, nodes = np.unique(np.stack([segments, neurons]), axis=1, return_counts=True)
    covered = pairs[0, (nodes > threshold) & (pairs[0] != 0)]
    segment, covers = np.unique(covered, return_counts=True)
    return segment[covers > 1]


def _square_sum(lengths: np.ndarray, *keys: np.ndarray) -> float:
    """Sum of the squared lengths of groups of edges with equal keys."""
    _, group = np.unique(np.stack(keys), axis=1, return_inverse=True)
    return float((np.bincount(group.ravel(), weights=lengths) ** 2).sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else nan
