"""Which neuron touches which, and how large each is.

Segmented neurons rarely have voxels in contact: the membranes between them stay unsegmented. So every neuron grows
into unsegmented space by half of `publishing.contact_gap_nm` (between the centres of voxels), the nearest neuron taking
each voxel, and two touch where they then meet face to face: on the straight line between the places that they grew
from, give or take a voxel or so. (They meet beyond the rim of a contact too, where only growth leads.) The area of a
contact is that of the surface in the middle between the two. Volumes, surfaces and boxes are those of the neurons as
they are.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt

from floodline.experiment import Experiment
from floodline.geometry import Box, blocks, to_zyx, triple
from floodline.manifest import write_atomically
from floodline.progress import Meter
from floodline.publishing import skeletons
from floodline.publishing.areas import MARGIN, faces, facing
from floodline.publishing.sites import Sites
from floodline.segmentation.relabel import compact
from floodline.tables import write_table
from floodline.volumes.layer import Layer

BLOCK_CHUNKS = 2
# Nearest voxels lie on the grid, so that the line between them can miss the face that it belongs to by this much.
RIM_VOXELS = 1.5


def run(experiment: Experiment) -> None:
    """Write `connectome/`: `neurons.parquet`, `contacts.graphml`, last `contacts.parquet`.

    `neurons`: neuron, voxels, volume_um3, surface_um2 (faces of the volume not counted), x0, y0, z0, x1, y1, z1 (its
    box, voxels), contacts (neurons that it touches), cable_nm and branch_points (of its skeleton, if it has one).
    `contacts`: a, b (neurons, a < b), area_nm2, sites (the number of separate places at which they touch), x, y, z (a
    voxel on the largest of them), and, largest first, site_areas_nm2 and sites_xyz (lists: the area of each and a voxel
    on it).

    Raises:
        FloodlineError: there are no neurons.
    """
    last = experiment.connectome / "contacts.parquet"
    last.unlink(missing_ok=True)
    neurons, contacts = measure(Layer.open(experiment.layer("neurons")), experiment.config.publishing.contact_gap_nm)
    ends = pd.concat([contacts["a"], contacts["b"]]).value_counts()
    neurons["contacts"] = neurons["neuron"].map(ends).fillna(0).astype(np.int64)
    neurons = neurons.join(skeleton_lengths(experiment.layer("neurons")), on="neuron")
    write_table(experiment.connectome / "neurons.parquet", neurons)
    _write_graph(experiment.connectome / "contacts.graphml", neurons, contacts)
    write_table(last, contacts)


def measure(layer: Layer, gap_nm: float, block_chunks: int = BLOCK_CHUNKS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sizes and contacts of all neurons, block by block.

    What is measured does not depend on the blocks; the place named on a contact that several blocks share may.

    Returns:
        neurons, contacts: as `run` describes them, but for the columns that come from contacts and skeletons.
    """
    cell_xyz = triple(max(1, round(gap_nm / 2 / nm)) for nm in layer.voxel_size_nm_xyz)
    sizes, surfaces, sites = [], [], Sites(cell_xyz)
    todo = blocks(layer.box, triple(block_chunks * chunk for chunk in layer.chunk_size_xyz))
    with Meter("connectome", len(todo), "blocks") as meter:
        for block in todo:
            part = Part.read(layer, block, gap_nm)
            sizes.append(part.sizes())
            surfaces.append(part.surfaces())
            sites.add(part.contacts(), block)
            meter.advance()
    return _neurons(sizes, surfaces, layer), sites.contacts()


class Part:
    """A block of the neurons layer with what surrounds it.

    `labels` are compact numbers, `ids` their neurons; `grown` has the gaps filled. Both arrays reach MARGIN voxels
    beyond what is needed, the outermost voxels of the volume being repeated there, and `core` is the block in them.
    """

    def __init__(
        self, labels: np.ndarray, ids: np.ndarray, core_box: Box, box: Box, layer: Layer, gap_nm: float
    ) -> None:
        self.ids, self.core_box = ids, core_box
        self.voxel_size_zyx = layer.voxel_size_nm_xyz[::-1]
        self.labels = np.pad(labels, MARGIN, mode="edge")
        grown, origin = grow(labels, gap_nm / 2, self.voxel_size_zyx)
        self.grown = np.pad(grown, MARGIN, mode="edge")
        # Of each voxel, as steps in the padded array: where it grew from.
        self.from_zyx = [np.pad(steps, MARGIN, mode="edge") for steps in origin]
        inside = core_box.slices_zyx(box.start_xyz)
        self.core = tuple(slice(s.start + MARGIN, s.stop + MARGIN) for s in inside)
        self.origin_zyx = np.array(to_zyx(box.start_xyz)) - MARGIN

    @classmethod
    def read(cls, layer: Layer, block: Box, gap_nm: float) -> Part:
        margin_xyz = triple(ceil(gap_nm / 2 / nm) + MARGIN + 1 for nm in layer.voxel_size_nm_xyz)
        box = block.grown(margin_xyz).intersection(layer.box)
        labels, ids = compact(layer.read(box))
        return cls(labels, ids, block, box, layer, gap_nm)

    def sizes(self) -> pd.DataFrame:
        """Voxels and bounding box of every neuron in the block."""
        statistics = cc3d.statistics(self.labels[self.core].astype(np.uint32), no_slice_conversion=True)
        voxels = np.asarray(statistics["voxel_counts"])
        there = np.flatnonzero(voxels)
        there = there[there > 0]
        # (z0, z1, y0, y1, x0, x1), the upper ends included.
        boxes = np.asarray(statistics["bounding_boxes"], np.int64)[there]
        table = pd.DataFrame({"neuron": self.ids[there], "voxels": voxels[there].astype(np.int64)})
        for axis, origin in enumerate(self.core_box.start_xyz):
            low, high = boxes[:, 4 - 2 * axis], boxes[:, 5 - 2 * axis]
            table[f"{'xyz'[axis]}0"], table[f"{'xyz'[axis]}1"] = low + origin, high + 1 + origin
        return table

    def surfaces(self) -> pd.DataFrame:
        """Surface of every neuron in the block, square nanometres."""
        parts = []
        for axis in range(3):
            lower, below, above = faces(self.labels, axis, self.core)
            for side in (below, above):
                neuron = side > 0
                area = facing(self.labels, axis, side[neuron], None, lower[neuron], self.voxel_size_zyx)
                parts.append(pd.DataFrame({"neuron": self.ids[side[neuron]], "area_nm2": area}))
        return pd.concat(parts).groupby("neuron", as_index=False).sum()

    def _face_to_face(self, lower_zyx: np.ndarray, axis: int) -> np.ndarray:
        """For faces, whether they lie on the line between the places that either side grew from (in voxels)."""
        step = np.eye(3, dtype=np.int64)[axis]
        to_below = np.stack([steps[tuple(lower_zyx.T)] for steps in self.from_zyx], axis=1) - step / 2
        to_above = np.stack([steps[tuple((lower_zyx + step).T)] for steps in self.from_zyx], axis=1) + step / 2
        line = to_above - to_below
        along = np.clip(-(to_below * line).sum(axis=1) / (line**2).sum(axis=1), 0, 1)
        aside = np.linalg.norm(to_below + along[:, None] * line, axis=1)
        # Centres of voxels that touch are one voxel apart: between them is no room for anything aside.
        return aside <= np.minimum(RIM_VOXELS, np.linalg.norm(line, axis=1) - 1)

    def contacts(self) -> pd.DataFrame:
        """The faces of all contacts that lie in the block: a, b, area_nm2, x, y, z (the voxel below the face)."""
        tables = []
        for axis in range(3):
            lower, below, above = faces(self.grown, axis, self.core)
            both = (below > 0) & (above > 0)
            both[both] = self._face_to_face(lower[both], axis)
            lower, below, above = lower[both], below[both], above[both]
            area = facing(self.grown, axis, above, below, lower, self.voxel_size_zyx)
            z, y, x = (lower + self.origin_zyx).T
            pair = np.sort(np.stack([self.ids[below], self.ids[above]]), axis=0)
            tables.append(pd.DataFrame({"a": pair[0], "b": pair[1], "area_nm2": area, "x": x, "y": y, "z": z}))
        return pd.concat(tables, ignore_index=True)


def grow(
    labels: np.ndarray, distance: float, voxel_size_zyx: tuple[float, ...]
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Let every object grow into the zeros by at most a distance; the nearest object takes each voxel.

    Args:
        labels: (z, y, x).
        distance: between the centres of voxels, in the unit of `voxel_size_zyx`.

    Returns:
        grown: (z, y, x).
        origin: for z, y and x, how many voxels away from each voxel the object's nearest one lies.
    """
    empty = labels == 0
    if empty.all():
        return labels, tuple(np.zeros(labels.shape, np.int16) for _ in range(3))
    away, nearest = distance_transform_edt(empty, sampling=voxel_size_zyx, return_indices=True)
    origin = tuple((to - here).astype(np.int16) for to, here in zip(nearest, np.indices(labels.shape), strict=True))
    return np.where(away <= distance, labels[tuple(nearest)], 0), origin


def _neurons(sizes: list[pd.DataFrame], surfaces: list[pd.DataFrame], layer: Layer) -> pd.DataFrame:
    how = {"voxels": "sum"} | {f"{axis}0": "min" for axis in "xyz"} | {f"{axis}1": "max" for axis in "xyz"}
    neurons = pd.concat(sizes).groupby("neuron", as_index=False).agg(how)
    surface = pd.concat(surfaces).groupby("neuron")["area_nm2"].sum()
    neurons.insert(2, "volume_um3", neurons["voxels"] * float(np.prod(layer.voxel_size_nm_xyz)) / 1e9)
    neurons.insert(3, "surface_um2", neurons["neuron"].map(surface).fillna(0.0) / 1e6)
    return neurons


def skeleton_lengths(neurons: Path | str) -> pd.DataFrame:
    """Cable length (nm) and number of branch points of every skeleton, by neuron; empty if there are none."""
    rows = {s.id: (s.cable_length(), len(s.branches())) for s in skeletons.read(neurons)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["cable_nm", "branch_points"], dtype=float)
    return table.set_index(table.index.astype(np.uint64))


def _write_graph(path: Path, neurons: pd.DataFrame, contacts: pd.DataFrame) -> None:
    """GraphML: a node a neuron, an edge a contact, for networkx and Gephi."""
    import networkx as nx

    graph = nx.Graph()
    for row in neurons.to_dict("records"):
        x, y, z = ((row[f"{axis}0"] + row[f"{axis}1"]) / 2 for axis in "xyz")
        graph.add_node(row["neuron"], voxels=row["voxels"], volume_um3=row["volume_um3"], x=x, y=y, z=z)
    for row in contacts.to_dict("records"):
        attributes = {name: row[name] for name in ("area_nm2", "sites", "x", "y", "z")}
        graph.add_edge(row["a"], row["b"], **attributes)
    write_atomically(path, lambda file: nx.write_graphml(graph, file))
