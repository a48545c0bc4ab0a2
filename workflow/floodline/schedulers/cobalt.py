"""Cobalt, the scheduler of Theta."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from floodline.errors import FloodlineError
from floodline.schedulers.job import Job
from floodline.schedulers.scheduler import Said, Scheduler, account, needed

ENDED = ("dep_fail", "done")
"""States that lead nowhere; in all others the job waits, runs or is being ended."""

ENDINGS = {
    "maximum execution time exceeded": "its wall time was exceeded",
    "user delete requested": "it was deleted",
}
"""Phrases of the .cobaltlog file."""


class Cobalt(Scheduler):
    """Forgets a job when it ends, so the job's own exit status decides. Its environment is not the submitter's."""

    id_variable = "COBALT_JOBID"

    def submission(self, job: Job, name: str, resources: Mapping[str, Any]) -> list[str]:
        return [
            *("qsub", "--mode", "script", "--cwd", str(Path.cwd()), "--jobname", name, "-A", account()),
            *("-q", needed(resources, "queue"), "-n", str(needed(resources, "nodes"))),
            *("-t", str(needed(resources, "runtime")), "--attrs", needed(resources, "attrs")),
            # $jobid is for Cobalt: several jobs would mix in one file.
            *("-O", f"{job.folder}/$jobid", str(job.script)),
        ]

    def id_in(self, output: str) -> str:
        # A site may add text after the id.
        match = re.match(r"\s*(\d+)", output)
        if match is None:
            raise FloodlineError(f"qsub printed no job id but {output.strip()!r}.")
        return match[1]

    def question(self, id_: str) -> list[str]:
        # The columns differ from site to site unless they are asked for.
        return ["qstat", "--header", "JobID:State", id_]

    def has_ended(self, id_: str, said: Said) -> bool:
        if said.status != 0:
            # A job that is gone: nothing printed. A queue manager that is away: an error.
            return not said.output.strip() and not said.error.strip()
        rows = [line.split() for line in said.output.splitlines()]
        return next((row[1] for row in rows if len(row) == 2 and row[0] == id_), "done") in ENDED

    def why(self, id_: str, said: Said, job: Job) -> str:
        log = job.folder / f"{id_}.cobaltlog"
        text = log.read_text(errors="replace") if log.is_file() else ""
        return next((ending for phrase, ending in ENDINGS.items() if phrase in text), "it was ended from outside")
