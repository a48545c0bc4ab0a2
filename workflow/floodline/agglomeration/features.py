"""Features of contacts: what the scores, the solver and a reader of `contacts.parquet` or `edges.parquet` see.

column                          meaning
a, b                            the two supervoxels, a < b
contact_area                    voxel faces that they share
touching                        fraction of these on which no unsegmented voxel lies between the two
contact_share                   fraction of all contact faces of one of the two, the one for which it is larger
contrast                        mean over the faces of how much darker the face is than the darker of its two sides
contrast_q10, _q50, _q90        quantiles of the same
intensity                       mean image on the faces
intensity_a, intensity_b        mean image of each supervoxel
probability_a, probability_b    mean probability that the flood gave to each one's side of the contact
voxels_a, voxels_b              sizes
gap                             least distance between the two, in voxels of the finest axis; 0 where they touch
x, y, z                         decision point: the middle of the faces at that distance
flood_a, flood_b                fraction of each that the other one's flood covered, or that its flood gave away to the
                                other, in one sub-volume
flood_voxels                    voxels of that
pass_a, pass_b                  with split consensus: fraction of each that one pass held in one object with the other,
                                counting as many voxels as the smaller piece has
pass_voxels                     voxels of that
neighbour_a, neighbour_b        fraction of each that neighbouring sub-volumes gave to the other, where both segmented
neighbour_voxels                voxels of that

Intensities are in standard deviations of the image from its mean, contrasts in standard deviations.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from floodline.agglomeration.contacts import CONTRAST_EDGES, HISTOGRAM


def features(
    pairs: pd.DataFrame, nodes: pd.DataFrame, overlaps: pd.DataFrame, mean: float, stddev: float
) -> pd.DataFrame:
    """The features of contacts.

    Args:
        pairs: contacts as `contacts.combine` gives them.
        nodes: columns `supervoxel` (rising), `voxels`, `intensity`.
        overlaps: where floods covered one another: `a`, `b`, `source` ("flood", "pass" or "neighbour"), `voxels`,
            `covered_a`, `covered_b`.
        mean, stddev: of the image.
    """
    area = pairs["faces"].to_numpy(np.float64)
    row_a, row_b = (np.searchsorted(nodes["supervoxel"], pairs[side]) for side in ("a", "b"))
    all_faces = np.bincount(row_a, area, len(nodes)) + np.bincount(row_b, area, len(nodes))
    edges = pd.DataFrame({"a": pairs["a"], "b": pairs["b"], "contact_area": pairs["faces"]})
    edges["touching"] = pairs["touching"] / area
    edges["contact_share"] = area / np.minimum(all_faces[row_a], all_faces[row_b])
    edges["contrast"] = pairs["twice_contrast"] / (2 * stddev * area)
    for name, quantile in (("q10", 0.1), ("q50", 0.5), ("q90", 0.9)):
        edges[f"contrast_{name}"] = _quantile(pairs[HISTOGRAM].to_numpy(), quantile)
    edges["intensity"] = (pairs["twice_intensity"] / (2 * area) - mean) / stddev
    for side, rows in (("a", row_a), ("b", row_b)):
        edges[f"intensity_{side}"] = nodes["intensity"].to_numpy()[rows]
        edges[f"probability_{side}"] = dequantised(pairs[f"quantised_{side}"] / area)
        edges[f"voxels_{side}"] = nodes["voxels"].to_numpy()[rows]
    edges["gap"] = pairs["gap"]
    for axis in "xyz":
        edges[axis] = np.rint(pairs[axis] / pairs["faces_at_gap"]).astype(np.int64)
    for source in ("flood", "pass", "neighbour"):
        covered = overlaps[overlaps["source"] == source].rename(
            columns={"covered_a": f"{source}_a", "covered_b": f"{source}_b", "voxels": f"{source}_voxels"}
        )
        columns = ["a", "b", f"{source}_a", f"{source}_b", f"{source}_voxels"]
        edges = edges.merge(covered[columns], on=["a", "b"], how="left", validate="one_to_one")
        edges[columns[2:]] = edges[columns[2:]].fillna(0.0)
    return edges


def dequantised(mean_quantised: pd.Series) -> pd.Series:
    """Mean probability, from the mean of quantised ones."""
    return (mean_quantised - 0.5) / 255


def _quantile(histogram: np.ndarray, quantile: float) -> np.ndarray:
    """Quantile of each row of a histogram over `CONTRAST_EDGES`, linear inside a bin."""
    up_to = np.cumsum(histogram, axis=1)
    wanted = quantile * up_to[:, -1]
    at = (up_to < wanted[:, None]).sum(axis=1)
    rows = np.arange(len(histogram))
    inside = (wanted - up_to[rows, at] + histogram[rows, at]) / np.maximum(histogram[rows, at], 1)
    return CONTRAST_EDGES[at] + inside * np.diff(CONTRAST_EDGES)[at]
