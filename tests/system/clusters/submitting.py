"""The workflow under a cluster's profile, on the test cluster."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from slurm_cluster import SlurmCluster

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests/workflow/tiny.yaml"

BOXES = ["ingest_image", "ingest_labels", "quality_control", "partitions", "coordinates"]
BOXES += ["supervoxels", "region_graph", "neurons", "metrics"]
"""Rules of the stages that work box by box."""

# One job of 36 small sub-volumes: about a minute for two ranks.
INFERENCE = "inference={shards: 1, subvolume_size_xyz: [32, 32, 32], overlap_xyz: [16, 16, 16]}"


WAITING_SECONDS = 600
"""Of a busy machine."""


class Run:
    """Runs of Snakemake that submit jobs.

    Args:
        folder: the working directory.
        profile: the name of the profile.
        changes: values of the profile that the test cluster needs otherwise; sections are merged key by key.
        config: values of the configuration, as Snakemake's --config takes them.
    """

    def __init__(
        self, cluster: SlurmCluster, folder: Path, profile: str, changes: dict[str, Any], *config: str
    ) -> None:
        self.folder = folder
        values = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())
        (folder / "profile").mkdir()
        (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(_merged(values, changes)))
        self.options = [
            *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
            *("--profile", str(folder / "profile"), "--configfile", str(TINY), "--config", INFERENCE, *config),
        ]
        self.environment = {
            **cluster.environment,
            "PATH": f"{cluster.folder}/bin:{Path(sys.executable).parent}:{cluster.environment['PATH']}",
        }

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    @property
    def blocks(self) -> dict[Path, int]:
        """The finished sub-volumes, and when they were written."""
        return {path: path.stat().st_mtime_ns for path in self.results.glob("inference/blocks/*.block")}

    def __call__(self, *arguments: str, ok: bool = True) -> str:
        """What Snakemake printed; the exit status must be as expected."""
        with self.start(*arguments) as running:
            output, _ = running.communicate()
        assert (running.returncode == 0) == ok, output
        return output

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["snakemake", *arguments, *self.options],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def wait_for(what: Callable[[], Any], running: subprocess.Popen[str]) -> None:
    """Wait until something is true while Snakemake runs."""
    until = time.monotonic() + WAITING_SECONDS
    while not what():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < until, f"waited for {WAITING_SECONDS} seconds"
        time.sleep(0.2)


def _merged(values: Any, changes: Any) -> Any:
    if not isinstance(values, dict) or not isinstance(changes, dict):
        return changes
    return {**values, **{key: _merged(values.get(key), change) for key, change in changes.items()}}
