#!/usr/bin/env python3
"""qsub, qstat, qdel and aprun as Cobalt and ALPS have them, forwarding to the Slurm of the tests.

Which of them this is, its name says. They know what the project uses of the documented syntax, and refuse the rest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

STATES = {"PENDING": "queued", "CONFIGURING": "starting", "RUNNING": "running", "COMPLETING": "exiting"}
SCRIPT = """\
#!/bin/bash
export COBALT_JOBID=$SLURM_JOB_ID COBALT_JOBSIZE=$SLURM_JOB_NUM_NODES
export COBALT_ENDTIME=$(date -d "$(squeue -h -j $SLURM_JOB_ID -o %e)" +%s)
exec {script}
"""


def fail(message: str) -> NoReturn:
    sys.exit(message)


def qsub() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--mode", choices=["script"])
    for option in ("--cwd", "--jobname", "-A", "-q", "-n", "-t", "-O"):
        parser.add_argument(option)
    parser.add_argument("--attrs", action="append", default=[])
    parser.add_argument("script", type=Path)
    asked = parser.parse_args()
    if asked.n is None:
        fail("'nodecount' not provided")
    if asked.t is None:
        fail("'time' not provided")
    if len(asked.attrs) > 1:
        fail("Multiple --attrs options not supported.  Specify multiple attributes as follows: --attrs FOO=1:BAR=2")
    if not asked.script.is_file():
        fail(f"command {asked.script} not found, or is not a file")
    if not os.access(asked.script, os.X_OK):
        fail(f"command {asked.script} is not executable")
    prefix = asked.O.replace("$jobid", "%j")
    run = subprocess.run(
        [
            *("sbatch", "--parsable", "--exclusive", "--no-requeue", "--nodes", asked.n, "--time", asked.t),
            *("--chdir", asked.cwd, "--job-name", asked.jobname),
            *("--output", f"{prefix}.output", "--error", f"{prefix}.error"),
        ],
        input=SCRIPT.format(script=asked.script),
        # Cobalt hands the environment of the submission to nobody.
        env={name: os.environ[name] for name in ("HOME", "PATH", "SLURM_CONF")},
        text=True,
        stdout=subprocess.PIPE,
    )
    if run.returncode != 0:
        sys.exit(1)
    print('Job routed to queue "default".', file=sys.stderr)
    print(run.stdout.strip())


def qstat() -> None:
    header, columns, id_ = sys.argv[1:]
    if (header, columns) != ("--header", "JobID:State"):
        fail("columns differ from site to site: ask for JobID:State")
    run = subprocess.run(["squeue", "-h", "-j", id_, "-o", "%T"], capture_output=True, text=True)
    state = STATES.get(run.stdout.strip())
    if state is None:
        sys.exit(1)  # a job that has ended is not known
    print(f"JobID   State    \n=================\n{id_:>6}  {state:<7}  ")


def qdel() -> None:
    subprocess.run(["scancel", *sys.argv[1:]], check=True)
    time.sleep(1)
    print("      Deleted Jobs\nJobID   User   \n===============", *sys.argv[1:], sep="\n")


def aprun() -> NoReturn:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for option in ("-n", "-N", "-d", "-j"):
        parser.add_argument(option, required=True)
    parser.add_argument("-cc", choices=["depth"])
    parser.add_argument("-e", action="append", default=[])
    parser.add_argument("program", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    # ALPS tells a process its rank, and not how many there are.
    inside = 'export ALPS_APP_PE=$SLURM_PROCID; unset SLURM_STEP_NUM_TASKS; exec "$@"'
    os.environ.update(pair.split("=", 1) for pair in asked.e)
    srun = ["srun", "--mpi=pmix", "-n", asked.n, "--ntasks-per-node", asked.N, "-c", asked.d]
    os.execvp("srun", [*srun, "sh", "-c", inside, "sh", *asked.program])


if __name__ == "__main__":
    {"qsub": qsub, "qstat": qstat, "qdel": qdel, "aprun": aprun}[Path(sys.argv[0]).name]()
