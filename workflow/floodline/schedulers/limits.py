"""What a queue takes: how long a job may run depends on how many nodes it asks for.

A profile writes it as `128-255: 30m-3h, 256-383: 30m-6h`: jobs of so many nodes may ask for so much time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from floodline.errors import FloodlineError

STEP = re.compile(r"(\d+)-(\d+): (\d+)([mh])-(\d+)([mh])")
MINUTES = {"m": 1, "h": 60}


@dataclass(frozen=True)
class Step:
    """Jobs of `fewest` to `most` nodes run for `shortest` to `longest` minutes."""

    fewest: int
    most: int
    shortest: int
    longest: int


def parse(text: str) -> list[Step]:
    """The steps of a queue, as a profile writes them.

    Raises:
        FloodlineError: that is not how they are written.
    """
    steps = []
    for part in text.split(","):
        match = STEP.fullmatch(part.strip())
        if match is None:
            raise FloodlineError(f"queue limits {part.strip()!r} must be written like '128-255: 30m-3h'.")
        fewest, most, shortest, short_unit, longest, long_unit = match.groups()
        steps.append(
            Step(int(fewest), int(most), int(shortest) * MINUTES[short_unit], int(longest) * MINUTES[long_unit])
        )
    return steps


def check(queue: str, text: str, nodes: int, minutes: int) -> None:
    """Whether a queue with these limits takes a job.

    Raises:
        FloodlineError: it does not; the sentence says what would fit.
    """
    steps = parse(text)
    step = next((step for step in steps if step.fewest <= nodes <= step.most), None)
    if step is None:
        sizes = " or ".join(f"{step.fewest}-{step.most}" for step in steps)
        raise FloodlineError(f"queue {queue} takes jobs of {sizes} nodes, not of {nodes}.")
    if minutes < step.shortest:
        raise FloodlineError(
            f"queue {queue} takes jobs of {nodes} nodes from {_time(step.shortest)} on, and {_time(minutes)} is asked "
            f"for: ask for {_time(step.shortest)}."
        )
    if minutes > step.longest:
        larger = next((step for step in steps if step.longest >= minutes and step.fewest > nodes), None)
        more = f" or for {larger.fewest} nodes" if larger else ""
        raise FloodlineError(
            f"queue {queue} gives a job of {nodes} nodes {_time(step.longest)} at most, and {_time(minutes)} is asked "
            f"for: ask for {_time(step.longest)}{more}. A stage that runs out of time is submitted again and goes on."
        )


def _time(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return " ".join(part for part in (f"{hours} h" * bool(hours), f"{rest} min" * bool(rest)) if part)
