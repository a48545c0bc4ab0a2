"""One Slurm for all tests of this folder, and a tiny experiment that is ready to be trained and flooded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from submitting import Run


@pytest.fixture(scope="session")
def cluster() -> Iterator[slurm_cluster.SlurmCluster]:
    """Four virtual nodes of four made-up processors each; without Slurm the test is skipped."""
    missing = slurm_cluster.missing()
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurmctld slurmd slurm-client munge libpmix-dev")
    with slurm_cluster.SlurmCluster() as running:
        yield running


@pytest.fixture(scope="session")
def prepared(cluster: slurm_cluster.SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results up to the trained network, made on this machine."""
    run = Run(cluster, tmp_path_factory.mktemp("prepared"), "local", {})
    run("train")
    return run.results


@pytest.fixture
def trained(prepared: Path, tmp_path: Path) -> Path:
    """A folder whose volume is to be flooded."""
    shutil.copytree(prepared, tmp_path / "results" / "tiny")
    return tmp_path


@pytest.fixture
def labelled(trained: Path) -> Path:
    """A folder whose network is to be trained."""
    for name in ("training", "model"):
        shutil.rmtree(trained / "results" / "tiny" / name)
    return trained
