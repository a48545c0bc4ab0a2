"""A crew for the tests of the pool, and a program that runs it on the ranks of a launcher.

The program prints, from its leader, one JSON line: for each task in the order of its result, who did it and when.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from floodline import pool
from floodline.allocation import EXIT_STATUS, OutOfTime
from floodline.errors import FloodlineError


def start() -> list[int]:
    return []


def work(done: list[int], task: tuple[str, float]) -> dict:
    """Sleep; or end as the task's name says. One that is a path is left as a file, however it ends."""
    name, seconds = task
    began = time.time()
    pool.mention(f"{name} by {worker_name()}")
    try:
        time.sleep(seconds)
    finally:
        if name.startswith("/"):
            Path(name).touch()
    if name == "fail":
        raise FloodlineError("the task was impossible.")
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "late":
        raise OutOfTime
    done.append(1)
    return {"name": name, "worker": worker_name(), "began": began, "count": len(done)}


def worker_name() -> str:
    return os.environ.get("OMPI_COMM_WORLD_RANK", str(os.getpid()))


CREW = pool.Crew(start, work)


def main() -> None:
    tasks = json.loads(sys.argv[1])
    results: list[dict] = []
    heard: list[str] = []

    def lead(hand_out: pool.HandOut) -> None:
        try:
            for result in hand_out(tasks, heard.append):
                results.append({**result, "heard": f"{result['name']} by {result['worker']}" in heard})
        finally:
            print(json.dumps(results), flush=True)

    try:
        pool.run(CREW, lead)
    except OutOfTime:
        sys.exit(EXIT_STATUS)


if __name__ == "__main__":
    main()
