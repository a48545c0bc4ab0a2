"""What made a run: versions, hashes, times."""

from __future__ import annotations

import csv
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from floodline.experiment import Experiment
from floodline.manifest import hash_of, hash_of_file
from floodline.software import TENSORFLOW, versions

PACKAGES = (
    *TENSORFLOW, "horovod", "numpy", "scipy", "snakemake", "cloud-volume", "tensorstore", "igneous-pipeline",
    "zmesh", "kimimaro", "connected-components-3d", "fastremap", "edt", "bioimage-cpp", "scikit-image", "pandas",
    "matplotlib", "neuroglancer",
)  # fmt: skip
# What stands for a stage's result: small files that are written last.
MANIFESTS = (
    "config.yaml", "*/manifest.json", "*/mips.json", "partitions.h5", "training/*/metrics.json", "model/card.json",
    "model/weights.npz", "agglomeration/*.parquet", "evaluation/*.json", "neurons/mesh.json", "neurons/skeletons.json",
    "connectome/*.parquet", "neuroglancer.json", "inference/example.block",
)  # fmt: skip


def collect(experiment: Experiment) -> dict[str, Any]:
    """Everything that goes into provenance.json."""
    package = Path(__file__).parents[1]
    sources = {str(path.relative_to(package)): hash_of_file(path) for path in sorted(package.rglob("*.py"))}
    return {
        "floodline": {"version": version("floodline"), "source": hash_of(sources)},
        "python": platform.python_version(),
        "packages": versions(PACKAGES),
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": len(os.sched_getaffinity(0))},
        "config": hash_of(experiment.config.model_dump(mode="json")),
        "files": {
            str(path.relative_to(experiment.folder)): hash_of_file(path)
            for pattern in MANIFESTS
            for path in sorted(experiment.folder.glob(pattern))
        },
        "steps": times(experiment),
        "reported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def times(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Seconds, processor seconds, peak megabytes and what was reserved of each step, in the order in which they ended.

    Read from the benchmark files that Snakemake writes; of a step that ran more than once, the last row. `reserved` is
    a number of `unit`s: nodes where the profile asks for nodes, else cores; None if the file does not say.
    """
    folder = experiment.folder / "benchmarks"
    steps: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.tsv"), key=lambda path: (path.stat().st_mtime, path.name)):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        if rows:
            row = rows[-1]
            nodes = re.search(r"'nodes': (\d+)", row.get("resources") or "")
            steps[path.stem] = {
                "seconds": _number(row.get("s")),
                "cpu_seconds": _number(row.get("cpu_time")),
                "peak_mb": _number(row.get("max_rss")),
                "reserved": _number(nodes[1] if nodes else row.get("threads")),
                "unit": "nodes" if nodes else "cores",
            }
    return steps


def _number(text: str | None) -> float | None:
    """Snakemake writes NA or - for what it could not measure."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
