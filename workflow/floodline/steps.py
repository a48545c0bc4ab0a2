"""Steps of a stage that the ranks of a pool do, task by task, with results that survive an interruption.

A step is a list of tasks, one for each box or overlap of the volume. The result of a task goes into a file of its own,
whole or not at all; the leader then reads the files in the order of the tasks. So the outcome does not depend on how
many ranks there are and who did what when, nobody holds more than one result in memory, and a job that ran out of time
or was killed goes on from the tasks that were done. When the stage is done the files are deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np

from floodline.errors import FloodlineError
from floodline.manifest import DamagedBlock, read_block, read_json, write_block, write_json
from floodline.pool import HandOut
from floodline.progress import Meter

State = TypeVar("State")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Task(Generic[State]):
    """One task of a step; `make` must be picklable."""

    path: Path
    parameters: str
    make: Callable[[State], Arrays]

    def result(self) -> Arrays | None:
        """What came of it; None: it is still to be done."""
        try:
            return read_block(self.path, self.parameters)
        except DamagedBlock:
            return None


def do(state: State, task: Task[State]) -> None:
    """Do a task, unless it is done: the `work` of a pool's crew."""
    if task.result() is None:
        write_block(task.path, task.parameters, task.make(state))


class Steps(Generic[State]):
    """The steps of a stage, for the leader of a pool whose crew works by `do`; a context manager.

    Args:
        folder: where the results lie until the stage is done.
        parameters: hash of all that decides the results; what lies there of other parameters is deleted.
        hand_out: from the pool.
    """

    def __init__(self, folder: Path, parameters: str, hand_out: HandOut[Task[State], None]) -> None:
        self.folder, self.parameters, self.hand_out = folder, parameters, hand_out
        note = folder / "parameters.json"
        if not note.is_file() or read_json(note) != parameters:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(note, parameters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            shutil.rmtree(self.folder)

    def has_begun(self, name: str) -> bool:
        """Whether a task of a step was done, before an interruption."""
        return (self.folder / name).is_dir()

    def do(self, name: str, makes: Mapping[str, Callable[[State], Arrays]]) -> Iterator[Arrays]:
        """Do a step.

        Args:
            name: the step's.
            makes: what each task does, by the task's name, in the order in which they are handed out.

        Returns:
            The results, in that order.

        Raises:
            OutOfTime: the scheduler is about to end the job; what is done is kept.
        """
        tasks = [Task(self.folder / name / key, self.parameters, make) for key, make in makes.items()]
        with Meter(name, len(tasks), "tasks") as meter:
            for _ in self.hand_out(tasks):
                meter.advance()
        return map(_read, tasks)


def _read(task: Task[Any]) -> Arrays:
    result = task.result()
    if result is None:
        raise FloodlineError(f"{task.path} was there and is gone, or cannot be read: run the same command again.")
    return result
