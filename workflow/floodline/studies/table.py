"""The table of a study: what became of each cell, where all can be compared fairly.

column                          meaning
cell, setting, seed             name of the training, the same without its seed, and what its random choices come from
(axes of the matrix)            the cell's values
workers, global_batch           how many trained it, and the examples of a step of all of them
optimiser, learning_rate        learning_rate: that after the warm-up
warmup_fovs                     length of the warm-up
diverged                        whether the loss stopped being a number; then there are no scores
total_fovs, total_seconds       length of the whole training; seconds without scoring and start
compared_at                     what is alike where cells are compared: fovs (the end) or time (that of the quickest)
fovs, seconds                   how far the cell was there
fovs_per_second                 median over the rows of the log
loss, accuracy, precision, ...  of training patches (published metrics): means over the last part before that
held_out_accuracy, ...          of held-out patches at the last checkpoint before that; absent where nothing is held out

`study_curves.parquet` has the same scores row by row: `cell`, `fovs`, `seconds`, and the columns of log.csv. Where the
checkpoints were flooded, `study_floods.parquet` has what metrics.json says of each: `cell`, `fovs`, `seconds`, scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from floodline.config import WORKERS, Cell, cells
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.manifest import read_json

SCORES = ("loss", "accuracy", "precision", "recall", "specificity", "f1")
KEPT = ("accuracy", "precision", "recall", "specificity", "f1", "patch_loss")
HELD_OUT = "held_out_"
SMOOTH = 5
"""Rows of a log that a running mean takes together."""


def curve(log: pd.DataFrame) -> pd.DataFrame:
    """A training's log with the seconds that it had trained for by each row.

    Args:
        log: has the columns `fovs` and `fovs_per_second`, of the fields of view since the row before.
    """
    fovs = log["fovs"].to_numpy()
    before = [0.0, *fovs[:-1]]
    return log.assign(seconds=((fovs - before) / log["fovs_per_second"]).cumsum())


def smoothed(curves: pd.DataFrame, score: str) -> pd.Series:
    """Running means of a score, cell by cell."""
    return curves.groupby("cell")[score].transform(lambda values: values.rolling(SMOOTH, min_periods=1).mean())


def results(experiment: Experiment) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The table of the cells, their curves, and the floods of their checkpoints.

    Raises:
        FloodlineError: a cell has not been trained.
    """
    study = experiment.config.study
    trained = {name: _Trained.read(experiment, cell) for name, cell in cells(experiment.config).items()}
    assert study is not None
    whole = [one for one in trained.values() if not one.metrics["diverged"]]
    limit = min((one.curve["seconds"].iloc[-1] for one in whole), default=0.0) if study.compare_at == "time" else None
    table = pd.DataFrame([one.row(limit, study.last) for one in trained.values()])
    # Also where every training diverged.
    missing = [name for name in ("total_seconds", "fovs_per_second", "fovs", "seconds", *SCORES) if name not in table]
    table = table.assign(**dict.fromkeys(missing, np.nan))
    curves = [one.curve.assign(cell=name) for name, one in trained.items() if len(one.curve)]
    floods = [{"cell": name, **record} for name, one in trained.items() for record in one.metrics["checkpoints"]]
    return table, pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(), pd.DataFrame(floods)


class _Trained:
    """A cell and what its training has left."""

    def __init__(self, cell: Cell, metrics: dict[str, Any], curve: pd.DataFrame) -> None:
        self.cell, self.metrics, self.curve = cell, metrics, curve

    @classmethod
    def read(cls, study: Experiment, cell: Cell) -> _Trained:
        folder = Experiment(study.folder, cell.name).training
        if not (folder / "metrics.json").is_file():
            raise FloodlineError(f"{folder} has no metrics.json: the cell was not trained; run `snakemake study`.")
        log = folder / "log.csv"
        found = curve(pd.read_csv(log)) if log.is_file() else pd.DataFrame()
        return cls(cell, read_json(folder / "metrics.json"), found)

    def row(self, limit: float | None, last: float) -> dict[str, Any]:
        """The cell's row of the table; scores are taken at so many seconds, None: at the end."""
        training = self.cell.config.training
        assert training is not None
        setting = self.cell.name.removesuffix(f"seed-{self.cell.seed}").rstrip("_")
        row: dict[str, Any] = {"cell": self.cell.name, "setting": setting, "seed": self.cell.seed}
        row |= {axis: value for axis, value in self.cell.values.items() if axis != WORKERS}
        row |= {
            "workers": self.cell.workers,
            "global_batch": self.cell.workers * training.batch_size,
            "optimiser": training.optimiser.kind,
            "learning_rate": training.learning_rate.peak(self.cell.workers),
            "warmup_fovs": training.learning_rate.warmup_fovs,
            "diverged": self.metrics["diverged"],
            "total_fovs": self.metrics["fovs"],
            "compared_at": "fovs" if limit is None else "time",
        }
        curve = self.curve
        if not len(curve):
            return row
        row |= {
            "total_seconds": float(curve["seconds"].iloc[-1]),
            "fovs_per_second": float(curve["fovs_per_second"].median()),
        }
        if self.metrics["diverged"]:
            return row
        # Half a millionth more: the quickest cell itself must not fail by a rounding.
        seen = curve if limit is None else curve[curve["seconds"] <= limit * (1 + 5e-7)]
        if not len(seen):
            return row
        row |= {"fovs": float(seen["fovs"].iloc[-1]), "seconds": float(seen["seconds"].iloc[-1])}
        recent = seen[seen["fovs"] > (1 - last) * seen["fovs"].iloc[-1]]
        row |= {name: float(recent[name].mean()) for name in SCORES}
        checked = seen.dropna(subset=[HELD_OUT + "f1"]) if HELD_OUT + "f1" in seen else seen[:0]
        if len(checked):
            row |= {HELD_OUT + name: float(checked[HELD_OUT + name].iloc[-1]) for name in KEPT}
        return row
