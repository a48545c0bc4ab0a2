"""Colours for objects: told apart by colour-blind people, and different between neighbours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

# The "muted" scheme for qualitative data of Paul Tol, Colour Schemes, SRON/EPS/TN/09-002 (2021).
PALETTE = ("#88CCEE", "#CC6677", "#DDCC77", "#117733", "#AA4499", "#44AA99", "#999933", "#332288", "#882255")
MEMBRANE_VOXELS = 6


def rgb(colour: str) -> tuple[int, int, int]:
    """#RRGGBB to three numbers of 0..255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def neighbours(planes: Iterable[np.ndarray]) -> dict[int, Counter[int]]:
    """Which objects lie beside each other in these slices, across a membrane too, and along how many voxels.

    Args:
        planes: label images; 0 is no object.
    """
    from skimage.segmentation import expand_labels

    beside: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for plane in planes:
        grown = expand_labels(plane.astype(np.int64), MEMBRANE_VOXELS)
        for one, other in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
            touching = (one != other) & (one > 0) & (other > 0)
            pairs, voxels = np.unique(np.stack([one[touching], other[touching]], 1), axis=0, return_counts=True)
            for (a, b), count in zip(pairs.tolist(), voxels.tolist(), strict=True):
                beside[a][b] += count
                beside[b][a] += count
    return beside


def assign(planes: list[np.ndarray], wanted: Mapping[int, int] | None = None) -> dict[int, int]:
    """A colour (its place in PALETTE) for every object of these slices; neighbours get different ones where possible.

    Greedy, the largest objects first: the wanted colour, else the least used one that no neighbour has, else the one
    with the shortest border to its like.

    Args:
        planes: label images; 0 is no object.
        wanted: colours that some objects should have if no neighbour has them already.
    """
    area: Counter[int] = Counter()
    for plane in planes:
        labels, voxels = np.unique(plane[plane > 0], return_counts=True)
        area.update(dict(zip(labels.tolist(), voxels.tolist(), strict=True)))
    beside = neighbours(planes)
    wanted = wanted or {}
    colours: dict[int, int] = {}
    used: Counter[int] = Counter()
    # Objects whose colour is wanted come first: they are matches, the rest fills in around them.
    for label in sorted(area, key=lambda label: (label not in wanted, -area[label], label)):
        borders: Counter[int] = Counter()
        for other, length in beside[label].items():
            if other in colours:
                borders[colours[other]] += length
        best = min(range(len(PALETTE)), key=lambda colour: (borders[colour], used[colour], colour))
        wish = wanted.get(label)
        colours[label] = wish if wish is not None and not borders[wish] else best
        used[colours[label]] += 1
    return colours


def matched(
    planes: list[np.ndarray], reference: list[np.ndarray], reference_colours: Mapping[int, int]
) -> dict[int, int]:
    """Colours that let slices be compared with slices of a reference, plane by plane of the same shape.

    The object that overlaps a reference object most has its colour, if that is also the reference object that it
    overlaps most itself. So where a colour changes inside a reference object, it was split; where a colour runs on
    across the border of two, they were merged.
    """
    overlap: Counter[tuple[int, int]] = Counter()
    for plane, truth in zip(planes, reference, strict=True):
        both = (plane > 0) & (truth > 0)
        pairs, voxels = np.unique(np.stack([plane[both], truth[both]], 1), axis=0, return_counts=True)
        overlap.update({(a, b): count for (a, b), count in zip(pairs.tolist(), voxels.tolist(), strict=True)})
    best: dict[int, int] = {}
    best_of_reference: dict[int, int] = {}
    for (label, truth_label), _ in sorted(overlap.items(), key=lambda item: (-item[1], item[0])):
        best.setdefault(label, truth_label)
        best_of_reference.setdefault(truth_label, label)
    mutual = {label: truth for label, truth in best.items() if best_of_reference[truth] == label}
    return assign(planes, {label: reference_colours[truth] for label, truth in mutual.items()})
