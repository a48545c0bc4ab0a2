"""The three commands that Snakemake's cluster-generic executor calls.

    floodline-qsub SCHEDULER JOBSCRIPT    submits a job and prints its id
    floodline-qstat SCHEDULER ID          prints running, success or failed
    floodline-qdel ID ...                 cancels jobs

A job that ended for want of time is submitted again by floodline-qstat, and goes on running for Snakemake. Snakemake
ends the whole workflow when a status command fails, and kills a cancel command after two seconds: so the one always
has an answer, and none of them loads more than it needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from floodline.errors import FloodlineError
from floodline.schedulers import limits
from floodline.schedulers.cobalt import Cobalt
from floodline.schedulers.job import Job
from floodline.schedulers.pbs import Pbs
from floodline.schedulers.scheduler import Scheduler, ask, needed

SCHEDULERS: dict[str, type[Scheduler]] = {"cobalt": Cobalt, "pbs": Pbs}


def qsub() -> None:
    """Submit a job script of Snakemake's."""
    from snakemake.utils import read_job_properties

    scheduler, jobscript = _scheduler(), Path(sys.argv[2])
    properties = read_job_properties(str(jobscript))
    try:
        print(submit(scheduler, jobscript, properties["rule"], properties["resources"]))
    except FloodlineError as error:
        sys.exit(f"floodline: rule {properties['rule']}: {error}")


def submit(scheduler: Scheduler, jobscript: Path, rule: str, resources: dict) -> str:
    """Submit a job, if its queue takes it.

    Raises:
        FloodlineError: the queue does not take it, or the scheduler refuses it.
    """
    resources = with_nodes(resources)
    queue, minutes = needed(resources, "queue"), needed(resources, "runtime")
    limits.check(queue, needed(resources, "limits"), needed(resources, "nodes"), minutes)
    setup = resources.get("setup", "")
    job = Job.new(rule, jobscript, setup, scheduler.prepare(minutes), scheduler.id_variable)
    return _send(scheduler, job, scheduler.submission(job, rule, resources))


def with_nodes(resources: dict) -> dict:
    """The resources with as many nodes as the tasks need, for rules whose number of tasks is not the profile's."""
    if "tasks_a_node" not in resources:
        return resources
    return {**resources, "nodes": -(-resources["tasks"] // resources["tasks_a_node"])}


def _send(scheduler: Scheduler, job: Job, command: list[str]) -> str:
    said = ask(command)
    if said.status != 0:
        raise FloodlineError(f"qsub refused it: {said.error.strip() or said.output.strip()}")
    # What it says beside the id is for the user: of maintenance, of another queue.
    print(said.error, end="", file=sys.stderr)
    id_ = scheduler.id_in(said.output)
    job.submitted(command, id_)
    return id_


def qstat() -> None:
    """Print what Snakemake wants to know of a job."""
    try:
        print(state(_scheduler(), Job.find(sys.argv[2])))
    except FloodlineError as error:
        print(f"floodline: {error}", file=sys.stderr)
        print("failed")


def state(scheduler: Scheduler, job: Job) -> str:
    """`running`, `success` or `failed`; a job that ran out of time is submitted again."""
    id_ = job.id
    status, why = job.exit_status(), ""
    if status is None:
        said = ask(scheduler.question(id_))
        if not scheduler.has_ended(id_, said):
            return "running"
        status = job.last_exit_status()
        why = scheduler.why(id_, said, job)
    if status == 0:
        return "success"
    if job.is_unfinished():
        return _again(scheduler, job)
    ended = why if status is None else f"it ended with status {status}"
    print(f"floodline: job {id_}: {ended}; its output is in {job.folder}", file=sys.stderr)
    return "failed"


def _again(scheduler: Scheduler, job: Job) -> str:
    before = job.id
    try:
        id_ = _send(scheduler, job, job.command)
        print(f"floodline: job {before} ran out of time and goes on as {id_}", file=sys.stderr)
    except FloodlineError as error:
        # The queue may be full: there will be another look.
        print(f"floodline: job {before} ran out of time, and cannot be submitted yet: {error}", file=sys.stderr)
    return "running"


def qdel() -> None:
    """Cancel jobs, under the ids that they have now."""
    ids = []
    for first_id in sys.argv[1:]:
        try:
            ids.append(Job.find(first_id).id)
        except FloodlineError as error:
            print(f"floodline: {error}", file=sys.stderr)
    if ids:
        os.execvp("qdel", ["qdel", *ids])


def _scheduler() -> Scheduler:
    return SCHEDULERS[sys.argv[1]]()
