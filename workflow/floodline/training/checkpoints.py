"""The latest state of a training, whole or absent."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from floodline.manifest import DamagedBlock, read_block, write_block

logger = logging.getLogger("floodline")


class Checkpoint:
    """A file that holds weights, optimiser state and progress.

    Args:
        folder: the run's folder.
        parameters: hash of what decides the training; the checkpoint of another one is not taken.
    """

    def __init__(self, folder: Path, parameters: str) -> None:
        self.path = folder / "checkpoint.block"
        self.parameters = parameters

    def read(self) -> dict[str, np.ndarray] | None:
        """What was kept; None if nothing was, or by another training, or if it is damaged (which is said)."""
        try:
            return read_block(self.path, self.parameters)
        except DamagedBlock:
            logger.warning("%s is damaged: the training starts again", self.path)
            return None

    def write(self, values: dict[str, np.ndarray]) -> None:
        """Replace what was kept."""
        write_block(self.path, self.parameters, values)
