"""Tasks handed out one by one to whoever is free: the ranks of an MPI launcher, or processes of this machine.

Some sub-volumes take several times as long as others, so a fixed share for each worker would leave most of them
waiting for the slowest. One process leads: it gives every free worker the next task of a list, longest first. Under a
launcher that is rank 0, and its core is not lost: a thread of it works like any other rank.

`run(crew, lead, workers)` is the one interface. Whether the workers are ranks follows from how this process was
started; without a launcher they are spawned here. A task that takes long can say on the way how far it is (`mention`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Protocol, TypeVar

from floodline import allocation
from floodline.allocation import OutOfTime
from floodline.errors import FloodlineError
from floodline.parallel import check_connected, launched_by_many
from floodline.progress import start_log

State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)
Made = TypeVar("Made", covariant=True)

POLL_SECONDS = 0.002
"""Between two looks at the messages. Waiting inside of MPI would spin, and take a core from a rank that computes."""


SECONDS_TO_LEAVE = 60.0
"""For a process that is asked to leave, to keep what it has under way."""


@dataclass(frozen=True)
class Crew(Generic[State, Task, Result]):
    """What every worker does. Both functions, and what they hold, must be picklable.

    Attributes:
        start: makes what a worker keeps from one task to the next; called once, before the worker's first task.
        work: does one task. It may raise `OutOfTime`: the task is then left for another time.
    """

    start: Callable[[], State]
    work: Callable[[State, Task], Result]


Hear = Callable[[Any], None]
"""Is told what a worker mentions."""


def hear_nothing(note: Any) -> None:
    """Do without what workers mention."""


class HandOut(Protocol[Given, Made]):
    """Hands out tasks in their order, and yields their results as they come."""

    def __call__(self, tasks: Iterable[Given], hear: Hear = hear_nothing) -> Iterator[Made]: ...


_here = threading.local()
"""`to_leader`: who is told what this thread's task mentions."""


def mention(note: Any) -> None:
    """Tell the leader something about the task under way; whoever works without a leader tells nobody."""
    getattr(_here, "to_leader", hear_nothing)(note)


@contextmanager
def _mentioning_to(hear: Hear) -> Iterator[None]:
    _here.to_leader = hear
    try:
        yield
    finally:
        del _here.to_leader


def run(crew: Crew[State, Task, Result], lead: Callable[[HandOut[Task, Result]], None], workers: int = 1) -> None:
    """Let `lead` hand out tasks to a crew.

    Args:
        lead: called in one process only, with the function that hands out tasks; it may use it several times. What is
            done once for all workers (listing the tasks, writing a manifest) belongs here.
        workers: processes to spawn where no launcher started this one; a single one is this process itself.

    Raises:
        OutOfTime: the scheduler is about to end the job; the results so far were yielded.
        FloodlineError: from `lead`, or from a worker. Under a launcher the rank that fails prints its own message and
            ends all ranks.
    """
    if launched_by_many():
        _run_on_ranks(crew, lead)
    elif workers == 1:
        lead(_Alone(crew).hand_out)
    else:
        _run_on_processes(crew, lead, workers)


def size(workers: int) -> int:
    """How many work in a `run` with so many `workers`: under a launcher, all of its ranks."""
    return int(_world().size) if launched_by_many() else workers


def is_leader() -> bool:
    """Whether this process is the one for what is done once: alone, or the first rank of a launcher."""
    return not launched_by_many() or _world().rank == 0


def _world() -> Any:
    """All ranks of the launcher.

    Raises:
        FloodlineError: MPI cannot connect them.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise FloodlineError(f"a launcher started several ranks, but MPI cannot connect them ({error}).") from None
    check_connected(MPI.COMM_WORLD.size)
    return MPI.COMM_WORLD


# --- a worker --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a worker says: `ready` when it has come, then for each task `done`, `late` (no time left) or `failed`.

    Before that, it may say any number of `note`s about the task.
    """

    kind: str
    content: Any = None


class _Worker(Generic[State, Task, Result]):
    """Does tasks, and starts with the first one."""

    def __init__(self, crew: Crew[State, Task, Result]) -> None:
        self.crew = crew
        self.states: list[State] = []

    def do(self, task: Task) -> Result:
        if not self.states:
            self.states.append(self.crew.start())
        return self.crew.work(self.states[0], task)

    def report(self, task: Task, say: Callable[[Report], None]) -> Report:
        """Do a task and say how it went; `say` takes what it mentions meanwhile."""
        try:
            with _mentioning_to(lambda note: say(Report("note", note))):
                return Report("done", self.do(task))
        except OutOfTime:
            return Report("late")
        except FloodlineError as error:
            return Report("failed", error)
        except Exception:
            return Report("failed", RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))


# --- the leader ------------------------------------------------------------------------------------------------------


class Team(ABC):
    """Workers that can be given tasks; `free` holds the numbers of those that have none."""

    def __init__(self) -> None:
        self.free: deque[int] = deque()

    @abstractmethod
    def give(self, worker: int, task: Any) -> None:
        """Send a task."""

    @abstractmethod
    def reports(self) -> Iterator[tuple[int, Report]]:
        """What has come in from which worker, without waiting."""

    def hand_out(self, tasks: Iterable[Any], hear: Hear = hear_nothing) -> Iterator[Any]:
        """Give the next task to whoever is free until all are done, and yield the results."""
        left = deque(tasks)
        given, late = 0, False
        while left or given:
            if left and allocation.is_ending():
                late, left = True, deque()
            while left and self.free:
                self.give(self.free.popleft(), left.popleft())
                given += 1
            silent = True
            for worker, report in self.reports():
                silent = False
                if report.kind == "note":
                    hear(report.content)
                    continue
                self.free.append(worker)
                given -= report.kind != "ready"
                if report.kind == "failed":
                    raise report.content
                if report.kind == "late":
                    late, left = True, deque()
                if report.kind == "done":
                    yield report.content
            if silent:
                time.sleep(POLL_SECONDS)
        if late:
            raise OutOfTime


class _Alone:
    """This process, without anybody else."""

    def __init__(self, crew: Crew) -> None:
        self.worker = _Worker(crew)

    def hand_out(self, tasks: Iterable[Any], hear: Hear = hear_nothing) -> Iterator[Any]:
        for task in tasks:
            if allocation.is_ending():
                raise OutOfTime
            with _mentioning_to(hear):
                result = self.worker.do(task)
            yield result


# --- processes of this machine ---------------------------------------------------------------------------------------


def _run_on_processes(crew: Crew, lead: Callable[[HandOut], None], workers: int) -> None:
    team = _Processes(crew, workers)
    try:
        lead(team.hand_out)
    finally:
        team.end()


class _Processes(Team):
    """Spawned, not forked: TensorFlow does not survive a fork."""

    def __init__(self, crew: Crew, workers: int) -> None:
        super().__init__()
        self.crew = crew
        self.threads = max(1, len(os.sched_getaffinity(0)) // workers)
        self.connections: list[Connection] = []
        self.processes: list[SpawnProcess] = []
        self.free.extend(range(workers))

    def give(self, worker: int, task: Any) -> None:
        if worker == len(self.processes):
            self._spawn()
        self.connections[worker].send(task)

    def _spawn(self) -> None:
        """Start the next worker: not before there is a task for it."""
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        arguments = (theirs, self.crew, self.threads, allocation.ends_at())
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self.connections.append(mine)
        self.processes.append(process)

    def reports(self) -> Iterator[tuple[int, Report]]:
        for connection in wait(self.connections, timeout=0):
            worker = self.connections.index(connection)  # type: ignore[arg-type]
            try:
                yield worker, self.connections[worker].recv()
            except EOFError:
                self.processes[worker].join()
                status = self.processes[worker].exitcode
                cause = f"signal {-status}; for want of memory?" if status and status < 0 else f"exit status {status}"
                raise FloodlineError(f"a worker process ended in the middle of its work ({cause}).") from None

    def end(self) -> None:
        """The workers' work is done, or of no use any more: all clean up and leave, those at work when asked."""
        for worker, process in enumerate(self.processes):
            if worker not in self.free:
                process.terminate()
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            process.join(SECONDS_TO_LEAVE)
            process.kill()
            process.join()


def _leave(*_: object) -> None:
    """End the process as an error would: what is under way is kept, and nothing stays half-written."""
    raise SystemExit


def _serve(connection: Connection, crew: Crew, threads: int, end: float | None) -> None:
    """Life of a spawned worker."""
    signal.signal(signal.SIGTERM, _leave)
    # TensorFlow and OpenMP read these once, when they are loaded.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    allocation.know(end)
    # On a terminal the leader draws a bar, and only warnings are worth breaking it.
    start_log(logging.WARNING if sys.stderr.isatty() else logging.INFO)
    worker = _Worker(crew)
    while True:
        try:
            connection.send(worker.report(connection.recv(), connection.send))
        except (EOFError, BrokenPipeError):
            return  # the leader is gone


# --- ranks of a launcher ---------------------------------------------------------------------------------------------


def _run_on_ranks(crew: Crew, lead: Callable[[HandOut], None]) -> None:
    ranks = _world()
    try:
        if ranks.rank > 0:
            _follow(ranks, crew)
            return
        team = _Ranks(ranks, crew)
        try:
            lead(team.hand_out)
        except OutOfTime:
            team.end()
            raise
        team.end()
    except OutOfTime:
        raise
    except BaseException as error:
        if not isinstance(error, FloodlineError):
            traceback.print_exc()
        print(f"floodline: rank {ranks.rank} of {ranks.size}: {error}", file=sys.stderr, flush=True)
        ranks.Abort(1)


class _Ranks(Team):
    """All ranks of MPI's world: those above 0 through messages, rank 0's own worker through a thread."""

    def __init__(self, ranks: Any, crew: Crew) -> None:
        super().__init__()
        self.ranks = ranks
        self.end_of_job = allocation.ends_at()
        self.own_tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.own_reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        # Only the main thread speaks MPI. A daemon: when the job fails, nobody waits for its task.
        threading.Thread(target=self._work, args=(_Worker(crew),), daemon=True).start()
        self.free.append(0)

    def _work(self, worker: _Worker) -> None:
        while True:
            self.own_reports.put(worker.report(self.own_tasks.get(), self.own_reports.put))

    def give(self, worker: int, task: Any) -> None:
        if worker == 0:
            self.own_tasks.put(task)
        else:
            self.ranks.send((task, self.end_of_job), dest=worker)

    def reports(self) -> Iterator[tuple[int, Report]]:
        while self.ranks.iprobe():
            from mpi4py import MPI

            status = MPI.Status()
            report = self.ranks.recv(status=status)
            yield status.source, report
        if not self.own_reports.empty():
            yield 0, self.own_reports.get()

    def end(self) -> None:
        """Send every rank home; those that have only just started, too."""
        home = 1
        while home < self.ranks.size:
            for worker in self.free:
                if worker > 0:
                    self.ranks.send(None, dest=worker)
                    home += 1
            self.free.clear()
            for worker, _ in self.reports():
                self.free.append(worker)
            time.sleep(POLL_SECONDS)


def _follow(ranks: Any, crew: Crew) -> None:
    """Life of a rank above 0."""
    worker = _Worker(crew)
    report = Report("ready")
    while True:
        ranks.send(report, dest=0)
        while not ranks.iprobe(source=0):
            time.sleep(POLL_SECONDS)
        message = ranks.recv(source=0)
        if message is None:
            return
        task, end = message
        allocation.know(end)
        report = worker.report(task, lambda note: ranks.send(note, dest=0))
        if report.kind == "failed":
            raise report.content
