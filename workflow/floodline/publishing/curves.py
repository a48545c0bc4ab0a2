"""Plots of the report, as SVG: learning curves, distributions, times."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind people; line styles differ too, for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
INK, FAINT = "#333333", "#dddddd"
SETTINGS: Any = {
    "svg.fonttype": "none",
    # The same plot, the same bytes.
    "svg.hashsalt": "floodline",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextmanager
def plot(width: float = 4.8, height: float = 2.9) -> Iterator[tuple[Axes, io.BytesIO]]:
    """An empty plot of this size (inches); its SVG is in the buffer when the block ends."""
    buffer = io.BytesIO()
    # A figure without pyplot needs no screen and leaves nothing behind.
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot(), buffer
        figure.savefig(buffer, format="svg", metadata={"Date": None})


def learning_curve(log: pd.DataFrame, columns: Sequence[str], label: str, from_zero: bool) -> bytes:
    """Columns of the training log against fields of view seen, SVG; a thin line each, and a smooth one over it.

    Args:
        log: has a column `fovs`.
        label: of the vertical axis.
        from_zero: let the axis be 0..1.
    """
    with plot() as (axes, buffer):
        smooth = max(1, len(log) // 20)
        for column, colour, style in zip(columns, COLOURS, STYLES, strict=False):
            values = log[column].rolling(smooth, min_periods=1, center=True).mean()
            if smooth > 1:
                axes.plot(log["fovs"], log[column], color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(log["fovs"], values, color=colour, linestyle=style, label=column.replace("_", " "))
        axes.set_xlabel("fields of view seen")
        axes.set_ylabel(label)
        axes.set_xlim(0, None)
        axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        if from_zero:
            axes.set_ylim(0, 1)
        if len(columns) > 1:
            axes.legend(loc="best", ncols=2, fontsize=9)
    return buffer.getvalue()


def distribution(values: np.ndarray, label: str) -> bytes:
    """How many objects there are of each size, as steps over a logarithmic axis, SVG.

    Args:
        values: positive numbers.
        label: of the horizontal axis.
    """
    low, high = np.log10(values.min()), np.log10(values.max())
    counts, edges = np.histogram(values, np.logspace(low, max(high, low + 0.1), 25))
    with plot() as (axes, buffer):
        axes.stairs(counts, edges, color=COLOURS[0], linewidth=1.6)
        axes.set_xscale("log")
        labelled = (1, 2, 5) if high - low < 2 else (1,)
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=labelled))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.set_xlabel(label)
        axes.set_ylabel("objects")
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    return buffer.getvalue()


def profile(profiles: pd.DataFrame, axis: str) -> bytes:
    """Mean grey value and one standard deviation on either side along an axis, SVG.

    Args:
        profiles: has the columns `axis`, `place`, `mean` and `stddev`.
        axis: x, y or z.
    """
    own = profiles[profiles["axis"] == axis]
    own = own.iloc[:: max(1, len(own) // 1000)]
    with plot() as (axes, buffer):
        low, high = own["mean"] - own["stddev"], own["mean"] + own["stddev"]
        axes.fill_between(own["place"], low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        axes.plot(own["place"], own["mean"], color=COLOURS[0])
        axes.set_xlabel(f"{axis}, voxels")
        axes.set_ylabel("grey value")
    return buffer.getvalue()


def bars(values: Mapping[str, float], label: str) -> bytes:
    """Named numbers as horizontal bars with their values, the first on top, SVG."""
    with plot(height=0.55 + 0.24 * len(values)) as (axes, buffer):
        names = list(values)
        drawn = axes.barh(range(len(names)), list(values.values()), color=COLOURS[0], height=0.7)
        axes.bar_label(drawn, fmt="%.4g", padding=3, fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
    return buffer.getvalue()
