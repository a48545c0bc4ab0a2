"""Checkpoints inside a sub-volume, so that an interruption costs minutes."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from floodline.inference.passes import Pass
from floodline.manifest import DamagedBlock, open_block, write_block

logger = logging.getLogger(__name__)


class Checkpoint:
    """The latest state of a pass over one sub-volume, beside its block.

    Args:
        block: where the finished block will lie.
        parameters: hash of what decides the result; the checkpoint of another run or pass is not taken.
        seconds: time between checkpoints.
    """

    SUFFIX = ".checkpoint"

    def __init__(self, block: Path, parameters: str, seconds: float) -> None:
        self.path = block.with_suffix(self.SUFFIX)
        self.parameters, self.seconds = parameters, seconds
        self.last = time.monotonic()

    def resume(self, one: Pass) -> None:
        """Take up the state of an interrupted run, if there is one."""
        try:
            with open_block(self.path, self.parameters) as state:
                if state is None:
                    return
                one.restore(state)
        except DamagedBlock:
            logger.warning("%s is damaged: its sub-volume starts again", self.path)
            return
        logger.info("%s: resumed after %d network calls", self.path.stem, one.floods.counts["network_calls"])

    def keep_if_due(self, one: Pass) -> None:
        """Write the state if the last one is old enough."""
        if time.monotonic() - self.last >= self.seconds:
            self.keep(one)

    def keep(self, one: Pass) -> None:
        """Write the state."""
        write_block(self.path, self.parameters, one.state())
        self.last = time.monotonic()
