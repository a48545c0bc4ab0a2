"""Pictures of an example and of what augmentation makes of it, for the report."""

from __future__ import annotations

import io

import numpy as np

from floodline.config import Defects, Training
from floodline.experiment import Experiment
from floodline.manifest import write_atomically, write_json
from floodline.training.examples import Example, Turn, cut
from floodline.training.movement import Geometry
from floodline.training.volume import Volumes

ZOOM = 3
"""Pixels a voxel."""

TURNS = 20
"""Turns that are drawn to find one that shows: many leave the slice as it is."""

MANY = 0.3
"""In the pictures a defect of sections hits so large a part of them, so that it can be seen."""


def draw(experiment: Experiment, volumes: Volumes, training: Training, geometry: Geometry) -> None:
    """Write `augmentation/*.png`, and `augmentation/pictures.json` with their titles, in order.

    The same example is shown as it is, turned, and with each defect that is switched on: its slice across the sections
    (x to the right, z downwards), with the outline of the object.
    """
    rng = experiment.rng("pictures")
    drawn = [volumes.draw(rng) for _ in range(100)]
    volume, site = next(((v, site) for v, site in drawn if v.labels[site]), drawn[0])
    plain = cut(volume, site, geometry.canvas)
    pictures = {"as it is": plain}
    if training.permutable_axes or training.reflectable_axes:
        turns = (Turn.draw(rng, training.permutable_axes, training.reflectable_axes) for _ in range(TURNS))
        turned = [cut(volume, site, geometry.canvas, turn) for turn in turns]
        changed = (one for one in turned if not np.array_equal(_slice(one.image), _slice(plain.image)))
        pictures["permuted and reflected"] = next(changed, turned[0])
    for title, defects in shown(training.defects).items():
        pictures[title] = cut(volume, site, geometry.canvas, defects=defects, rng=rng)
    folder = experiment.training / "augmentation"
    titles = {}
    for number, (title, example) in enumerate(pictures.items()):
        content = _png(example)
        write_atomically(folder / f"{number}.png", lambda file, content=content: file.write(content))  # type: ignore[misc]
        titles[f"{number}.png"] = title
    write_json(folder / "pictures.json", titles)


def shown(defects: Defects) -> dict[str, Defects]:
    """Each defect that is switched on, alone, and often enough to be seen."""
    single = {
        "contrast": ("contrast", defects.contrast),
        "brightness": ("brightness", defects.brightness),
        "missing sections": ("missing_sections", MANY),
        "misaligned sections": ("misaligned_sections", MANY),
        "blurred sections": ("blurred_sections", MANY),
    }
    sizes = {"max_displacement": defects.max_displacement, "max_blur": defects.max_blur}
    return {
        title: Defects(**{name: value}, **sizes) for title, (name, value) in single.items() if getattr(defects, name)
    }


def _slice(array: np.ndarray) -> np.ndarray:
    """The middle slice across the sections, (z, x)."""
    return array[:, array.shape[1] // 2]


def _png(example: Example) -> bytes:
    """The middle slice, the object's outline in orange."""
    from PIL import Image

    grey = np.clip(128 + 50 * _slice(example.image), 0, 255).astype(np.uint8)
    inside = _slice(example.target) > 0.5
    big, mask = (np.kron(array, np.ones((ZOOM, ZOOM), array.dtype)) for array in (grey, inside))
    edge = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1))
    rgb = np.stack([big] * 3, axis=-1)
    rgb[edge] = (230, 159, 0)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()
