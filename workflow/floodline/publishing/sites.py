"""Contact sites: the separate places at which two neurons touch.

Faces of a contact belong to one site if they lie in the same cell of a grid or in neighbouring ones, corners counted.
Cells measure half of `publishing.contact_gap_nm`, a voxel at least: at its rim a contact frays, and what is as near as
a membrane is thick is no other place. Sites are found block by block; what is near a block's border is kept until all
blocks are there, and then joined across.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from floodline.geometry import Box, Triple
from floodline.segmentation.union_find import unite

CELL = ["i", "j", "k"]


def connected(faces: pd.DataFrame) -> np.ndarray:
    """Which faces belong together.

    Args:
        faces: columns a, b (neurons) and i, j, k (cells).

    Returns:
        (n,) number of the connected component of each face, from 0 on.
    """
    pair = faces.groupby(["a", "b"]).ngroup().to_numpy()
    # Neighbours are one apart in every direction; those of another pair are two apart in a fourth.
    places = np.column_stack([faces[CELL].to_numpy(), 2 * pair])
    cells, cell = np.unique(places, axis=0, return_inverse=True)
    one, other = cKDTree(cells).query_pairs(1, p=np.inf, output_type="ndarray").T
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(cells),) * 2)
    return connected_components(graph, directed=False)[1][cell.reshape(-1)]


class Sites:
    """Collects the contact sites of a volume, block by block.

    Args:
        cell_xyz: size of a cell, voxels.
    """

    def __init__(self, cell_xyz: Triple) -> None:
        self.cell = np.array(cell_xyz)
        self.parts: list[pd.DataFrame] = []
        self.borders: list[pd.DataFrame] = []
        self.found = 0

    def add(self, faces: pd.DataFrame, block: Box) -> None:
        """Add the faces of a block: a, b, area_nm2, x, y, z (the voxel below each, inside of the block)."""
        if faces.empty:
            return
        cells = faces[["x", "y", "z"]].to_numpy() // self.cell
        faces = faces.assign(**dict(zip(CELL, cells.T, strict=True)))
        faces["part"] = connected(faces) + self.found
        self.found = int(faces["part"].max()) + 1
        below, above = (np.array(block.start_xyz) - 1) // self.cell, np.array(block.stop_xyz) // self.cell
        near = ((cells <= below + 1) | (cells >= above - 1)).any(axis=1)
        self.borders.append(faces.loc[near, ["a", "b", *CELL, "part"]])
        areas = faces.groupby("part")["area_nm2"]
        faces["squared"] = 0.0
        for axis in "xyz":
            moments = (faces[axis] * faces["area_nm2"]).groupby(faces["part"])
            faces["squared"] += (faces[axis] - moments.transform("sum") / areas.transform("sum")) ** 2
        # The place of a part is its face nearest to its middle.
        nearest_first = faces.sort_values(["squared", "z", "y", "x"], kind="stable").drop(columns="squared")
        self.parts.append(nearest_first.groupby("part").first().assign(area_nm2=areas.sum()).reset_index())

    def contacts(self) -> pd.DataFrame:
        """A row for each pair that touches: a, b, area_nm2, sites, x, y, z, site_areas_nm2, sites_xyz."""
        if not self.parts:
            columns = ["a", "b", "area_nm2", "sites", "x", "y", "z", "site_areas_nm2", "sites_xyz"]
            return pd.DataFrame({name: pd.Series(dtype=np.uint64 if name in "ab" else object) for name in columns})
        sites = self._joined()
        sites["sites_xyz"] = sites[["x", "y", "z"]].to_numpy().tolist()
        pairs = sites.groupby(["a", "b"])
        return pd.DataFrame(
            {
                "area_nm2": pairs["area_nm2"].sum(),
                "sites": pairs.size(),
                **{axis: pairs[axis].first() for axis in "xyz"},
                "site_areas_nm2": pairs["area_nm2"].agg(list),
                "sites_xyz": pairs["sites_xyz"].agg(list),
            }
        ).reset_index()

    def _joined(self) -> pd.DataFrame:
        """All sites, largest first: the area of all parts together, the place on the largest part."""
        parts = pd.concat(self.parts, ignore_index=True)
        borders = pd.concat(self.borders, ignore_index=True)
        site = np.arange(self.found)
        if len(borders):
            # A border's component joins the parts that it lies in; components are numbered after the parts.
            pairs = np.stack([borders["part"], connected(borders) + self.found], axis=1)
            numbers, roots = unite(pairs)
            is_part = numbers < self.found
            site[numbers[is_part]] = roots[is_part]
        parts["site"] = site[parts["part"]]
        by = ["area_nm2", "z", "y", "x"]
        together = parts.sort_values(by, ascending=[False, True, True, True], kind="stable").groupby("site")
        sites = together.first().assign(area_nm2=together["area_nm2"].sum())
        return sites.sort_values(by, ascending=[False, True, True, True], kind="stable")
