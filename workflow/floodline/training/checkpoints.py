"""The latest state of a training, with what each rank has under way, and the last checkpoints' weights.

Every file is whole or absent.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from floodline.ffn.network import Weights
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
        """What was kept; None if nothing was, or by another training, or if it is damaged; the latter are said."""
        try:
            kept = read_block(self.path, self.parameters)
        except DamagedBlock:
            logger.warning("%s is damaged: the training starts again", self.path)
            return None
        if kept is None and self.path.exists():
            logger.warning(
                "%s is of a training with other data, keys, arithmetic or number of workers: this one starts anew",
                self.path,
            )
        return kept

    def write(self, values: dict[str, np.ndarray]) -> None:
        """Replace what was kept."""
        write_block(self.path, self.parameters, values)


def _read(path: Path, parameters: str, consequence: str) -> dict[str, np.ndarray] | None:
    """What a file of this training holds; None if it is not there, of another training, or damaged, which is said."""
    try:
        return read_block(path, parameters)
    except DamagedBlock:
        logger.warning("%s is damaged: %s", path, consequence)
        return None


class UnderWay:
    """What a rank has under way at a checkpoint: a file for each rank, named by the fields of view seen by then.

    It is written before the checkpoint, and those of earlier ones are deleted after it. So whenever the job is killed,
    the latest checkpoint finds its own.
    """

    def __init__(self, folder: Path, parameters: str, rank: int) -> None:
        self.folder = folder / "under_way"
        self.parameters, self.rank = parameters, rank

    def _path(self, fovs: int) -> Path:
        return self.folder / f"{fovs:012d}-{self.rank}.block"

    def read(self, fovs: int) -> dict[str, np.ndarray] | None:
        """What was under way; None if nothing was, or if the file is gone or damaged: then new examples begin."""
        return _read(self._path(fovs), self.parameters, "its examples begin anew")

    def write(self, fovs: int, values: dict[str, np.ndarray]) -> None:
        """Keep what is under way."""
        write_block(self._path(fovs), self.parameters, values)

    def forget_but(self, fovs: int) -> None:
        """Delete this rank's other files."""
        for path in self.folder.glob(f"*-{self.rank}.block"):
            if path != self._path(fovs):
                path.unlink()


class Candidates:
    """The weights of the last checkpoints, of which one is to become the model; a file each, named by its length.

    Those that a fine-tuning began with have the length 0 and stay: it may not make them better.
    """

    def __init__(self, folder: Path, parameters: str, most: int) -> None:
        self.folder = folder / "candidates"
        self.parameters, self.most = parameters, most

    def lengths(self) -> list[int]:
        """Fields of view that each had seen, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob("*.block"))

    def latest(self) -> list[int]:
        """Lengths of those that are tried: the last ones, and 0 if there is one."""
        lengths = self.lengths()
        return [length for length in lengths if length == 0] + [length for length in lengths if length][-self.most :]

    def path(self, fovs: int) -> Path:
        return self.folder / f"{fovs:012d}.block"

    def read(self, fovs: int) -> dict[str, np.ndarray] | None:
        """The weights, and `seconds` of training; None if the file is of another training, or damaged."""
        return _read(self.path(fovs), self.parameters, "it cannot be chosen")

    def add(self, fovs: int, seconds: float, weights: Weights) -> None:
        """Keep weights, and delete those that are too many."""
        write_block(self.path(fovs), self.parameters, {**weights, "seconds": np.array(seconds)})
        self.forget_but(self.latest())

    def forget_but(self, lengths: list[int]) -> None:
        """Delete all others."""
        for path in self.folder.glob("*.block"):
            if int(path.stem) not in lengths:
                path.unlink()
