"""PBS Pro, the scheduler of Polaris and Aurora."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from floodline.errors import FloodlineError
from floodline.schedulers.job import Job
from floodline.schedulers.scheduler import Said, Scheduler, account, needed

ENDED = ("F", "M", "X")
"""Finished, moved to another server, an expired part of an array. All other states mean that it waits or runs."""

UNKNOWN_JOB = 153
WALL_TIME_EXCEEDED = -29
LONGEST_NAME = 15
"""Characters of a job's name that every PBS takes."""


class Pbs(Scheduler):
    """Tells a job's end as long as the server keeps a history. It does not tell the job when it will be ended."""

    id_variable = "PBS_JOBID"

    def prepare(self, minutes: int) -> str:
        return f"export FLOODLINE_END=$(( $(date +%s) + {minutes * 60} ))"

    def submission(self, job: Job, name: str, resources: Mapping[str, Any]) -> list[str]:
        nodes, minutes = needed(resources, "nodes"), needed(resources, "runtime")
        hours, rest = divmod(minutes, 60)
        return [
            *("qsub", "-N", name[:LONGEST_NAME], "-A", account(), "-q", needed(resources, "queue")),
            *("-l", f"select={nodes}:{needed(resources, 'select')}", "-l", f"walltime={hours:02}:{rest:02}:00"),
            *("-l", f"filesystems={needed(resources, 'filesystems')}"),
            # One chunk a node; without it several may be packed on one.
            *("-l", "place=scatter"),
            # Both streams in one file, written where it belongs from the start.
            *("-k", "doe", "-j", "oe", "-o", f"{job.folder}/", str(job.script)),
        ]

    def id_in(self, output: str) -> str:
        id_ = output.strip().partition("\n")[0].strip()
        if not id_[:1].isdigit():
            raise FloodlineError(f"qsub printed no job id but {output.strip()!r}.")
        return id_

    def question(self, id_: str) -> list[str]:
        # The table cuts long ids, and does not tell success from failure.
        return ["qstat", "-x", "-f", "-F", "json", id_]

    def has_ended(self, id_: str, said: Said) -> bool:
        return said.status == UNKNOWN_JOB or _record(id_, said).get("job_state") in ENDED

    def why(self, id_: str, said: Said, job: Job) -> str:
        record = _record(id_, said)
        status = record.get("Exit_status")
        if status == WALL_TIME_EXCEEDED:
            return "its wall time was exceeded"
        if status is None:
            return f"it never ran, or was deleted ({record.get('comment', 'the server says no more')})"
        return f"it was ended from outside (exit status {status})"


def _record(id_: str, said: Said) -> dict[str, Any]:
    """What is known of the job; nothing where the server gave no usable answer."""
    try:
        return json.loads(said.output).get("Jobs", {}).get(id_, {})
    except json.JSONDecodeError:
        return {}
