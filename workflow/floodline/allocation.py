"""The scheduler's job that this process runs in: when it ends, and how the work goes on in another one.

A queue gives so many hours and no more. A stage that needs more ends cleanly a little earlier, keeps what is done, and
asks to be queued again; Snakemake waits meanwhile, and sees no failure.

Who knows the end: Cobalt puts it into the environment (COBALT_ENDTIME, seconds since 1970); the job script that
floodline makes for PBS sets FLOODLINE_END; Slurm is asked, once, by the process that leads. Who queues again: Slurm at
once (`scontrol requeue`); for Cobalt and PBS the job script names a file in FLOODLINE_UNFINISHED, and the status
command (floodline.schedulers), which runs on the login node, submits the job again when it finds that file.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path

from floodline.errors import FloodlineError

logger = logging.getLogger(__name__)

END = "FLOODLINE_END"
UNFINISHED = "FLOODLINE_UNFINISHED"
EXIT_STATUS = 75
"""Of a command that ended for want of time (EX_TEMPFAIL: try again)."""


class OutOfTime(FloodlineError):
    """The scheduler is about to end the job. What is done is kept."""

    def __init__(self) -> None:
        super().__init__("the job's time limit is near: what is done is kept, and the same command goes on from it.")

    def __reduce__(self) -> tuple[type[OutOfTime], tuple[()]]:
        return OutOfTime, ()


def ends_at(environment: Mapping[str, str] = os.environ) -> float | None:
    """When the scheduler ends this job, seconds since 1970; None where nothing ends it."""
    for name in (END, "COBALT_ENDTIME"):
        value = environment.get(name, "")
        if value:
            try:
                return float(value)
            except ValueError:
                raise FloodlineError(f"{name} is {value!r}: it must be a time in seconds since 1970.") from None
    return _slurm_end(environment["SLURM_JOB_ID"]) if environment.get("SLURM_JOB_ID") else None


@cache
def _slurm_end(job: str) -> float | None:
    query = ["squeue", "--noheader", "--jobs", job, "--format=%e"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
        return datetime.fromisoformat(answer).timestamp()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        logger.warning(
            "Slurm does not say when job %s ends (%s): it may be ended in the middle of its work.", job, error
        )
        return None


def know(end: float | None) -> None:
    """Take the end from the process that leads, so that thousands of workers do not ask the scheduler."""
    if end is not None:
        os.environ[END] = str(end)


@cache
def _last_moment(end: float) -> float:
    """When to stop: a tenth of the time that was left at the first look, but at most five minutes, before the end.

    That is the time for checkpoints to reach a busy file system.
    """
    return end - min(300.0, max(0.0, 0.1 * (end - time.time())))


def is_ending() -> bool:
    """Whether it is time to keep what is done and stop."""
    end = ends_at()
    return end is not None and time.time() >= _last_moment(end)


def exit_status() -> int:
    """For want of time. Under srun only the first rank has a status of its own.

    A rank that leaves with one would have srun end the first rank (--kill-on-bad-exit) before that has asked for time.
    """
    return EXIT_STATUS if os.environ.get("SLURM_PROCID", "0") == "0" else 0


def ask_to_continue() -> bool:
    """Have this job queued again; False where nobody does that."""
    if marker := os.environ.get(UNFINISHED):
        Path(marker).touch()
        return True
    if job := os.environ.get("SLURM_JOB_ID"):
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return True  # the first rank asks
        # Slurm ends this job at once and queues it anew under the same id.
        return subprocess.run(["scontrol", "requeue", job]).returncode == 0
    return False
