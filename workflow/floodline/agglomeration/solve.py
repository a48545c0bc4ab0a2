"""From scores to neurons: greedy additive edge contraction.

Every contact gets a weight, positive where it speaks for a merger: the log-odds of its score, less those of the
threshold, times its area. The pair of the largest positive weight is merged; weights between the merged supervoxel and
a third one add up; and so on until no weight is positive. So contacts that speak against a merger count as well: a
neuron is not held together by one contact against many. Algorithm: M. Keuper et al., Efficient decomposition of image
and mesh graphs by lifted multicuts (ICCV 2015); the implementation is bioimage-cpp's.

Files, in `agglomeration/`:

graph.graphml       the supervoxels (`voxels`, `intensity`, `probability`, `neuron`) and their contacts, with features,
                    `score` and whether they are `merged`: for networkx and Gephi. `x`, `y`, `z` is where to look.
mapping.parquet     `supervoxel` (rising), `neuron`. Neurons are numbered from 1, the largest first; of equal ones that
                    with the smallest supervoxel. Written last.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from floodline.agglomeration.tables import read_table, write_table
from floodline.experiment import Experiment
from floodline.manifest import write_atomically

logger = logging.getLogger(__name__)

SUREST = 1e-6
"""Scores are held so far from 0 and 1, where log-odds have no end."""

SHOWN = ["score", "contact_area", "contact_share", "contrast", "gap", "x", "y", "z"]
"""Features of contacts in the graph that a person opens."""


def run(experiment: Experiment) -> None:
    """Write `graph.graphml` and `mapping.parquet`.

    Raises:
        FloodlineError: the region graph is missing or damaged.
    """
    folder = experiment.agglomeration
    (folder / "mapping.parquet").unlink(missing_ok=True)
    edges, nodes = read_table(folder / "edges.parquet"), read_table(folder / "nodes.parquet")
    neuron = solve(nodes, edges, experiment.config.agglomeration.solver.threshold)
    logger.info("%d supervoxels make %d neurons", len(nodes), int(neuron.max(initial=0)))
    _write_graph(folder / "graph.graphml", nodes.assign(neuron=neuron), edges)
    mapping = pd.DataFrame({"supervoxel": nodes["supervoxel"].astype(np.uint64), "neuron": neuron})
    write_table(folder / "mapping.parquet", mapping)


def solve(nodes: pd.DataFrame, edges: pd.DataFrame, threshold: float) -> np.ndarray:
    """The neuron of every supervoxel; the order of the contacts does not matter.

    Args:
        nodes: columns `supervoxel` (rising), `voxels`.
        edges: columns `a`, `b` (a < b, each pair once), `contact_area`, `score`.
        threshold: score of a contact that speaks neither for nor against.

    Returns:
        uint64, numbered as the module says.
    """
    edges = edges.sort_values(["a", "b"])
    pairs = np.stack([np.searchsorted(nodes["supervoxel"], edges[side]) for side in ("a", "b")], axis=1)
    return _numbered(contract(len(nodes), pairs, weights(edges, threshold)), nodes["voxels"])


def weights(edges: pd.DataFrame, threshold: float) -> np.ndarray:
    """What contacts say for (positive) and against (negative) a merger."""
    odds = logit(np.clip(edges["score"].to_numpy(), SUREST, 1 - SUREST))
    return edges["contact_area"].to_numpy() * (odds - logit(threshold))


def contract(count: int, pairs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The cluster of each of `count` nodes, by greedy additive contraction of edges (n, 2) with their weights (n)."""
    from bioimage_cpp.graph import UndirectedGraph
    from bioimage_cpp.graph.multicut import GreedyAdditiveMulticut, MulticutObjective

    if len(pairs) == 0:
        return np.arange(count)
    graph = UndirectedGraph.from_unique_edges(count, pairs.astype(np.uint64))
    return np.asarray(GreedyAdditiveMulticut().optimize(MulticutObjective(graph, weight)))


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
