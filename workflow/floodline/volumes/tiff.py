"""Sources that are one TIFF file of many pages, BigTIFF and tiled ones included."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from floodline.errors import FloodlineError
from floodline.volumes.arrays import ArrayVolume, Storage, or_sentence
from floodline.volumes.placement import Placement, placed

TIFF_SUFFIXES = {".tif", ".tiff"}


def open_pages(path: Path) -> ArrayVolume:
    """The pages of a TIFF file as a volume; those (or the tiles) that a box needs are read.

    Raises:
        FloodlineError: the file is damaged, or its pages differ in size or type.
    """
    import tifffile
    import zarr

    def pages() -> ArrayVolume:
        # Of a file that was cut short, tifffile shows the pages that are left and writes an error to its log.
        with _messages_of("tifffile") as errors:
            tiff = tifffile.TiffFile(path)
            if len(tiff.series) > 1:
                # Pages written one by one are said to be series of their own; without that remark, equal ones are one.
                tiff = tifffile.TiffFile(path, is_shaped=False)
            series = tiff.series
        if errors:
            raise OSError(errors[0])
        if len(series) > 1:
            raise FloodlineError(f"{path} has pages of different size or type: a volume has equal ones.")
        # Seen as a zarr array, pages (and tiles, in BigTIFF too) are read only when a box needs them.
        page = series[0].keyframe
        x, y = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
        stored = Storage((x, min(y, page.imagelength), 1), tifffile.COMPRESSION(page.compression).name.lower())
        voxels = zarr.open_array(tiff.aszarr(series=0, level=0), mode="r")
        return ArrayVolume(voxels, str(path), stored, _placement(tiff, str(path)))

    return or_sentence(pages, str(path))


@contextmanager
def _messages_of(library: str) -> Iterator[list[str]]:
    """Collects what a library reports as an error to its log, instead of showing it."""
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            messages.append(record.getMessage())
        return record.levelno < logging.ERROR

    log = logging.getLogger(library)
    log.addFilter(collect)
    try:
        yield messages
    finally:
        log.removeFilter(collect)


def _placement(tiff: Any, name: str) -> Placement:
    """By the metadata of OME and of ImageJ. A TIFF's plain resolution is not read: most programs write 72 dpi there."""
    if tiff.ome_metadata:
        return _of_ome(tiff.ome_metadata, name)
    imagej, tags = tiff.imagej_metadata or {}, tiff.pages.first.tags
    unit = str(imagej.get("unit", "")).replace("\\u00B5", "µ")
    if "spacing" not in imagej or not {"XResolution", "YResolution"} <= {tag.name for tag in tags}:
        return Placement()
    # Pixels a unit, as a fraction.
    (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
    if not x_pixels or not y_pixels:
        return Placement()
    return placed(name, [x_units / x_pixels, y_units / y_pixels, float(imagej["spacing"])], [unit] * 3)


def _of_ome(text: str, name: str) -> Placement:
    pixels = ElementTree.fromstring(text).find(".//{*}Pixels")
    if pixels is None or any(pixels.get(f"PhysicalSize{axis}") is None for axis in "XYZ"):
        return Placement()
    sizes = [float(pixels.get(f"PhysicalSize{axis}", "0")) for axis in "XYZ"]
    return placed(name, sizes, [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XYZ"])
