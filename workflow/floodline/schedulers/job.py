"""A job's folder: what its scheduler runs, and what the job leaves there for the login node to read.

Snakemake deletes its own job scripts when it ends, and schedulers forget jobs or know of their end late. So each job
has a folder of its own under `.snakemake/jobs/`, on the file system that both sides see:

| file | what |
|---|---|
| `job.sh` | what the scheduler starts: it prepares the environment, runs `snakemake.sh`, and leaves its exit status |
| `snakemake.sh` | a copy of Snakemake's job script |
| `qsub.json` | the command that submitted it, to submit it again |
| `id` | the scheduler's latest id of it: another one after each time it ran out of time |
| `ID.exit` | its exit status, written by rename as the last thing it does; none: it was ended from outside |
| `ID.unfinished` | it ended for want of time and asks to be submitted again |

A link with the first id as its name leads to the folder, since that id is what Snakemake knows.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from floodline.errors import FloodlineError

FOLDERS = Path(".snakemake/jobs")
GRACE_SECONDS = 10.0
"""How long the exit status may need to appear on a file system after the scheduler has forgotten the job."""

SCRIPT = """\
#!/bin/bash -l
cd {workdir}
{setup}
# The environment that Snakemake runs in; behind the rest, since it has an mpiexec of its own.
export PATH="$PATH":{environment}
{prepare}
export FLOODLINE_UNFINISHED={folder}/"${id_variable}".unfinished
# Another process: only so does its end not end this script, too.
bash {folder}/snakemake.sh
status=$?
echo "$status" > {folder}/"${id_variable}".partial
mv {folder}/"${id_variable}".partial {folder}/"${id_variable}".exit
exit "$status"
"""


class Job:
    """One job of Snakemake's, and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def new(cls, name: str, jobscript: Path, setup: str, prepare: str, id_variable: str) -> Job:
        """Make the folder of a job that is about to be submitted.

        Args:
            name: the rule's, for people who look at the folders.
            jobscript: Snakemake's.
            setup: shell commands of the profile, such as `module load`.
            prepare: shell commands of the scheduler.
            id_variable: the environment variable in which the scheduler tells a job its id.
        """
        FOLDERS.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=FOLDERS.resolve()))
        shutil.copyfile(jobscript, folder / "snakemake.sh")
        script = SCRIPT.format(
            workdir=shlex.quote(str(Path.cwd())),
            setup=setup,
            environment=shlex.quote(str(Path(sys.executable).parent)),
            prepare=prepare,
            folder=shlex.quote(str(folder)),
            id_variable=id_variable,
        )
        job = cls(folder)
        job.script.write_text(script)
        job.script.chmod(0o755)
        return job

    @classmethod
    def find(cls, first_id: str) -> Job:
        """The job that was first submitted under an id.

        Raises:
            FloodlineError: there is none.
        """
        folder = FOLDERS / first_id
        if not (folder / "id").is_file():
            raise FloodlineError(f"{folder} is gone, so nothing is known of job {first_id}.")
        return cls(folder.resolve())

    @property
    def script(self) -> Path:
        return self.folder / "job.sh"

    @property
    def id(self) -> str:
        """The scheduler's latest id of it."""
        return (self.folder / "id").read_text().strip()

    @property
    def command(self) -> list[str]:
        """The command that submits it."""
        return json.loads((self.folder / "qsub.json").read_text())

    def submitted(self, command: Sequence[str], id_: str) -> None:
        """Note a submission."""
        self._write("qsub.json", json.dumps(command, indent=1))
        self._write("id", id_)
        link = FOLDERS / id_
        if not link.is_symlink():
            link.symlink_to(self.folder.name)

    def _write(self, name: str, text: str) -> None:
        partial = self.folder / f"{name}.partial"
        partial.write_text(text)
        partial.replace(self.folder / name)

    def exit_status(self) -> int | None:
        """What the latest submission left; None: nothing yet."""
        try:
            return int((self.folder / f"{self.id}.exit").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def last_exit_status(self) -> int | None:
        """The same, once the scheduler says that the job has ended: wait for a slow file system."""
        until = time.monotonic() + GRACE_SECONDS
        while (status := self.exit_status()) is None and time.monotonic() < until:
            list(self.folder.iterdir())  # network file systems look again when a folder is listed
            time.sleep(0.5)
        return status

    def is_unfinished(self) -> bool:
        """Whether the latest submission asked to be continued."""
        return (self.folder / f"{self.id}.unfinished").exists()
