"""Reading and writing parquet tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from floodline.errors import FloodlineError
from floodline.manifest import write_atomically


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table, whole or not at all."""
    write_atomically(path, lambda file: table.to_parquet(file, index=False))


def read_table(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        FloodlineError: the file is missing or is no table.
    """
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise FloodlineError(f"{path} is missing: run the stage that writes it first.") from None
    except (OSError, ValueError) as error:
        raise FloodlineError(f"{path} is not a whole parquet table: delete it and run its stage again.") from error
