"""log.csv, a row for each stretch of the training; and the same for TensorBoard."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

from floodline.ffn.runtime import tensorflow
from floodline.manifest import write_text

Row = dict[str, float]

PUBLISHED = ("accuracy", "precision", "recall", "specificity", "f1", "patch_loss")
"""Metrics of the training's own patches, which TensorBoard shows under the names of the published system: eval/..."""

HELD_OUT = "held_out_"
"""What the columns of the same metrics on held-out patches begin with."""


class Log:
    """The table of one run. It is rewritten whole, so that a killed run leaves no half a row.

    TensorBoard's events lie in `tensorboard/` beside it. They are written anew when a run goes on, so that nothing is
    in them twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def resume(self, fovs: int) -> None:
        """Keep what an earlier run wrote up to `fovs` fields of view: the rest is trained again."""
        self.rows = []
        if fovs and self.path.is_file():
            with self.path.open() as file:
                rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["fovs"] <= fovs]
        folder = self.path.with_name("tensorboard")
        shutil.rmtree(folder, ignore_errors=True)
        self.events = tensorflow().summary.create_file_writer(str(folder))
        for row in self.rows:
            self._show(row)

    def add(self, row: Row) -> None:
        """Add a row and write the file. Rows may lack columns: held-out scores are not in all, or stand alone."""
        self.rows.append(row)
        found = dict.fromkeys(name for row in self.rows for name in row)
        names = sorted(found, key=lambda name: name.startswith(HELD_OUT))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_text(self.path, text.getvalue())
        self._show(row)

    def _show(self, row: Row) -> None:
        scalar = tensorflow().summary.scalar
        with self.events.as_default(step=int(row["fovs"])):
            for name, value in row.items():
                if name != "fovs":
                    scalar(_tag(name), value)
        self.events.flush()


def _tag(name: str) -> str:
    if name.startswith(HELD_OUT):
        return f"held_out/{name.removeprefix(HELD_OUT)}"
    return f"eval/{name}" if name in PUBLISHED else f"training/{name}"
