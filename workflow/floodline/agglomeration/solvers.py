"""Solvers: which nodes of a graph form one neuron, from what its edges say for and against.

threshold        Every edge that speaks for a merger is one: connected components.
greedy           Greedy additive edge contraction: the pair with the largest positive weight is merged, weights to a
                 third node add up, and so on until no weight is positive (Keuper et al., ICCV 2015).
multicut         The same, improved by moving nodes between neighbouring neurons while the weight of what is cut falls
                 (Kernighan-Lin, in the same paper).
mutex_watershed  Edges by falling strength: one that speaks for a merger makes it unless a stronger one has forbidden
                 it, one that speaks against forbids it for good (Wolf et al., ECCV 2018).

The algorithms are bioimage-cpp's. Around them, for all alike: forced pairs are contracted before, forbidden ones are
edges against which nothing prevails, and neurons that became too large are made again with fewer of their edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from floodline.config import Solver
from floodline.segmentation.pairs import NONE, Wishes
from floodline.segmentation.union_find import unite


def partition(
    pairs: np.ndarray, weight: np.ndarray, voxels: np.ndarray, wanted: Solver, wishes: Wishes = NONE
) -> np.ndarray:
    """The cluster of each node.

    Args:
        pairs: (m, 2) nodes from 0 on, each pair once.
        weight: (m,) what each edge says for (positive) or against (negative) a merger.
        voxels: (n,) size of each node.
        wanted: which algorithm, and the limits of sizes.
        wishes: pairs of nodes to force together, and to keep apart.

    Returns:
        (n,) int64.
    """
    node, sizes = _forced(wishes.forced, voxels)
    if wanted.max_smaller_voxels is not None:
        both_large = voxels[pairs].min(axis=1) > wanted.max_smaller_voxels
        weight = np.where(both_large, np.minimum(weight, 0), weight)
    edges, weights = _summed(node[pairs], weight)
    forbidden = node[wishes.forbidden]
    cluster = _solve(len(sizes), edges, weights, forbidden, wanted.algorithm)
    if wanted.max_neuron_voxels is not None:
        cluster = _within(cluster, edges, weights, sizes, wanted.max_neuron_voxels)
    return cluster[node]


def _forced(forced: np.ndarray, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each node its place among the nodes that remain after the contraction; and the sizes of these."""
    root = np.arange(len(voxels))
    ids, roots = unite(forced)
    root[ids] = roots
    _, node = np.unique(root, return_inverse=True)
    return node, np.bincount(node, voxels).astype(np.int64)


def _summed(pairs: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges between different nodes, each pair once, with the sums of their weights."""
    between = pairs[:, 0] != pairs[:, 1]
    pairs, group = np.unique(np.sort(pairs[between], axis=1), axis=0, return_inverse=True)
    return pairs, np.bincount(group.ravel(), weight[between], len(pairs))


def _solve(count: int, pairs: np.ndarray, weight: np.ndarray, forbidden: np.ndarray, algorithm: str) -> np.ndarray:
    if len(pairs) == 0:
        return np.arange(count)
    beyond = 1 + 2 * np.abs(weight).sum()
    if algorithm in ("greedy", "multicut"):
        apart, _ = _summed(forbidden, np.zeros(len(forbidden)))
        edges, weights = _summed(
            np.concatenate([pairs, apart]), np.concatenate([weight, np.full(len(apart), -2 * beyond)])
        )
        return _multicut(_graph(count, edges), weights, improve=algorithm == "multicut")
    from bioimage_cpp.graph.mutex_watershed import mutex_watershed_clustering

    attracts, repels = weight > 0, (weight < 0) & (algorithm == "mutex_watershed")
    found = mutex_watershed_clustering(
        _graph(count, pairs[attracts]),
        weight[attracts].astype(np.float64),
        np.concatenate([forbidden, pairs[repels]]).astype(np.uint64),
        np.concatenate([np.full(len(forbidden), beyond), -weight[repels]]),
    )
    return np.asarray(found).astype(np.int64)


def _graph(count: int, pairs: np.ndarray) -> Any:
    from bioimage_cpp.graph import UndirectedGraph

    return UndirectedGraph.from_unique_edges(count, pairs.astype(np.uint64))


def _multicut(graph: Any, weight: np.ndarray, improve: bool) -> np.ndarray:
    from bioimage_cpp.graph.multicut import GreedyAdditiveMulticut, KernighanLinMulticut, MulticutObjective

    objective = MulticutObjective(graph, weight)
    found = GreedyAdditiveMulticut().optimize(objective)
    if improve:
        found = KernighanLinMulticut().optimize(objective)
    return np.asarray(found).astype(np.int64)


def _within(cluster: np.ndarray, pairs: np.ndarray, weight: np.ndarray, sizes: np.ndarray, limit: int) -> np.ndarray:
    """Make clusters that are too large again: from single nodes, by falling weight, without what would exceed it."""
    total = np.bincount(cluster, sizes)
    member = total[cluster] > limit
    inside = member[pairs[:, 0]] & (cluster[pairs[:, 0]] == cluster[pairs[:, 1]]) & (weight > 0)
    rows = np.flatnonzero(inside)
    head = {node: node for node in np.flatnonzero(member).tolist()}
    members = {node: [node] for node in head}
    held = {node: int(sizes[node]) for node in head}
    for a, b in pairs[rows[np.argsort(-weight[rows], kind="stable")]].tolist():
        large, small = sorted((head[a], head[b]), key=lambda node: -len(members[node]))
        if large != small and held[large] + held[small] <= limit:
            held[large] += held[small]
            members[large] += members[small]
            head.update(dict.fromkeys(members[small], large))
    cluster = cluster.copy()
    cluster[member] = len(total) + np.array([head[node] for node in np.flatnonzero(member).tolist()], np.int64)
    return np.unique(cluster, return_inverse=True)[1]
