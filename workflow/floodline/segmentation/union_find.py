"""Union-find on arrays: which ids belong together, given pairs of ids that do."""

from __future__ import annotations

import fastremap
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def unite(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components of a graph of ids; each is named after its smallest member.

    The result does not depend on the order of the pairs, nor on the order inside a pair. Memory and time grow with the
    number of pairs, not with the size of the ids.

    Args:
        pairs: (n, 2) integers; each row joins two ids. A row that names one id twice only makes it known.

    Returns:
        ids: every id that occurs in a pair, rising, in the dtype of `pairs`.
        roots: for each of them the smallest id of its component.
    """
    ids, nodes = fastremap.unique(pairs, return_inverse=True)
    nodes = nodes.reshape(-1, 2)
    graph = coo_array((np.ones(len(nodes), bool), (nodes[:, 0], nodes[:, 1])), shape=(len(ids), len(ids)))
    _, component = connected_components(graph, directed=False)
    # `ids` rise, so the first member of a component is its smallest.
    _, first = fastremap.unique(component, return_index=True)
    return ids, ids[first][component]
