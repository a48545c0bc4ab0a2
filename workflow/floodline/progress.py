"""Progress of long loops: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger("floodline")


def start_log(level: int = logging.INFO) -> None:
    """Write what happens to stderr, a line each."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )


KNOWN = 0.01
"""Share of the work after which its time is a guide to the rest, where not even one unit is done."""


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


class Meter:
    """Counts units of work done out of a total and shows them.

    Args:
        name: what is being done, e.g. "infer".
        total: number of units.
        unit: what a unit is, e.g. "sub-volumes".
        work: the work in the first n units, in any measure, where they differ in it; for the time left.
    """

    def __init__(
        self,
        name: str,
        total: int,
        unit: str,
        seconds_between_lines: float = 60.0,
        work: Callable[[float], float] = float,
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self.under_way = self.before = 0.0
        self.note = ""
        self.start = self.last_line = time.monotonic()
        self.seconds_between_lines = seconds_between_lines
        self.work = work
        self.bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            if sys.stderr.isatty()
            else None
        )
        self.task = self.bar.add_task(name, total=total) if self.bar else None

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()
        elif kind is None:
            self._line()

    def advance(self, count: int = 1, note: str = "", under_way: float = 0.0, before: float = 0.0) -> None:
        """Count `count` more units; `note` says more about the state (rates, scores).

        Args:
            under_way: how much of the next units is done already, in units, if that is known.
            before: how much of all that was done is an earlier run's, and says nothing about the time left.
        """
        self.done += count
        self.note, self.under_way, self.before = note, under_way, before
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=self.done + under_way, description=f"{self.name} {note}".rstrip())
        elif time.monotonic() - self.last_line >= self.seconds_between_lines:
            self._line()

    def _line(self) -> None:
        self.last_line = time.monotonic()
        elapsed = self.last_line - self.start
        done = self.done + self.under_way
        total = self.work(self.total)
        passed, left = self.work(done) - self.work(self.before), total - self.work(done)
        if not left:
            time_left = "0 s left"
        elif passed >= min(self.work(1), KNOWN * total):
            time_left = f"{duration(elapsed / passed * left)} left"
        else:
            time_left = "too early to say how much is left"
        note = f", {self.note}" if self.note else ""
        logger.info(
            "%s: %d of %d %s, %s passed, %s%s",
            self.name, self.done, self.total, self.unit, duration(elapsed), time_left, note,
        )  # fmt: skip
