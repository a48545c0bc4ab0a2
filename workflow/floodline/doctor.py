"""`floodline doctor`: what is missing on this machine, and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from floodline.browser import program
from floodline.ffn.precision import processor_features, resolve
from floodline.software import SETUP, versions

ROOT = Path(__file__).parents[2]
ACTIVATE = f"source {Path(sys.prefix) / 'bin/activate'}"
HOROVOD = "import horovod.tensorflow as hvd; print(hvd.mpi_built(), hvd.gloo_built())"
HOROVOD_SETUP = "`rm -f .venv/.horovod .venv/.installed && make setup`"
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `missing` keeps floodline from working, a `note` only costs something."""

    what: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<8} {self.what:<11} {self.found}"
        return f"{line}\n{'':<21}{self.remedy}" if self.remedy else line


def examine() -> list[Finding]:
    """Everything that a run, or the tests, may need on this machine. Takes some seconds."""
    checks: tuple[Callable[[], Finding], ...] = (
        python, packages, commands, launcher, horovod, compiler, browser, processor, memory, disk,
    )  # fmt: skip
    return [check() for check in checks]


def python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", "ok", found)
    return Finding(
        "Python", "missing", found, "The locked packages are for 3.11: install it, then `rm -rf .venv && make setup`."
    )


def packages(lock: Path = ROOT / "envs" / "requirements.lock") -> Finding:
    """Whether what is installed is what the lock names."""
    if not lock.is_file():
        return Finding("packages", "note", f"no lock at {lock} to compare with")
    wanted = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE))
    there = versions(wanted)
    wrong = [f"{name} {there.get(name, 'is absent')}" for name, v in wanted.items() if there.get(name) != v]
    if not wrong:
        return Finding("packages", "ok", f"{len(wanted)} as locked")
    named = ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
    return Finding("packages", "missing", f"{len(wrong)} of {len(wanted)} differ from the lock: {named}", SETUP)


def commands() -> Finding:
    absent = [name for name in ("floodline", "snakemake", "igneous") if not shutil.which(name)]
    if absent:
        return Finding("commands", "missing", f"{', '.join(absent)} not on the PATH", f"`{ACTIVATE}`")
    return Finding("commands", "ok", "floodline, snakemake, igneous")


def launcher() -> Finding:
    path = shutil.which("mpirun") or shutil.which("srun") or shutil.which("aprun") or shutil.which("mpiexec")
    if path:
        return Finding("MPI", "ok", path)
    return Finding("MPI", "missing", "no mpirun, srun, aprun or mpiexec", f"`{ACTIVATE}`, or load the machine's MPI")


def horovod() -> Finding:
    """Whether Horovod loads, and connects by MPI and Gloo; asked in a process of its own, for it may crash."""
    done = subprocess.run([sys.executable, "-c", HOROVOD], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        return Finding("Horovod", "missing", last, f"{HOROVOD_SETUP} compiles it anew")
    built = dict(zip(("MPI", "Gloo"), (word == "True" for word in done.stdout.split()[-2:]), strict=True))
    if not any(built.values()):
        return Finding("Horovod", "missing", "built without MPI and Gloo", HOROVOD_SETUP)
    ways = " and ".join(name for name, there in built.items() if there)
    return Finding("Horovod", "ok", f"{versions(['horovod']).get('horovod')} with {ways}")


def compiler() -> Finding:
    name = os.environ.get("CXX") or "c++"
    if path := shutil.which(name):
        return Finding("compiler", "ok", path)
    remedy = "Only set-up needs one, for Horovod: `apt-get install g++`, or name yours in CXX."
    return Finding("compiler", "note", f"no {name}", remedy)


def browser() -> Finding:
    if path := program():
        return Finding("Chromium", "ok", path)
    remedy = "The report then has no pictures of the viewer: `apt-get install chromium`. To look, any browser will do."
    return Finding("Chromium", "note", "not found", remedy)


def processor() -> Finding:
    cores = f"{len(os.sched_getaffinity(0))} cores"
    if resolve("auto") == "bfloat16":
        return Finding("processor", "ok", f"{cores}, computes in bfloat16")
    wide = "AVX-512" if "avx512f" in processor_features() else "no AVX-512"
    return Finding("processor", "note", f"{cores}, no bfloat16, {wide}", "The network computes in float32.")


def memory() -> Finding:
    """What this process may use: of the machine, or of the container or job that it runs in."""
    limits = [psutil.virtual_memory().total]
    for path in CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        # Absent, or the word `max`.
        except (OSError, ValueError):
            continue
    return Finding("memory", "ok", f"{min(limits) / 1e9:.1f} GB, {psutil.virtual_memory().available / 1e9:.1f} GB free")


def disk() -> Finding:
    """Whether results can be written here."""
    here = Path.cwd()
    free = f"{shutil.disk_usage(here).free / 1e9:.1f} GB free in {here}"
    if os.access(here, os.W_OK):
        return Finding("disk", "ok", free)
    return Finding(
        "disk", "missing", f"{here} cannot be written", "Run in a folder of your own: results go to results/."
    )
