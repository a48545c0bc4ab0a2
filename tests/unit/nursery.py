"""A program that floods in children and kills them: TensorFlow is loaded once, and every child starts at once.

It reads a line of JSON for each child: `folder` of the experiment; `kill_after` seconds, or null; `largest_file` in
bytes that the child may write, or null. It answers with a line of JSON: `status` (the exit status; below 0: the signal
that ended it), `seconds`, and `said`, what the child said about an error.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

# All that a child would load: so it starts at once.
import cloudvolume  # noqa: F401
import edt  # noqa: F401
import tensorflow  # noqa: F401

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.inference import run


def flood(folder: str, largest_file: int | None) -> None:
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    experiment = Experiment(Path(folder))
    run.run(experiment, 0, 1)
    run.finish(experiment)


def child(folder: str, largest_file: int | None, answer: int) -> None:
    """Flood, and leave by os._exit: nothing of the parent's is to be flushed or closed."""
    status = 1
    try:
        flood(folder, largest_file)
        status = 0
    except FloodlineError as error:
        os.write(answer, str(error).encode())
    except BaseException as error:
        os.write(answer, repr(error).encode())
        status = 2
    os._exit(status)


def raise_one(folder: str, kill_after: float | None, largest_file: int | None) -> dict[str, Any]:
    began = time.monotonic()
    said, answer = os.pipe()
    process = os.fork()
    if process == 0:
        child(folder, largest_file, answer)
    os.close(answer)
    ended = 0
    while kill_after is not None and not ended and time.monotonic() < began + kill_after:
        ended, status = os.waitpid(process, os.WNOHANG)
        time.sleep(0.001)
    if not ended:
        if kill_after is not None:
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    text = os.read(said, 10_000).decode()
    os.close(said)
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began, "said": text}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(raise_one(**json.loads(line))), flush=True)
