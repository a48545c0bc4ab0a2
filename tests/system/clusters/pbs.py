#!/usr/bin/env python3
"""qsub, qstat, qdel and mpiexec as PBS Pro and PALS have them, forwarding to the Slurm of the tests.

Which of them this is, its name says. They know what the project uses of the documented syntax, and refuse the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

SERVER = "pbshost"
STATES = {"PENDING": "Q", "CONFIGURING": "R", "RUNNING": "R", "COMPLETING": "E"}
WALL_TIME_EXCEEDED = -29
SCRIPT = """\
#!/bin/bash
export PBS_JOBID=$SLURM_JOB_ID.pbshost PBS_O_WORKDIR={folder}
cd "$HOME"
{script}
"""


def fail(status: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def qsub() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for option in ("-N", "-A", "-q", "-k", "-j", "-o"):
        parser.add_argument(option, required=True)
    parser.add_argument("-l", action="append", default=[])
    parser.add_argument("script", type=Path)
    asked = parser.parse_args()
    limits = dict(limit.split("=", 1) for limit in asked.l)
    if missing := {"select", "walltime", "filesystems", "place"} - limits.keys():
        fail(1, f"qsub: a job must ask for {', '.join(missing)}")
    if not asked.script.is_file():
        fail(1, "qsub: script file:: No such file or directory")
    run = subprocess.run(
        [
            *("sbatch", "--parsable", "--exclusive", "--no-requeue", "--time", limits["walltime"]),
            *("--nodes", limits["select"].partition(":")[0], "--job-name", asked.N),
            *("--output", f"{asked.o}%j.{SERVER}.OU"),
        ],
        # The script is taken as it is now, with its first line.
        input=SCRIPT.format(folder=Path.cwd(), script=f"{asked.script}"),
        env={name: os.environ[name] for name in ("HOME", "PATH", "SLURM_CONF")},
        text=True,
        stdout=subprocess.PIPE,
    )
    if run.returncode != 0:
        sys.exit(1)
    print(f"{run.stdout.strip()}.{SERVER}")


def job(id_: str) -> dict[str, str]:
    """What Slurm knows of a job."""
    run = subprocess.run(["scontrol", "show", "job", id_.partition(".")[0]], capture_output=True, text=True)
    if run.returncode != 0:
        fail(153, f"Unknown Job Id {id_}")
    return dict(word.split("=", 1) for word in run.stdout.split() if "=" in word)


def qstat() -> None:
    if sys.argv[1:-1] != ["-x", "-f", "-F", "json"]:
        fail(2, "qstat: the project asks for -x -f -F json")
    known = job(sys.argv[-1])
    record = {"Job_Name": known["JobName"], "job_state": STATES.get(known["JobState"], "F")}
    if record["job_state"] == "F" and known["StartTime"] != "Unknown":
        status, signal = map(int, known["ExitCode"].split(":"))
        timeout = known["JobState"] == "TIMEOUT"
        record["Exit_status"] = WALL_TIME_EXCEEDED if timeout else 256 + signal if signal else status
    print(json.dumps({"timestamp": 1795417017, "pbs_server": SERVER, "Jobs": {sys.argv[-1]: record}}))


def qdel() -> None:
    for id_ in sys.argv[1:]:
        if job(id_)["JobState"] not in STATES:
            fail(35, f"qdel: Job has finished {id_}")
        subprocess.run(["scancel", id_.partition(".")[0]], check=True)


def mpiexec() -> NoReturn:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for option in ("-n", "-ppn", "--depth"):
        parser.add_argument(option, required=True)
    parser.add_argument("--cpu-bind", choices=["depth"])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("program", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    # PALS speaks the older interface, too, and tells rank and size by it.
    inside = 'export PMI_RANK=$SLURM_PROCID PMI_SIZE=$SLURM_STEP_NUM_TASKS; unset SLURM_STEP_NUM_TASKS; exec "$@"'
    os.environ.update(pair.split("=", 1) for pair in asked.env)
    srun = ["srun", "--mpi=pmix", "-n", asked.n, "--ntasks-per-node", asked.ppn, "-c", asked.depth]
    os.execvp("srun", [*srun, "sh", "-c", inside, "sh", *asked.program])


if __name__ == "__main__":
    {"qsub": qsub, "qstat": qstat, "qdel": qdel, "mpiexec": mpiexec}[Path(sys.argv[0]).name]()
