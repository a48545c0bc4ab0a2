"""Snakemake sees shards: planning does not grow with the number of sub-volumes."""

from __future__ import annotations

import os
import subprocess
import time

import yaml
from running import ROOT, Workflow


def test_a_cubic_millimetre_is_planned_in_seconds(tmp_path):
    """125,000 voxels a side: 174 million sub-volumes of 256 that overlap by 32, in 1,000 shards."""
    volume = {"kind": "phantom", "size_xyz": [125_000] * 3}
    values = {"name": "large", "image": {"source": volume}, "labels": {"source": volume}, "training": {}}
    values["inference"] = {"subvolume_size_xyz": [256] * 3, "overlap_xyz": [32] * 3, "shards": 1000}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(values))
    began = time.monotonic()
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [
                *("snakemake", "--dry-run", "--quiet", "rules", "--snakefile", str(ROOT / "Snakefile")),
                *("--directory", str(tmp_path), "--profile", str(ROOT / "profiles/local")),
                *("--configfile", str(tmp_path / "large.yaml")),
            ],
            env=Workflow(tmp_path, tmp_path / "large.yaml").environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        # Not communicate: this also tells the memory of this one process.
        _, status, used = os.wait4(process.pid, 0)
    printed = (tmp_path / "output").read_text()
    assert status == 0, printed
    assert ["flood", "1000"] in [line.split() for line in printed.splitlines()]
    assert time.monotonic() - began < 20
    assert used.ru_maxrss < 1_000_000  # kilobytes
    process.returncode = status
