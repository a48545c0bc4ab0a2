"""What decides the content of the blocks, as one hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from floodline import config
from floodline.experiment import Experiment
from floodline.ffn import precision
from floodline.manifest import hash_of, hash_of_file, read_json

BLOCK_FORMAT = 2
"""Counts the changes of what a block holds: one of another format is made again."""

LARGEST_HASHED = 2**30
"""Files beyond it (bytes) are known by their names alone: reading them for every shard would take too long."""


def parameters_of(experiment: Experiment) -> str:
    """Hash of all that decides the content of the blocks: configuration, weights, image, and the files it names.

    Of a volume that is no single local file of moderate size, only the configuration (and the manifest or `info` of a
    local layer) counts: whoever changes such a volume in place must give it another name.
    """
    wanted = experiment.config.inference
    return hash_of(
        {
            "block_format": BLOCK_FORMAT,
            "inference": wanted.model_dump(mode="json", exclude={"shards", "precision", "checkpoint_seconds"}),
            "masks": [mask.model_dump(mode="json") for mask in _masks(experiment.config)],
            "precision": precision.of_inference(wanted),
            "network": experiment.config.network.model_dump(mode="json", exclude={"weights"}),
            "weights": hash_of_file(experiment.model / "weights.npz"),
            "normalisation": experiment.normalisation(),
            "image": read_json(experiment.manifest("image")),
            "files": {str(path): _content_of(path) for path in _files(experiment)},
        }
    )


def _masks(wanted: config.Config) -> list[config.Mask]:
    """Masks that floods or their seeds keep away from."""
    return [mask for mask in wanted.masks if set(mask.closed_to) & {"seeds", "floods"}]


def _files(experiment: Experiment) -> list[Path]:
    """Files whose content decides the result, too."""
    inference = experiment.config.inference
    files = [inference.reference_histogram]
    for policy in inference.seeds:
        if isinstance(policy, config.PointsSeeds):
            files.append(policy.path)
        if isinstance(policy, config.InvertOriginsSeeds):
            files.append(str(Experiment(Path(policy.experiment)).manifest("inference")))
    masks = _masks(experiment.config)
    if any(isinstance(mask, config.QualityMask) for mask in masks):
        files.append(str(experiment.quality / "findings.parquet"))
    sources: list[Any] = [mask.source for mask in masks if isinstance(mask, config.VolumeMask)]
    if inference.shift_mask is not None:
        sources += [inference.shift_mask.dx, inference.shift_mask.dy]
    if inference.initial_segmentation is not None:
        sources.append(inference.initial_segmentation)
    for source in sources:
        if isinstance(source, config.Hdf5Source | config.StackSource | config.FileSource | config.RawSource):
            files.append(source.path)
        if isinstance(source, config.ChunkedSource):
            files += [f"{source.path}/{name}" for name in (".zarray", ".zattrs", "zarr.json", "attributes.json")]
        if isinstance(source, config.PrecomputedSource):
            files += [f"{source.path}/manifest.json", f"{source.path}/info"]
    return [Path(name) for name in files if name is not None]


def _content_of(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > LARGEST_HASHED:
        return None
    return hash_of_file(path)
