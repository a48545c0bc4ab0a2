"""Coarser levels of a layer, for viewing."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any, Literal

from floodline.geometry import Box, Triple, blocks, triple
from floodline.manifest import write_json
from floodline.progress import Meter
from floodline.volumes.layer import Layer
from floodline.volumes.remote import read_info, remove, write_info

CHUNKS_AT_A_TIME = 4


def run(path: Path | str, num_mips: int, summary: Path) -> None:
    """Give a layer up to `num_mips` coarser levels, and write `summary` with the sizes of all levels last.

    A level halves the axes along which voxels measure less than twice their shortest side, so that anisotropic voxels
    become cubes. A level that fits in one chunk is the last. Images are averaged; segmentations take the most frequent
    label, of equally frequent ones the smallest. Voxel i of a level covers voxels 2 i and 2 i + 1 of the finer one,
    where they exist.

    Raises:
        FloodlineError: there is no layer, or a chunk is missing or damaged.
    """
    summary.unlink(missing_ok=True)
    info = read_info(path)
    for scale in info["scales"][1:]:
        remove(path, scale["key"])
    scales, factors = [info["scales"][0]], []
    while len(scales) <= num_mips and _chunks(scales[-1]) > 1:
        factors.append(_factor(scales[-1]))
        scales.append(_coarser(scales[-1], factors[-1]))
    write_info(path, info | {"scales": scales})
    for mip, factor_xyz in enumerate(factors, start=1):
        _fill(
            Layer.open(path, mip - 1), Layer.open(path, mip), factor_xyz, "mean" if info["type"] == "image" else "mode"
        )
    sizes = [{"size_xyz": scale["size"], "voxel_size_nm_xyz": scale["resolution"]} for scale in scales]
    write_json(summary, {"levels": len(sizes), "sizes": sizes})


def _chunks(scale: dict[str, Any]) -> int:
    x, y, z = (ceil(size / chunk) for size, chunk in zip(scale["size"], scale["chunk_sizes"][0], strict=True))
    return x * y * z


def _factor(scale: dict[str, Any]) -> Triple:
    """By how much the next level is coarser than this one, x, y, z."""
    return triple(2 if nm < 2 * min(scale["resolution"]) else 1 for nm in scale["resolution"])


def _coarser(scale: dict[str, Any], factor_xyz: Triple) -> dict[str, Any]:
    """The entry in `info` of the level that comes after this one."""
    box = Box.sized(scale["voxel_offset"], scale["size"])
    start = [a // f for a, f in zip(box.start_xyz, factor_xyz, strict=True)]
    stop = [ceil(b / f) for b, f in zip(box.stop_xyz, factor_xyz, strict=True)]
    resolution = [nm * f for nm, f in zip(scale["resolution"], factor_xyz, strict=True)]
    return scale | {
        "key": "_".join(map(str, resolution)),
        "resolution": resolution,
        "voxel_offset": start,
        "size": [b - a for a, b in zip(start, stop, strict=True)],
    }


def _fill(fine: Layer, coarse: Layer, factor_xyz: Triple, method: Literal["mean", "mode"]) -> None:
    import tensorstore

    several = 1 if coarse.write_size_xyz != coarse.chunk_size_xyz else CHUNKS_AT_A_TIME
    todo = blocks(coarse.box, [several * size for size in coarse.write_size_xyz])
    with Meter(f"pyramid of {str(coarse.path).rpartition('/')[2]}", len(todo), "blocks") as meter:
        for box in todo:
            corners = [[a * f for a, f in zip(corner, factor_xyz, strict=True)] for corner in box.corners]
            covered = Box.of(corners).intersection(fine.box)
            # At its own place, so that pairs of voxels are those of the whole layer at its faces, too.
            voxels = tensorstore.array(fine.read(covered)).translate_to[covered.start_xyz[::-1]]
            coarse.write(box, tensorstore.downsample(voxels, factor_xyz[::-1], method).read().result())
            meter.advance()
