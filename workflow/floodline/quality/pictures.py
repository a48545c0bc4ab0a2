"""Pictures of findings: a section between its neighbours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from floodline.geometry import Box
from floodline.manifest import write_bytes
from floodline.volumes.sources import Volume

SIDE = 192
"""Voxels that are shown of a tile, from its middle."""

EACH = 3
"""Findings of each kind that are shown."""


def chosen(findings: pd.DataFrame) -> pd.DataFrame:
    """The findings that get a picture: the first of each kind."""
    return findings.groupby("kind", sort=False).head(EACH)


def write(folder: Path, volume: Volume, whole: Box, findings: pd.DataFrame) -> None:
    """Write a PNG for each chosen finding, named after its number in the table: the section, with the one before it on
    the left and the one after it on the right, in the grey values of the lowest to the highest of the three."""
    from PIL import Image

    for number, finding in chosen(findings).iterrows():
        start = [int(finding[name]) for name in ("x0", "y0", "z0")]
        stop = [int(finding[name]) for name in ("x1", "y1", "z1")]
        for axis in range(2):
            side = min(SIDE, stop[axis] - start[axis])
            start[axis] += (stop[axis] - start[axis] - side) // 2
            stop[axis] = start[axis] + side
        section = Box.of((start, stop))
        shown = [section.shifted((0, 0, dz)) for dz in (-1, 0, 1)]
        pictures = [volume.read(box)[0] if whole.contains(box) else np.zeros(section.shape_zyx[1:]) for box in shown]
        row = np.concatenate([np.pad(picture.astype(np.float64), ((0, 0), (0, 4))) for picture in pictures], axis=1)
        low, high = min(p.min() for p in pictures), max(p.max() for p in pictures)
        buffer = io.BytesIO()
        scaled = np.clip((row - low) * (255 / max(1.0, float(high) - float(low))), 0, 255)
        Image.fromarray(scaled[:, :-4].astype(np.uint8)).save(buffer, "PNG")
        write_bytes(folder / f"{number}.png", buffer.getvalue())
