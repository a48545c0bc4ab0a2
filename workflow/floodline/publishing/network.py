"""Which neurons touch which, as pictures: a matrix, and a graph on the map of the volume."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd

from floodline.publishing.curves import COLOURS, INK, plot

SHOWN = 40
"""Neurons, the largest: more would be too small to tell apart."""


def shown(neurons: pd.DataFrame, contacts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The largest neurons, largest first, and the contacts between them, with `i` and `j`: their rows in that list."""
    largest = neurons.nlargest(SHOWN, "voxels").reset_index(drop=True)
    number = pd.Series(largest.index, index=largest["neuron"])
    between = contacts[contacts["a"].isin(number.index) & contacts["b"].isin(number.index)]
    return largest, between.assign(i=between["a"].map(number), j=between["b"].map(number))


def matrix(largest: pd.DataFrame, between: pd.DataFrame) -> bytes:
    """Area of contact of each pair, SVG; the arguments are those that `shown` returns."""
    areas = np.full((len(largest), len(largest)), np.nan)
    areas[between["i"], between["j"]] = areas[between["j"], between["i"]] = between["area_nm2"] / 1e6
    with plot(5.4, 4.6) as (axes, buffer):
        axes.grid(visible=False)
        # From dark to bright in blue and yellow: read alike by colour-blind people, and in grey.
        drawn = axes.imshow(areas, cmap="cividis", norm=matplotlib.colors.LogNorm(), interpolation="nearest")
        names = largest["neuron"].astype(str).tolist()
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axes.set_yticks(range(len(names)), names, fontsize=6)
        axes.set_xlabel("neuron, largest first")
        axes.set_ylabel("neuron")
        bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.8, label="area of contact, µm²")
        bar.outline.set_visible(False)
    return buffer.getvalue()


def graph(largest: pd.DataFrame, between: pd.DataFrame, voxel_size_nm_xyz: tuple[float, float, float]) -> bytes:
    """Neurons at the middle of their boxes in x and y, sized by volume, and lines as thick as they touch, SVG."""
    x, y = (
        (largest[f"{axis}0"] + largest[f"{axis}1"]).to_numpy() / 2 * nm / 1000
        for axis, nm in zip("xy", voxel_size_nm_xyz, strict=False)
    )
    with plot(5.4, 4.6) as (axes, buffer):
        width = np.sqrt(between["area_nm2"].to_numpy() / between["area_nm2"].max())
        for i, j, share in zip(between["i"].tolist(), between["j"].tolist(), width.tolist(), strict=True):
            axes.plot(
                [x[i], x[j]], [y[i], y[j]], color=INK, alpha=0.45, zorder=1, solid_capstyle="round",
                linewidth=0.3 + 4 * share,
            )  # fmt: skip
        # The area of a disc grows as a sphere's section does.
        size = (largest["volume_um3"] / largest["volume_um3"].max()).to_numpy() ** (2 / 3)
        axes.scatter(x, y, s=20 + 380 * size, color=COLOURS[5], edgecolors=INK, linewidths=0.8, zorder=2)
        for name, at_x, at_y in zip(largest["neuron"], x, y, strict=True):
            axes.annotate(str(name), (at_x, at_y), ha="center", va="center", fontsize=6, zorder=3)
        axes.set_xlabel("x, µm")
        axes.set_ylabel("y, µm")
        axes.set_aspect("equal")
        # y runs down, as in the viewer.
        axes.invert_yaxis()
    return buffer.getvalue()
