"""Local files that the configuration names and whose content decides results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from floodline.config.experiment import Config
from floodline.config.flooding import InvertOriginsSeeds, PointsSeeds
from floodline.config.masks import Mask, Purpose, VolumeMask
from floodline.config.volumes import (
    ChunkedSource,
    FileSource,
    Hdf5Source,
    PrecomputedSource,
    RawSource,
    StackSource,
)


def masks_for(config: Config, *purposes: Purpose) -> list[Mask]:
    """Masks that training sites, seeds or floods keep away from."""
    return [mask for mask in config.masks if set(mask.closed_to) & set(purposes)]


def of_masks(masks: Iterable[Mask]) -> list[Path]:
    """Files of masks that are volumes."""
    return _of_sources(mask.source for mask in masks if isinstance(mask, VolumeMask))


def of_floods(config: Config) -> list[Path]:
    """Files that decide the floods: seeds, a histogram, masks, shifts, an initial segmentation."""
    wanted = config.inference
    files = [] if wanted.reference_histogram is None else [Path(wanted.reference_histogram)]
    for policy in wanted.seeds:
        if isinstance(policy, PointsSeeds):
            files.append(Path(policy.path))
        if isinstance(policy, InvertOriginsSeeds):
            files.append(Path(policy.experiment) / "inference" / "manifest.json")
    shifts = [] if wanted.shift_mask is None else [wanted.shift_mask.dx, wanted.shift_mask.dy]
    initial = [] if wanted.initial_segmentation is None else [wanted.initial_segmentation]
    return files + of_masks(masks_for(config, "seeds", "floods")) + _of_sources([*shifts, *initial])


def of_weights(config: Config) -> list[Path]:
    """Files of the weights that the network starts from: of a model/ folder, or of a checkpoint."""
    if config.network.weights is None:
        return []
    path = Path(config.network.weights)
    return [path / "card.json", path / "weights.npz", path.with_name(path.name + ".index")]


def _of_sources(sources: Iterable[Any]) -> list[Path]:
    """Of a volume in one file, that file; of one in chunks, what describes it."""
    files: list[Path] = []
    for source in sources:
        if isinstance(source, Hdf5Source | StackSource | FileSource | RawSource):
            files.append(Path(source.path))
        if isinstance(source, ChunkedSource):
            names = (".zarray", ".zattrs", "zarr.json", "attributes.json")
            files += [Path(source.path) / name for name in names]
        if isinstance(source, PrecomputedSource):
            files += [Path(source.path) / name for name in ("manifest.json", "info")]
    return files
