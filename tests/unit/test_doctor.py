"""`floodline doctor` finds what is there, and names what is not with the way to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from floodline import doctor

FLOODLINE = Path(sys.executable).with_name("floodline")
HERE = {"PATH": f"{FLOODLINE.parent}:{os.environ['PATH']}"}


def examine(**environment: str) -> tuple[int, dict[str, str]]:
    """The exit status, and the lines that begin with a state, by what they are about."""
    run = subprocess.run([FLOODLINE, "doctor"], env=os.environ | environment, capture_output=True, text=True)
    rows = [line.split(maxsplit=2) for line in run.stdout.splitlines() if line[:1] != " "]
    return run.returncode, {what: f"{state} {found}" for state, what, found in rows}


def test_this_machine_has_what_the_tests_run_with():
    status, found = examine(**HERE)
    assert status == 0, found
    assert found["Python"] == f"ok {sys.version.split()[0]}"
    assert found["Horovod"].startswith("ok")
    assert found["Horovod"].endswith("with MPI and Gloo")
    assert found["packages"].startswith("ok")


def test_what_is_not_on_the_path_is_missing(tmp_path):
    status, found = examine(PATH=str(tmp_path), CXX="")
    assert status == 1
    assert found["commands"] == "missing floodline, snakemake, igneous not on the PATH"
    assert found["MPI"].startswith("missing")
    # Neither stops a run.
    assert found["compiler"].startswith("note")
    assert found["Chromium"].startswith("note")


def test_packages_that_differ_from_the_lock_are_named(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1 \\\n    --hash=sha256:00\nno-such-package==1.0 \\\n    --hash=sha256:00\n")
    finding = doctor.packages(lock)
    assert finding.state == "missing"
    assert finding.found.startswith("2 of 2 differ from the lock: numpy ")
    assert "no-such-package is absent" in finding.found


def test_a_horovod_that_does_not_load_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "HOROVOD", "import no_such_horovod")
    finding = doctor.horovod()
    assert finding.state == "missing"
    assert "No module named 'no_such_horovod'" in finding.found


def test_a_folder_that_cannot_be_written_is_missing(tmp_path, monkeypatch):
    if os.geteuid() == 0:
        pytest.skip("root can write anywhere")
    tmp_path.chmod(0o500)
    monkeypatch.chdir(tmp_path)
    assert doctor.disk().state == "missing"
