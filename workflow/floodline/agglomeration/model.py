"""A small model that scores contacts: logistic regression or boosted trees, trained by fit.py, kept as plain JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from floodline.agglomeration.resegment import MEASURED, accepted
from floodline.agglomeration.score import FEW_FACES, FLAT
from floodline.errors import FloodlineError
from floodline.manifest import read_json

FORMAT = "floodline agglomeration model 1"


def inputs(edges: pd.DataFrame) -> pd.DataFrame:
    """What a model sees of contacts: the same, whichever of the two supervoxels is called a.

    Args:
        edges: features as features.py names them, and the columns of resegment.py, NaN where nothing was flooded.
    """
    area = edges["contact_area"].to_numpy(np.float64)
    voxels = edges[["voxels_a", "voxels_b"]].to_numpy(np.float64)
    intensity = edges[["intensity_a", "intensity_b"]]
    floods = edges[MEASURED].fillna(0.0)
    recovered = floods[["a_recovers_b", "b_recovers_a"]]
    return pd.DataFrame(
        {
            "contrast": np.maximum(edges["contrast"], FLAT) * area / (area + FEW_FACES),
            "contrast_q10": edges["contrast_q10"],
            "contrast_q90": edges["contrast_q90"],
            "log_area": np.log10(area),
            "root_share": np.sqrt(edges["contact_share"]),
            "touching": edges["touching"],
            "gap": edges["gap"],
            "darkness": intensity.max(axis=1) - edges["intensity"],
            "intensity_difference": (edges["intensity_a"] - edges["intensity_b"]).abs(),
            "intensity_low": intensity.min(axis=1),
            "log_voxels_smaller": np.log10(np.maximum(voxels.min(axis=1), 1)),
            "probability_low": edges[["probability_a", "probability_b"]].min(axis=1),
            "overlap": edges[["flood_a", "flood_b", "neighbour_a", "neighbour_b"]].max(axis=1),
            "one_pass": edges[["pass_a", "pass_b"]].max(axis=1),
            "log_overlap_voxels": np.log10(1 + edges[["flood_voxels", "neighbour_voxels"]].max(axis=1)),
            "iou": floods["iou"],
            "recovers_other_low": recovered.min(axis=1),
            "recovers_other_high": recovered.max(axis=1),
            "deleted_low": floods[["deleted_a", "deleted_b"]].min(axis=1),
            "is_resegmented": edges["a_recovers_a"].notna().astype(float),
            "is_accepted": accepted(edges).astype(float),
        }
    )


@dataclass(frozen=True)
class Tree:
    """A decision tree as arrays over its nodes: a row goes left where its feature is at most the limit."""

    feature: np.ndarray
    """(n,) column, -1 in a leaf."""
    limit: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        node = np.zeros(len(rows), np.int64)
        while (inner := self.feature[node] >= 0).any():
            at = node[inner]
            goes_left = rows[inner, self.feature[at]] <= self.limit[at]
            node[inner] = np.where(goes_left, self.left[at], self.right[at])
        return self.value[node]


@dataclass(frozen=True)
class Model:
    """Log-odds that a contact lies inside one neuron: `constant + (rows - mean) / scale @ weights + sum of trees`."""

    features: list[str]
    constant: float
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    trees: list[Tree]
    about: dict[str, Any]
    """How it was made, and its calibration."""

    def score(self, edges: pd.DataFrame) -> np.ndarray:
        """Probabilities, float64, one a row."""
        rows = inputs(edges)[self.features].to_numpy(np.float64)
        linear = ((rows - self.mean) / self.scale) @ self.weights
        # float32, as the trees were grown.
        grown = sum((tree(rows.astype(np.float32)) for tree in self.trees), np.zeros(len(rows)))
        return expit(self.constant + linear + grown)

    def plain(self) -> dict[str, Any]:
        """Everything as JSON holds it."""
        trees = [{name: array.tolist() for name, array in vars(tree).items()} for tree in self.trees]
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "scale", "weights")}
        return {
            "format": FORMAT, "features": self.features, "constant": self.constant, **arrays, "trees": trees,
            **self.about,
        }  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Model:
        """Read a model.

        Raises:
            FloodlineError: the file is missing or is no model, or was made for other features.
        """
        content = read_json(path)
        known = set(inputs(NO_EDGES).columns)
        try:
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {json.dumps(content['format'])}")
            unknown = sorted(set(content["features"]) - known)
            if unknown:
                raise ValueError(f"it asks for the feature {unknown[0]}, which is unknown")
            trees = [
                Tree(
                    **{name: np.array(tree[name], np.int64) for name in ("feature", "left", "right")},
                    **{name: np.array(tree[name], np.float64) for name in ("limit", "value")},
                )
                for tree in content["trees"]
            ]
            arrays = {name: np.array(content[name], np.float64) for name in ("mean", "scale", "weights")}
            about = {name: content[name] for name in ("fitted_to", "calibration")}
            return cls(list(content["features"]), float(content["constant"]), **arrays, trees=trees, about=about)
        except (KeyError, TypeError, ValueError) as error:
            raise FloodlineError(f"{path} is no model of `floodline agglomerate fit`: {error}.") from None


EDGE_COLUMNS = [
    "contact_area", "touching", "contact_share", "contrast", "contrast_q10", "contrast_q90", "intensity", "intensity_a",
    "intensity_b", "probability_a", "probability_b", "voxels_a", "voxels_b", "gap", "flood_a", "flood_b", "neighbour_a",
    "neighbour_b", "pass_a", "pass_b", "flood_voxels", "neighbour_voxels",
]  # fmt: skip
"""What `inputs` reads, beside `MEASURED`."""

NO_EDGES = pd.DataFrame({name: np.zeros(0) for name in (*EDGE_COLUMNS, *MEASURED)})
