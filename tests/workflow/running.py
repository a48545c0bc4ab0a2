"""Runs of the real workflow in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Workflow:
    """Runs Snakemake on the project's Snakefile with `folder` as working directory."""

    def __init__(self, folder: Path, configuration: Path) -> None:
        self.folder, self.configuration = folder, configuration
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        return [
            # First, because several options take whatever follows them.
            *("snakemake", *arguments, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)),
            *("--profile", str(ROOT / "profiles/local"), "--configfile", str(self.configuration)),
        ]

    def __call__(self, *arguments: str, ok: bool = True) -> str:
        """What Snakemake printed; the exit status must be as expected."""
        run = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (run.returncode == 0) == ok, run.stdout
        return run.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs that a dry run would start, by rule."""
        lines = self(*arguments, "--dry-run", "--quiet", "rules").splitlines()
        table = [line.split() for line in lines]
        return {row[0]: int(row[1]) for row in table if len(row) == 2 and row[1].isdigit() and row[0] != "total"}
