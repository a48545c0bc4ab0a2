"""The middle section before and after each step of the normalisation, as pictures for the report."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from floodline.geometry import Box
from floodline.ingest import clahe
from floodline.ingest.normalise import Recipe, counts_by_section, kept_fill
from floodline.manifest import write_bytes, write_json
from floodline.volumes.sources import Volume

SIDE = 320
"""Largest side of a picture, voxels."""


def write(folder: Path, volume: Volume, box: Box, recipe: Recipe) -> None:
    """Write a PNG of the source and one after each step, and `previews.json` with their names; nothing without steps.

    Sixteen bits are shown between the lowest and the highest grey value of the picture.
    """
    equalise = recipe.wanted.clahe
    middle = (box.start_xyz[2] + box.stop_xyz[2]) // 2
    (x0, x1), (y0, y1) = _middle(box, 0), _middle(box, 1)
    window = Box((x0, y0, middle), (x1, y1, middle + 1))
    counts = _section_counts(volume, box, middle, recipe)
    steps = recipe.steps(counts)
    if not steps and equalise is None:
        return
    source = volume.read(window)
    pictures = {"source": source[0]} | {name: table[source[0]] for name, table in steps.items()}
    if equalise is not None:
        last = list(steps.values())[-1].astype(recipe.dtype) if steps else None

        def read(wanted: Box) -> np.ndarray:
            array = volume.read(wanted)
            return array if last is None else last[array]

        pictures["CLAHE"] = clahe.equalised(read, window, box, equalise, kept_fill(recipe.wanted, recipe.dtype))[0]
    bits = {"source": volume.dtype.itemsize * 8, "inverted": volume.dtype.itemsize * 8}
    for number, (name, picture) in enumerate(pictures.items()):
        _write_png(folder / f"{number}.png", picture, bits.get(name, recipe.dtype.itemsize * 8))
    write_json(folder / "previews.json", {"box_xyz": window.corners, "steps": list(pictures)})


def _middle(box: Box, axis: int) -> tuple[int, int]:
    side = min(SIDE, box.size_xyz[axis])
    start = box.start_xyz[axis] + (box.size_xyz[axis] - side) // 2
    return start, start + side


def _section_counts(volume: Volume, box: Box, z: int, recipe: Recipe) -> np.ndarray | None:
    """Counts of a whole section where its table depends on them, row by row of blocks."""
    if recipe.wanted.match is None or recipe.wanted.match.by != "section":
        return None
    total = np.zeros(recipe.levels, np.int64)
    (x0, y0, _), (x1, y1, _) = box.start_xyz, box.stop_xyz
    for y in range(y0, y1, 1024):
        rows = Box((x0, y, z), (x1, min(y + 1024, y1), z + 1))
        total += counts_by_section(volume.read(rows), recipe.levels, recipe.wanted.fill)[0]
    return total


def _write_png(path: Path, picture: np.ndarray, bits: int) -> None:
    from PIL import Image

    if bits == 16:
        low, high = int(picture.min()), int(picture.max())
        picture = (picture.astype(np.float64) - low) * (255 / max(1, high - low))
    buffer = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
