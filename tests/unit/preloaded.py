"""A program that runs floodline's commands in children: TensorFlow is loaded once, and every child starts at once.

It reads a line of JSON for each child: `arguments` of the command, `environment` to add, and `kill_after`, a file: the
child is killed once it is there. It answers with a line of JSON: `status` (below 0: the signal that ended the child)
and `said`, all that it wrote.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


class Preloaded:
    """The program, for the tests."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *arguments: str | Path, kill_after: Path | None = None, **environment: str) -> tuple[int, str]:
        """Exit status of the command, and what it said."""
        order = {
            "arguments": list(map(str, arguments)),
            "environment": environment,
            "kill_after": None if kill_after is None else str(kill_after),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["said"]

    def end(self) -> None:
        self.process.communicate()


def child(arguments: list[str], environment: dict[str, str], said: int) -> None:
    """Run a command and leave by os._exit: nothing of the parent's is to be flushed or closed."""
    from floodline import cli

    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ.update(environment)
    sys.argv = ["floodline", *arguments]
    status: Any = 0
    try:
        cli.main()
    except SystemExit as error:
        status = error.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def raise_one(arguments: list[str], environment: dict[str, str], kill_after: str | None) -> dict[str, Any]:
    with tempfile.TemporaryFile() as said:
        process = os.fork()
        if process == 0:
            child(arguments, environment, said.fileno())
        ended, status = 0, 0
        while kill_after is not None and not ended and not Path(kill_after).exists():
            ended, status = os.waitpid(process, os.WNOHANG)
            time.sleep(0.001)
        if not ended:
            if kill_after is not None:
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
        said.seek(0)
        return {"status": os.waitstatus_to_exitcode(status), "said": said.read().decode()}


if __name__ == "__main__":
    # All that a child would load.
    import cloudvolume  # noqa: F401
    import h5py  # noqa: F401
    import tensorflow  # noqa: F401

    import floodline.ingest.image
    import floodline.ingest.labels
    import floodline.labels.coordinates
    import floodline.training.run  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(raise_one(**json.loads(line))), flush=True)
