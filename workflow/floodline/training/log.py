"""log.csv: a row for each stretch of the training."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from floodline.manifest import write_text

Row = dict[str, float]


class Log:
    """The table of one run. It is rewritten whole, so that a killed run leaves no half a row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def resume(self, fovs: int) -> None:
        """Keep what an earlier run wrote up to `fovs` fields of view: the rest is trained again."""
        self.rows = []
        if fovs and self.path.is_file():
            with self.path.open() as file:
                rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["fovs"] <= fovs]

    def add(self, row: Row) -> None:
        """Add a row and write the file."""
        self.rows.append(row)
        text = io.StringIO()
        table = csv.DictWriter(text, list(row), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_text(self.path, text.getvalue())
