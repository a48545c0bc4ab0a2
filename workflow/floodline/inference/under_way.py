"""How far a sub-volume is: told to whoever leads, now and then."""

from __future__ import annotations

import time
from typing import NamedTuple

from floodline import pool
from floodline.geometry import Box
from floodline.inference.passes import Pass

SECONDS = 15.0
"""Between two notes: four make a line of the log, and thousands of workers do not drown their leader."""


class Note(NamedTuple):
    """State of a pass over a sub-volume."""

    box: Box
    number: int  # of the pass: 0 or 1
    share: float  # of the sub-volume's work that this pass has done
    before: float  # of that, what an earlier run had done
    voxels: int  # in objects of this pass
    calls: int  # of the network, made in this run


class UnderWay:
    """Counts the calls of one pass and mentions its state every few seconds.

    Args:
        one: the pass, as an interruption left it or new.
        number: which of the passes over the sub-volume.
        passes: how many there are.
    """

    def __init__(self, one: Pass, box: Box, number: int, passes: int) -> None:
        self.one, self.box, self.number, self.passes = one, box, number, passes
        self.before = one.share / passes
        self.calls = 0
        self.last = time.monotonic()

    def called(self) -> None:
        """Count a call of the network, and say so if the last note is old enough."""
        self.calls += 1
        if time.monotonic() - self.last >= SECONDS:
            self.say()

    def say(self) -> None:
        """Mention the state."""
        self.last = time.monotonic()
        voxels = sum(segment.voxels for segment in self.one.floods.segments)
        pool.mention(Note(self.box, self.number, self.one.share / self.passes, self.before, voxels, self.calls))
