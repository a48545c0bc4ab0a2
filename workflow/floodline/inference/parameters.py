"""What decides the content of the blocks, as one hash."""

from __future__ import annotations

from pathlib import Path

from floodline.config import QualityMask, files
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.runtimes import arithmetic_of
from floodline.manifest import hash_of, hash_of_file, read_json

BLOCK_FORMAT = 2
"""Counts the changes of what a block holds: one of another format is made again."""

LARGEST_HASHED = 2**30
"""Files beyond it (bytes) are known by their names alone: reading them for every shard would take too long."""


def parameters_of(experiment: Experiment) -> str:
    """Hash of all that decides the content of the blocks: configuration, weights, image, and the files it names.

    Of a volume that is no single local file of moderate size, only the configuration (and the manifest or `info` of a
    local layer) counts: whoever changes such a volume in place must give it another name.

    Raises:
        FloodlineError: there are no weights yet.
    """
    wanted = experiment.config.inference
    weights = experiment.model / "weights.npz"
    if not weights.is_file():
        raise FloodlineError(f"{experiment.model} holds no model: run `floodline train {experiment.folder}` first.")
    return hash_of(
        {
            "block_format": BLOCK_FORMAT,
            "inference": wanted.model_dump(mode="json", exclude={"shards", "precision", "checkpoint_seconds"}),
            "masks": [mask.model_dump(mode="json") for mask in files.masks_for(experiment.config, "seeds", "floods")],
            "precision": arithmetic_of(experiment),
            "network": experiment.config.network.without_weights(),
            "weights": hash_of_file(weights),
            "normalisation": experiment.normalisation(),
            "image": read_json(experiment.manifest("image")),
            "files": {str(path): _content_of(path) for path in _files(experiment)},
        }
    )


def _files(experiment: Experiment) -> list[Path]:
    """Files whose content decides the result, too."""
    found = files.of_floods(experiment.config)
    if any(isinstance(mask, QualityMask) for mask in files.masks_for(experiment.config, "seeds", "floods")):
        found.append(experiment.quality / "findings.parquet")
    return found


def _content_of(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > LARGEST_HASHED:
        return None
    return hash_of_file(path)
