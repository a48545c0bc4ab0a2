"""The neurons in the report: how they look in 3D, how large they are, and which touch which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing import curves, network, page
from floodline.publishing.colours import rgb
from floodline.publishing.rendering import Drawing, Surface
from floodline.volumes.layer import open_cloud_volume
from floodline.volumes.remote import exists, reaching

COLUMNS = {
    "neuron": "neuron",
    "volume_um3": "volume, µm³",
    "surface_um2": "surface, µm²",
    "cable_um": "skeleton, µm",
    "branch_points": "branch points",
    "contacts": "touches neurons",
}
ROWS = 10
ALONE, SMALL = 6, (400, 400)


def neurons_section(experiment: Experiment, neurons: pd.DataFrame, contacts: pd.DataFrame) -> str:
    """Everything about the neurons; nothing if there are none.

    Args:
        neurons, contacts: the tables of the connectome.
    """
    if neurons.empty:
        return ""
    neurons = neurons.assign(cable_um=neurons["cable_nm"] / 1000)
    lengths = neurons["cable_um"][neurons["cable_um"] > 0]
    drawn = [
        page.figure(page.image(curves.distribution(values.to_numpy(), label), "image/svg+xml", label))
        for values, label in ((neurons["volume_um3"], "volume, µm³"), (lengths, "length of the skeleton, µm"))
        if len(values)
    ]
    largest = neurons.nlargest(ROWS, "voxels").astype({"neuron": str, "branch_points": "Int64"})
    rows = [[None if pd.isna(value) else value for value in row] for row in largest[[*COLUMNS]].values.tolist()]
    return page.section(
        "Neurons",
        _in_3d(experiment),
        page.plots(*drawn),
        page.table([*COLUMNS.values()], rows, caption="The largest neurons"),
        _touching(experiment, neurons, contacts),
        _synapses(experiment),
    )


def _in_3d(experiment: Experiment) -> str:
    """The meshes that the viewer selects when it opens, in its colours."""
    state = experiment.folder / "neuroglancer.json"
    layers = read_json(state)["layers"] if state.is_file() else []
    colours: dict[str, str] = next(
        (layer.get("segmentColors", {}) for layer in layers if layer["name"] == "neurons"), {}
    )
    neurons = experiment.layer("neurons")
    if not colours or not exists(neurons, "mesh/info"):
        return ""
    with reaching(neurons, "read"):
        meshes = open_cloud_volume(neurons).mesh.get([*map(int, colours)])
    box = experiment.image_box
    nm = np.array(read_json(experiment.manifest("image"))["voxel_size_nm_xyz"])
    corners = np.array(box.start_xyz) * nm, np.array(box.stop_xyz) * nm
    surfaces = {
        label: Surface(meshes[label].vertices, meshes[label].faces, rgb(colour))
        for label, colour in ((int(label), colour) for label, colour in colours.items())
    }
    drawing = Drawing(*corners)
    for surface in surfaces.values():
        drawing.add(surface)
    alone = []
    for label in [*surfaces][:ALONE]:
        small = Drawing(*corners, SMALL)
        small.add(surfaces[label])
        alone.append((str(label), page.image(small.finish(), "image/jpeg", f"Neuron {label}")))
    what = f"The {len(meshes)} largest neurons, in the colours of the viewer"
    caption = f"{what}. The frame is the volume. Bar: {page.length(drawing.bar_nm)}."
    together = page.figure(page.image(drawing.finish(), "image/jpeg", what), caption)
    return together + page.panels(alone, "The largest of them, each alone in the same frame.")


def _touching(experiment: Experiment, neurons: pd.DataFrame, contacts: pd.DataFrame) -> str:
    if contacts.empty:
        return ""
    largest, between = network.shown(neurons, contacts)
    if between.empty:
        return ""
    nm = tuple(read_json(experiment.manifest("image"))["voxel_size_nm_xyz"])
    pictures: list[tuple[bytes, str]] = [
        (network.matrix(largest, between), "Area of contact between each two."),
        (
            network.graph(largest, between, nm),
            "The same on the map of the volume: discs by volume, in the middle of each neuron's box; lines by area.",
        ),
    ]
    sites = int(contacts["sites"].sum())
    return (
        page.subtitle("Which neuron touches which")
        + page.paragraph(
            f"{page.number(len(contacts))} pairs of neurons touch, at {page.number(sites)} separate places, over "
            f"{page.number(contacts['area_nm2'].sum() / 1e6)} µm². Shown are the {len(largest)} largest neurons."
        )
        + page.plots(*(page.figure(page.image(picture, "image/svg+xml", text), text) for picture, text in pictures))
    )


def _synapses(experiment: Experiment) -> str:
    path = experiment.connectome / "synaptic_pairs.parquet"
    if not path.is_file():
        return ""
    pairs = pd.read_parquet(path)
    rows: list[list[Any]] = pairs.nlargest(ROWS, "synapses").astype({"pre": str, "post": str}).values.tolist()
    return (
        page.subtitle("Synapses")
        + page.paragraph(
            f"{page.number(int(pairs['synapses'].sum()))} synapses connect {page.number(len(pairs))} pairs of neurons."
        )
        + page.table([name.replace("_", " ") for name in pairs.columns], rows, caption="The strongest connections")
    )
