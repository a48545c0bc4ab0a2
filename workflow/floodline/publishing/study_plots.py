"""The figures of studies, as SVG, from the tables and findings that a study has left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from floodline.publishing.curves import COLOURS, INK, STYLES, plot
from floodline.studies.findings import Findings
from floodline.studies.table import smoothed

WORST_SHOWN = 0.8
"""Where the colours of learning rates end at the latest: relative to the best score of a column."""


def learning_rates(found: Findings) -> bytes:
    """Learning rates by number of workers, coloured by score; the best, the lines of scaling, and the fitted rule."""
    points = [(c["n"], r["learning_rate"], r["relative"]) for c in found["columns"] for r in c["rates"]]
    counts = np.array([c["n"] for c in found["columns"]], float)
    best = np.array([(c["n"], c["best_rate"]) for c in found["columns"] if c["best_rate"]])
    with plot(5.6, 3.8) as (axes, buffer):
        known = np.array([point for point in points if point[2] is not None], float).reshape(-1, 3)
        lowest = max(WORST_SHOWN, known[:, 2].min(initial=1.0))
        drawn = axes.scatter(
            known[:, 0], known[:, 1], c=known[:, 2], s=90.0, cmap="viridis", vmin=lowest, vmax=1, zorder=3
        )
        label = f"{found['score'].replace('_', ' ')}, relative to the best of the column"
        axes.figure.colorbar(drawn, ax=axes, label=label, extend="min")
        lost = np.array([point[:2] for point in points if point[2] is None], float).reshape(-1, 2)
        if len(lost):
            axes.scatter(lost[:, 0], lost[:, 1], marker="x", color=INK, label="diverged", zorder=3)
        if len(best):
            axes.scatter(best[:, 0], best[:, 1], s=190.0, facecolors="none", edgecolors=COLOURS[1], label="best")
        if len(best) and len(counts) > 1:
            first, rate = best[0]
            axes.plot(counts, rate * counts / first, color=INK, linestyle="--", linewidth=1, label="linear")
            root = rate * np.sqrt(counts / first)
            axes.plot(counts, root, color=INK, linestyle=":", linewidth=1.4, label="square root")
        if found["rule"]:
            fitted = found["rule"]["factor"] * counts ** found["rule"]["exponent"]
            axes.plot(counts, fitted, color=COLOURS[1], label="fitted")
        axes.set(xscale="log", yscale="log", ylabel="learning rate after the warm-up")
        axes.set_xlabel(found["by"].replace("_", " "))
        _whole_numbers(axes, counts)
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=5, handlelength=1.4, columnspacing=1)
    return buffer.getvalue()


def optimisers(found: Findings, curves: pd.DataFrame, score: str) -> bytes:
    """A score of training patches against wall time, for each optimiser at its best setting."""
    with plot() as (axes, buffer):
        for one, colour, style in zip(found["best"], COLOURS, STYLES, strict=False):
            own = curves[curves["cell"].isin(one["cells"])]
            _band(axes, own, "seconds", score, one["optimiser"], colour, style)
        axes.set(xlabel="seconds of training", ylabel=f"{score} of training patches".replace("f1", "F1"), ylim=(0, 1))
        axes.legend(fontsize=8)
    return buffer.getvalue()


def batches(found: Findings, curves: pd.DataFrame, along: str, label: str) -> bytes:
    """F1 of training patches against a column of the curves, a line for each global batch.

    Args:
        curves: with the column `global_batch`.
    """
    with plot() as (axes, buffer):
        sizes = sorted(curves["global_batch"].unique().tolist())
        for number, size in enumerate(sizes):
            own = curves[curves["global_batch"] == size]
            _band(axes, own, along, "f1", str(size), COLOURS[number % 6], STYLES[number // 6 % 6])
        if found["target_f1"] is not None:
            axes.axhline(found["target_f1"], color=INK, linewidth=0.8)
        axes.set(xlabel=label, ylabel="F1 of training patches", ylim=(0, None))
        axes.legend(fontsize=8, title="global batch", ncols=2)
    return buffer.getvalue()


def knee(found: Findings) -> bytes:
    """Steps and fields of view until the target, by global batch, with the fitted curve and its knee."""
    reached = [batch for batch in found["batches"] if batch["fovs_to_target"]]
    sizes = np.array([batch["global_batch"] for batch in reached], float)
    with plot() as (axes, buffer):
        for batch in reached:
            place = (batch["steps_to_target"], batch["fovs_to_target"])
            axes.plot(*place, "o", color=COLOURS[0])
            axes.annotate(f"{batch['global_batch']}", place, textcoords="offset points", xytext=(5, 4), fontsize=8)
        if found["knee"]:
            one = found["knee"]
            along = np.geomspace(sizes.min(), sizes.max(), 50)
            fovs = one["fovs"] + along * one["steps"]
            axes.plot(fovs / along, fovs, color=INK, linewidth=1)
            axes.plot(2 * one["steps"], 2 * one["fovs"], "D", color=COLOURS[1], label=f"knee: {one['batch']:.0f}")
            axes.legend(fontsize=8)
        axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="fields of view")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    return buffer.getvalue()


def checkpoints(floods: pd.DataFrame, score: str, label: str) -> bytes:
    """A score of floods with the checkpoints of a training against its time, a line a training.

    Args:
        floods: columns `cell`, `minutes` and the score.
    """
    with plot() as (axes, buffer):
        for number, cell in enumerate(floods["cell"].unique().tolist()):
            own = floods[floods["cell"] == cell]
            axes.plot(own["minutes"], own[score], color=COLOURS[number % 6], marker=".")
        axes.set(xlabel="minutes of training", ylabel=label, ylim=(0, None))
    return buffer.getvalue()


def efficiency(speeds: pd.DataFrame) -> bytes:
    """Parallel efficiency by the number of workers, measured and by the model."""
    with plot() as (axes, buffer):
        axes.plot(speeds["workers"], 100 * speeds["efficiency"], "o-", color=COLOURS[0], label="measured")
        if speeds["model"].notna().all():
            axes.plot(speeds["workers"], 100 * speeds["model"].astype(float), "--", color=INK, label="model")
        axes.set(xlabel="workers", ylabel="efficiency, %", ylim=(0, 110), xscale="log")
        _whole_numbers(axes, speeds["workers"].to_numpy())
        axes.legend(fontsize=8)
    return buffer.getvalue()


def _whole_numbers(axes: Any, values: np.ndarray) -> None:
    """Ticks at these values of a logarithmic axis, and nowhere else."""
    axes.set_xticks(values, [f"{int(value)}" for value in values])
    axes.xaxis.set_minor_locator(axes.xaxis.get_major_locator())


def _band(axes: Any, curves: pd.DataFrame, along: str, score: str, label: str, colour: str, style: Any) -> None:
    """The mean of cells at equal fields of view, and from the lowest to the highest."""
    at = curves.assign(x=curves[along], y=smoothed(curves, score)).groupby("fovs").agg(
        x=("x", "mean"), y=("y", "mean"), low=("y", "min"), high=("y", "max")
    )  # fmt: skip
    axes.plot(at["x"], at["y"], color=colour, linestyle=style, label=label)
    axes.fill_between(at["x"], at["low"], at["high"], color=colour, alpha=0.15, linewidth=0)
