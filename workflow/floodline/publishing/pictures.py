"""The report's slices: image, supervoxels, neurons and truth, plane by plane, in matching colours."""

from __future__ import annotations

import numpy as np

from floodline.experiment import Experiment
from floodline.geometry import Box, triple
from floodline.manifest import read_json
from floodline.publishing import colours, page, slices
from floodline.volumes.layer import Layer

NAMES = {"supervoxels": "Supervoxels", "neurons": "Neurons", "labels": "Truth"}


def place(experiment: Experiment) -> tuple[tuple[int, int, int], Box | None]:
    """Where the slices are taken: the middle of the scored box, else of the labels or the image. And the scored box."""
    boxes = experiment.config.evaluation.boxes
    scored = Box.of(boxes[0].box_xyz).intersection(experiment.image_box) if boxes else None
    labels = experiment.manifest("labels")
    around = scored or (Box.of(read_json(labels)["box_xyz"]) if labels.is_file() else experiment.image_box)
    return triple((a + b) // 2 for a, b in zip(around.start_xyz, around.stop_xyz, strict=True)), scored


def slices_section(experiment: Experiment) -> str:
    """Three orthogonal slices of every layer that there is."""
    centre, scored = place(experiment)
    image = Layer.open(experiment.layer("image"))
    planes = slices.planes_through(image.box, centre)
    names = [name for name in NAMES if experiment.manifest(name).is_file()]
    layers = {name: Layer.open(experiment.layer(name)) for name in names}
    labels = {name: [plane.read(layer) for plane in planes] for name, layer in layers.items()}
    chosen = _colours(labels)

    grey_planes = [plane.read(image) for plane in planes]
    everything = np.concatenate([plane.ravel() for plane in grey_planes])
    contrast = (float(np.percentile(everything, 0.5)), float(np.percentile(everything, 99.5)))
    figures = []
    for i, plane in enumerate(planes):
        canvas = slices.Canvas.of(plane, image.voxel_size_nm_xyz)
        bar_nm = slices.bar_length(canvas.width / canvas.pixels_per_nm)
        frame = plane.frame(scored) if scored else None
        background = slices.grey(grey_planes[i], canvas, contrast)
        pictures = {"Image": background} | {
            NAMES[name]: slices.overlay(background, labels[name][i], chosen[name]) for name in names
        }
        where = f"{plane.name} slice at {'xyz'[plane.across]} = {plane.place}"
        outline = " Dashed: the outline of the scored box." if frame else ""
        figures.append(
            page.panels(
                [
                    (
                        title,
                        page.image(
                            slices.finish(picture, canvas, bar_nm, frame, plane), "image/jpeg", f"{title}, {where}"
                        ),
                    )
                    for title, picture in pictures.items()
                ],
                f"The {where}. Bar: {page.length(bar_nm)}.{outline}",
            )
        )
    return page.section("What it looks like", page.paragraph(_explanation(names)), *figures)


def _explanation(names: list[str]) -> str:
    how = "Each object has a colour, and a dark line around it; neighbours have different colours."
    if "labels" not in names:
        return how
    return (
        f"{how} An object has the colour of the true neuron that it matches best. So where the colour changes inside a "
        "true neuron, it was split; where one colour runs on into the next true neuron, they were merged; where no "
        "colour is, nothing was segmented (or, in the truth, labelled)."
    )


def _colours(labels: dict[str, list[np.ndarray]]) -> dict[str, dict[int, int]]:
    """Colours by layer; those of the truth, or else of the neurons, are the reference for the others."""
    reference: str | None = next((name for name in ("labels", "neurons", "supervoxels") if name in labels), None)
    if reference is None:
        return {}
    chosen = {reference: colours.assign(labels[reference])}
    for name in labels.keys() - {reference}:
        chosen[name] = colours.matched(labels[name], labels[reference], chosen[reference])
    return chosen
