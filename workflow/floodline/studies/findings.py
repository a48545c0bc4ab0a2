"""What a study says: the numbers behind its figure and its sentences, from the tables of table.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from floodline.errors import FloodlineError
from floodline.studies.scaling import fit
from floodline.studies.table import HELD_OUT, smoothed

Findings = dict[str, Any]


def of(figure: str, table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Findings:
    """The findings of a study.

    Args:
        figure: the configuration's `study.figure`.
        table, curves, floods: from `table.results`.

    Raises:
        FloodlineError: the matrix lacks what the figure needs.
    """
    return {"figure": figure, **FINDERS[figure](table, curves, floods)}


def score_of(table: pd.DataFrame, name: str) -> str:
    """The column of a score: of held-out patches where there are any, else of the training's own."""
    held_out = HELD_OUT + name
    return held_out if held_out in table and table[held_out].notna().any() else name


def groups(table: pd.DataFrame, keys: list[str], score: str) -> pd.DataFrame:
    """Cells that differ in their seed only, as one row: mean, lowest and highest score, and how many diverged."""
    grouped = table.groupby(keys, dropna=False, sort=True)
    found = grouped[score].agg(["mean", "min", "max", "std"]).reset_index()
    found["seeds"] = grouped.size().to_numpy()
    found["diverged"] = grouped["diverged"].sum().to_numpy()
    return found


def learning_rate(table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Findings:
    """For each number of workers (or global batch) the best rate, and the rule that fits these.

    The rule is `rate = factor * n ** exponent`, by least squares of logarithms. Of rates that the seeds cannot tell
    from the best one (their means are within the pooled standard deviation), the geometric mean counts.
    """
    by = "workers" if table["workers"].nunique() > 1 else "global_batch"
    score = score_of(table, "accuracy")
    rates = groups(table, [by, "learning_rate"], score)
    noise = _pooled(rates["std"])
    columns = []
    for count in sorted(rates[by].unique().tolist()):
        column = rates[rates[by] == count]
        best = float(column["mean"].max())
        tied = column[column["mean"] >= best - noise]["learning_rate"]
        rows = column.assign(relative=column["mean"] / best)
        columns.append(
            {
                "n": count,
                "best_score": _plain(best),
                "best_rate": next(iter(column["learning_rate"][column["mean"] == best].tolist()), None),
                "tied_rates": [float(rate) for rate in tied],
                "rates": _records(rows[["learning_rate", "mean", "min", "max", "relative", "seeds", "diverged"]]),
            }
        )
    known = [(c["n"], np.exp(np.log(c["tied_rates"]).mean())) for c in columns if c["tied_rates"]]
    rule = None
    if len(known) > 1:
        n, rate = np.log(np.array(known)).T
        exponent, offset = np.polyfit(n, rate, 1)
        rule = {"exponent": float(exponent), "factor": float(np.exp(offset))}
    return {"by": by, "score": score, "noise": _plain(noise), "columns": columns, "rule": rule}


def optimizers(table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Findings:
    """The best setting of each optimiser, by F1."""
    score = score_of(table, "f1")
    settings = groups(table, ["optimiser", "learning_rate", "warmup_fovs"], score)
    best = []
    for row in _records(
        settings.sort_values("mean", ascending=False).dropna(subset=["mean"]).groupby("optimiser").head(1)
    ):
        same = ~table["diverged"]
        for name in ("optimiser", "learning_rate", "warmup_fovs"):
            same &= table[name] == row[name]
        best.append({**row, "cells": table.loc[same, "cell"].tolist()})
    return {"score": score, "noise": _plain(_pooled(settings["std"])), "best": best, "settings": _records(settings)}


def batch_size(table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Findings:
    """What a larger batch costs: fields of view until an F1 that all but the slowest batch sizes reach.

    For a given quality, fields of view E and steps S of a batch b follow (S / S_min - 1) (E / E_min - 1) = 1
    (McCandlish et al. 2018, arXiv:1812.06162), which with E = b S is E = E_min + b S_min, a line. Its knee is at
    b = E_min / S_min, where a step needs twice the fewest and the fields of view are twice the fewest.
    """
    f1 = mean_curves(table, curves, "global_batch")
    reached = sorted((curve["f1"].max() for _, curve in f1.groupby("global_batch")), reverse=True)
    # Half of the batch sizes, but two at least, must get there; a little below, since maxima of noisy curves are high.
    target = 0.98 * reached[max(1, (len(reached) + 1) // 2 - 1)] if len(reached) > 1 else None
    rows = []
    for batch in sorted(f1["global_batch"].unique().tolist()):
        curve = f1[f1["global_batch"] == batch]
        there = curve[curve["f1"] >= target] if target is not None else curve[:0]
        first = there.iloc[0] if len(there) else None
        rows.append(
            {
                "global_batch": batch,
                "f1_at_end": float(curve["f1"].iloc[-1]),
                "fovs_to_target": None if first is None else float(first["fovs"]),
                "steps_to_target": None if first is None else float(first["fovs"]) / batch,
                "seconds_to_target": None if first is None else float(first["seconds"]),
            }
        )
    known = np.array([(r["global_batch"], r["fovs_to_target"]) for r in rows if r["fovs_to_target"] is not None])
    knee = None
    if len(known) > 2:
        batch, fovs = known.T
        # Relative errors count, so that small batches weigh as much as large ones.
        design = np.stack([1 / fovs, batch / fovs], axis=1)
        (fewest_fovs, fewest_steps), *_ = np.linalg.lstsq(design, np.ones(len(batch)), rcond=None)
        if fewest_fovs > 0 and fewest_steps > 0:
            knee = {
                "batch": float(fewest_fovs / fewest_steps),
                "fovs": float(fewest_fovs),
                "steps": float(fewest_steps),
            }
    return {"target_f1": _plain(target), "batches": rows, "knee": knee}


def mean_curves(table: pd.DataFrame, curves: pd.DataFrame, by: str) -> pd.DataFrame:
    """F1 of training patches, smoothed, at equal fields of view: means over the cells of each value of a column."""
    whole = table.loc[~table["diverged"], ["cell", by]]
    smooth = curves.merge(whole, on="cell")
    smooth["f1"] = smoothed(smooth, "f1")
    return smooth.groupby([by, "fovs"], as_index=False)[["f1", "seconds"]].mean()


def checkpoints(table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Findings:
    """How floods with the checkpoints of a training do."""
    if floods.empty:
        raise FloodlineError("the figure checkpoints needs training.selection: no checkpoint was flooded.")
    floods = floods.assign(voi=floods["voi_split"] + floods["voi_merge"])
    known = floods.dropna(subset=["adapted_rand_error"])
    if known.empty:
        return {"cells": []}
    cells = []
    names = ["fovs", "seconds", "adapted_rand_error", "voi", "coverage"]
    for cell in known["cell"].unique().tolist():
        one = known.loc[known["cell"] == cell, names]
        best, last = _records(one.sort_values("adapted_rand_error").head(1)), _records(one.tail(1))
        late = one[one["fovs"] > one["fovs"].max() / 2]["adapted_rand_error"]
        range_ = {"lowest": float(late.min()), "highest": float(late.max())}
        cells.append({"cell": cell, "best": best[0], "last": last[0], "second_half": range_})
    return {"cells": cells}


def scaling(table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Findings:
    """Speeds by the number of workers, and the model of scaling.py where there are enough of them."""
    speeds = {n: own["fovs_per_second"] for n, own in table.groupby("workers") if isinstance(n, int)}
    if 1 not in speeds:
        raise FloodlineError("the figure scaling needs a cell with one worker.")
    means = {workers: float(own.mean()) for workers, own in speeds.items()}
    model = None
    if len(means) > 3:
        step = int(table["global_batch"].iloc[0] // table["workers"].iloc[0])
        model = fit(means, step, messages=1)
    rows = [
        {
            "workers": workers,
            "fovs_per_second": means[workers],
            "lowest": float(own.min()),
            "highest": float(own.max()),
            "per_worker": means[workers] / workers,
            "efficiency": means[workers] / workers / means[1],
            "model": None if model is None else float(model.efficiency(workers)),
        }
        for workers, own in speeds.items()
    ]
    fitted = None if model is None else {n: getattr(model, n) for n in ("own", "interference", "spread", "latency")}
    return {"rows": rows, "model": fitted}


FINDERS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, pd.DataFrame], Findings]] = {
    "learning_rate": learning_rate,
    "optimizers": optimizers,
    "batch_size": batch_size,
    "checkpoints": checkpoints,
    "scaling": scaling,
}


def _pooled(deviations: pd.Series) -> float:
    """Standard deviation between seeds, pooled over groups; 0 where there is one seed only."""
    known = deviations.dropna()
    return float(np.sqrt((known**2).mean())) if len(known) else 0.0


def _plain(value: Any) -> Any:
    """A number as JSON has it; what is no number is null."""
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]
