"""Checkpoints inside a sub-volume, so that an interruption costs minutes."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from floodline.ffn.flood import Floods
from floodline.manifest import DamagedBlock, read_block, write_block

logger = logging.getLogger(__name__)


class Checkpoint:
    """The latest state of the floods of one sub-volume, beside its block.

    Args:
        block: where the finished block will lie.
        parameters: hash of what decides the result; the checkpoint of another run is not taken.
        seconds: time between checkpoints.
    """

    def __init__(self, block: Path, parameters: str, seconds: float) -> None:
        self.path = block.with_suffix(".checkpoint")
        self.parameters, self.seconds = parameters, seconds
        self.last = time.monotonic()

    def resume(self, floods: Floods) -> None:
        """Take up the state of an interrupted run, if there is one."""
        for partial in self.path.parent.glob(f".{self.path.stem}.*.partial"):
            partial.unlink()  # left by a run that was killed while it wrote
        try:
            state = read_block(self.path, self.parameters)
        except DamagedBlock:
            logger.warning("%s is damaged: its sub-volume starts again", self.path)
            return
        if state is not None:
            floods.restore(state)
            logger.info("%s: resumed after %d network calls", self.path.stem, floods.counts["network_calls"])

    def keep_if_due(self, floods: Floods) -> None:
        """Write the state if the last one is old enough."""
        if time.monotonic() - self.last >= self.seconds:
            self.keep(floods)

    def keep(self, floods: Floods) -> None:
        """Write the state."""
        write_block(self.path, self.parameters, floods.state())
        self.last = time.monotonic()

    def discard(self) -> None:
        """Forget the state: the block is there."""
        self.path.unlink(missing_ok=True)
