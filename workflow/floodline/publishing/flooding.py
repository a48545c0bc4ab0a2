"""The inference in the report: what it took, and how one neuron fills."""

from __future__ import annotations

import numpy as np
from PIL import Image

from floodline.experiment import Experiment
from floodline.ffn.runtimes import arithmetic_of
from floodline.geometry import Box
from floodline.manifest import read_block, read_json
from floodline.publishing import page, slices
from floodline.publishing.colours import PALETTE, rgb
from floodline.volumes.layer import Layer


def flooding_section(experiment: Experiment) -> str:
    """Numbers of the inference and a strip of one flood; nothing if there was none."""
    manifest = experiment.manifest("inference")
    blocks = read_json(manifest)["blocks"] if manifest.is_file() else []
    if not blocks:
        return ""
    calls = sum(block["network_calls"] for block in blocks)
    timed = [block for block in blocks if block["seconds"]]
    rate = sum(block["network_calls"] for block in timed) / sum(block["seconds"] for block in timed) if timed else None
    voxels = sum(Box.of(block["box_xyz"]).voxels for block in blocks)
    segments = sum(block["segments"] for block in blocks)
    network, wanted = experiment.config.network, experiment.config.inference
    return page.section(
        "Flooding",
        page.paragraph(
            f"{page.number(len(blocks))} overlapping sub-volumes were flooded with {page.number(calls)} network calls, "
            f"{1000 * calls / voxels:.2f} per thousand voxels, and gave {page.number(segments)} segments. With a field "
            f"of view of {page.product(network.fov_xyz)} voxels and depth {network.depth}, by the policy "
            f"{wanted.flood.policy} and in {arithmetic_of(experiment)}, a sub-volume got "
            f"{'an unknown number of' if rate is None else f'{rate:.1f}'} calls a second."
        ),
        _strip(experiment),
    )


def _strip(experiment: Experiment) -> str:
    """How one object fills: a plane through its seed, after more and more calls of the network."""
    block = read_block(experiment.inference / "example.block")
    if block is None or not len(block["frames"]):
        return ""
    image = Layer.open(experiment.layer("image"))
    box = Box.of(block["box_xyz"].tolist())
    across = box.size_xyz.index(1)
    column, row = (axis for axis in range(3) if axis != across)
    plane = slices.Plane("xyz"[column] + "xyz"[row], box, (column, row), across)
    grey = plane.read(image)
    # The part in which something happens, with a margin.
    touched = np.argwhere(block["frames"].any(axis=0))
    low, high = (touched.min(axis=0) - MARGIN).clip(0), touched.max(axis=0) + 1 + MARGIN
    part = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    contrast = (float(np.percentile(grey, 0.5)), float(np.percentile(grey, 99.5)))
    start, stop = list(box.start_xyz), list(box.stop_xyz)
    for axis, a, b in ((column, low[1], high[1]), (row, low[0], high[0])):
        start[axis], stop[axis] = start[axis] + int(a), min(stop[axis], start[axis] + int(b))
    shown = slices.Plane(plane.name, Box.of([start, stop]), plane.axes, across)
    canvas = slices.Canvas.of(shown, image.voxel_size_nm_xyz)
    background = slices.grey(grey[part], canvas, contrast)
    bar_nm = slices.bar_length(canvas.width / canvas.pixels_per_nm)
    pictures = []
    for frame, calls in zip(block["frames"], block["calls"].tolist(), strict=True):
        probability = Image.fromarray(frame[part].astype(np.float32) / 255)
        weight = np.asarray(probability.resize((canvas.width, canvas.height), Image.Resampling.BILINEAR))[..., None]
        picture = background + slices.FILL * weight.clip(0, 1) * (np.array(rgb(PALETTE[0])) / 255 - background)
        title = f"{page.number(calls)} call{'s' if calls > 1 else ''}"
        data = slices.finish(picture, canvas, bar_nm, None, shown)
        pictures.append((title, page.image(data, "image/jpeg", f"The flood after {title}")))
    seed = ", ".join(map(str, block["seed_xyz"].tolist()))
    return page.subtitle("How one neuron fills") + page.panels(
        pictures,
        f"One object, flooded once more from its seed at {seed}: the {shown.name} slice through it after so many calls "
        "of the network, brighter blue where the network is surer. The last picture is the object as it was kept. "
        f"Bar: {page.length(bar_nm)}.",
    )


MARGIN = 6
