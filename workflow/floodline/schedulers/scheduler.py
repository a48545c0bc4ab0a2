"""What the schedulers have in common: a command line to submit with, and an answer about a job."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from floodline.errors import FloodlineError
from floodline.schedulers.job import Job

ACCOUNT = "FLOODLINE_ACCOUNT"
ASKING_SECONDS = 60


@dataclass(frozen=True)
class Said:
    """What a command of the scheduler printed."""

    status: int
    output: str
    error: str


def ask(command: Sequence[str]) -> Said:
    """Run a command of the scheduler; one that hangs or cannot be started has said nothing, with status 255."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=ASKING_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Said(255, "", str(error))
    return Said(run.returncode, run.stdout, run.stderr)


class Scheduler(ABC):
    """How to submit a job, and how to ask for it.

    Attributes:
        id_variable: where a running job finds its own id.
    """

    id_variable: ClassVar[str]

    def prepare(self, minutes: int) -> str:
        """Shell commands at the start of a job."""
        return ""

    @abstractmethod
    def submission(self, job: Job, name: str, resources: Mapping[str, Any]) -> list[str]:
        """The command that submits a job with the resources that the profile gives its rule."""

    @abstractmethod
    def id_in(self, output: str) -> str:
        """The job's id, from what the submission printed on stdout."""

    @abstractmethod
    def question(self, id_: str) -> list[str]:
        """The command that asks for a job."""

    @abstractmethod
    def has_ended(self, id_: str, said: Said) -> bool:
        """Whether the answer says that the job has ended. A scheduler that cannot be reached does not say so."""

    @abstractmethod
    def why(self, id_: str, said: Said, job: Job) -> str:
        """For a person: how the job ended, as far as the scheduler knows."""


def account() -> str:
    """The project that is charged.

    Raises:
        FloodlineError: none is named.
    """
    name = os.environ.get(ACCOUNT, "")
    if not name:
        raise FloodlineError(f"no project to charge: export {ACCOUNT}=<your project> before you start snakemake.")
    return name


def needed(resources: Mapping[str, Any], name: str) -> Any:
    """A resource that the profile must give.

    Raises:
        FloodlineError: it does not.
    """
    if name not in resources:
        raise FloodlineError(f"the profile gives no '{name}' for this rule: add it to default-resources.")
    return resources[name]
