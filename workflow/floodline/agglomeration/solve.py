"""From scores to neurons.

Every contact gets a weight, positive where it speaks for a merger: the log-odds of its score, less those of the
threshold, times its area. A solver (solvers.py) makes neurons of them. With all but the plain threshold, contacts that
speak against a merger count as well: a neuron is not held together by one contact against many. A file of pairs
(segmentation/pairs.py) overrules the contacts.

Files, in `agglomeration/`:

graph.graphml       the supervoxels (`voxels`, `intensity`, `probability`, `neuron`) and their contacts, with features,
                    `score` and whether they are `merged`: for networkx and Gephi. `x`, `y`, `z` is where to look.
mapping.parquet     `supervoxel` (rising), `neuron`. Neurons are numbered from 1, the largest first; of equal ones that
                    with the smallest supervoxel. Written last.
solved.json         What became of the file of pairs and of the limits of sizes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from floodline.agglomeration.solvers import partition
from floodline.config import Solver
from floodline.experiment import Experiment
from floodline.geometry import Box, Triple
from floodline.manifest import write_atomically, write_json
from floodline.segmentation.pairs import NONE, Wishes, read_wishes
from floodline.tables import read_table, write_table
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

SUREST = 1e-6
"""Scores are held so far from 0 and 1, where log-odds have no end."""

SHOWN = ["score", "contact_area", "contact_share", "contrast", "gap", "x", "y", "z"]
"""Features of contacts in the graph that a person opens."""


def run(experiment: Experiment) -> None:
    """Write `graph.graphml`, `solved.json` and `mapping.parquet`.

    Raises:
        FloodlineError: the region graph is missing or damaged, or the file of pairs asks for the impossible.
    """
    folder, wanted = experiment.agglomeration, experiment.config.agglomeration.solver
    (folder / "mapping.parquet").unlink(missing_ok=True)
    edges, nodes = read_table(folder / "edges.parquet"), read_table(folder / "nodes.parquet")
    wishes = _wishes(experiment, nodes["supervoxel"].to_numpy())
    neuron = solve(nodes, edges, wanted, wishes)
    counts = _counts(nodes, edges, wanted, wishes, neuron)
    logger.info("%d supervoxels make %d neurons; %s", len(nodes), counts["neurons"], counts["pairs"])
    _write_graph(folder / "graph.graphml", nodes.assign(neuron=neuron), edges)
    write_json(folder / "solved.json", counts)
    mapping = pd.DataFrame({"supervoxel": nodes["supervoxel"].astype(np.uint64), "neuron": neuron})
    write_table(folder / "mapping.parquet", mapping)


def _wishes(experiment: Experiment, supervoxels: np.ndarray) -> Wishes:
    """The file of pairs, as rows of the nodes."""
    path = experiment.config.agglomeration.solver.pairs
    if path is None:
        return NONE
    layer = Layer.open(experiment.layer("supervoxels"))

    def node_at(place_xyz: Triple) -> int:
        supervoxel = layer.read(Box.sized(place_xyz, (1, 1, 1))).ravel()[0]
        return int(np.searchsorted(supervoxels, supervoxel)) if supervoxel else -1

    return read_wishes(path, layer.box, node_at)


def solve(nodes: pd.DataFrame, edges: pd.DataFrame, wanted: Solver, wishes: Wishes = NONE) -> np.ndarray:
    """The neuron of every supervoxel; the order of the contacts does not matter.

    Args:
        nodes: columns `supervoxel` (rising), `voxels`.
        edges: columns `a`, `b` (a < b, each pair once), `contact_area`, `score`.
        wanted: the configuration's `agglomeration.solver`.
        wishes: pairs of rows of `nodes` to force together or to keep apart.

    Returns:
        uint64, numbered as the module says.
    """
    edges = edges.sort_values(["a", "b"])
    pairs = np.stack([np.searchsorted(nodes["supervoxel"], edges[side]) for side in ("a", "b")], axis=1)
    voxels = nodes["voxels"].to_numpy(np.int64)
    return _numbered(partition(pairs, weights(edges, wanted.threshold), voxels, wanted, wishes), nodes["voxels"])


def _counts(
    nodes: pd.DataFrame, edges: pd.DataFrame, wanted: Solver, wishes: Wishes, neuron: np.ndarray
) -> dict[str, Any]:
    """`solved.json`. A pair counts as changing something where the neurons would differ in it without the file."""
    without = neuron if wishes is NONE else solve(nodes, edges, wanted)

    def together(pairs: np.ndarray) -> np.ndarray:
        return without[pairs[:, 0]] == without[pairs[:, 1]]

    return {
        "supervoxels": len(nodes),
        "neurons": int(neuron.max(initial=0)),
        "pairs": {
            "forced": len(wishes.forced),
            "forced_that_were_apart": int((~together(wishes.forced)).sum()),
            "forbidden": len(wishes.forbidden),
            "forbidden_that_were_together": int(together(wishes.forbidden).sum()),
        },
    }


def weights(edges: pd.DataFrame, threshold: float) -> np.ndarray:
    """What contacts say for (positive) and against (negative) a merger."""
    odds = logit(np.clip(edges["score"].to_numpy(), SUREST, 1 - SUREST))
    return edges["contact_area"].to_numpy() * (odds - logit(threshold))


def _numbered(cluster: np.ndarray, voxels: pd.Series) -> np.ndarray:
    """Clusters of nodes, which come by rising supervoxel, as numbers from 1."""
    _, first, group = np.unique(cluster, return_index=True, return_inverse=True)
    size = np.zeros(len(first), np.int64)
    np.add.at(size, group, voxels.to_numpy())
    number = np.empty(len(first), np.uint64)
    number[np.lexsort((first, -size))] = np.arange(1, len(first) + 1)
    return number[group]


def _write_graph(path: Path, nodes: pd.DataFrame, edges: pd.DataFrame) -> None:
    import networkx as nx

    neuron = nodes.set_index("supervoxel")["neuron"]
    merged = neuron.reindex(edges["a"]).to_numpy() == neuron.reindex(edges["b"]).to_numpy()
    graph = nx.Graph()
    graph.add_nodes_from((row.pop("supervoxel"), row) for row in nodes.to_dict("records"))
    contacts = edges[["a", "b", *SHOWN]].assign(merged=merged)
    graph.add_edges_from((row.pop("a"), row.pop("b"), row) for row in contacts.to_dict("records"))
    write_atomically(path, lambda file: nx.write_graphml(graph, file))
