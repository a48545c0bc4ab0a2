"""The peak memory of a command."""

from __future__ import annotations

import subprocess
import sys

# A process of its own starts the command: Linux counts in a process's peak memory what its parent held when it forked,
# and the tests' own process holds TensorFlow.
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True)
sys.exit(status)
"""


def run_measured(command: list[str], environment: dict[str, str] | None = None) -> tuple[str, int]:
    """What a command printed, and the bytes that it held at most; it must succeed."""
    run = subprocess.run([sys.executable, "-c", MEASURED, *command], env=environment, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr
    printed, _, kilobytes = run.stdout.rstrip("\n").rpartition("\n")
    return printed, 1024 * int(kilobytes)
