"""`neuroglancer.json`: what the viewer opens on."""

from __future__ import annotations

from typing import Any

from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import read_json, write_json
from floodline.publishing import places
from floodline.publishing.colours import PALETTE
from floodline.publishing.sizes import largest_neurons

SELECTED = 12
PIXELS_A_PANEL = 400
SEGMENTATIONS = {"labels": "truth", "supervoxels": "supervoxels", "neurons": "neurons"}


def run(experiment: Experiment) -> None:
    """Write `neuroglancer.json`, with sources below `publishing.data_url`.

    The layers that exist are in it: image, truth, supervoxels, neurons, decisions, mergers and splits. The neurons are
    shown, the largest of those that have both mesh and skeleton are selected; truth, supervoxels and decisions wait to
    be switched on.
    """
    write_json(experiment.folder / "neuroglancer.json", build(experiment, experiment.config.publishing.data_url))


def build(experiment: Experiment, data_url: str) -> dict[str, Any]:
    """The state of a Neuroglancer that finds the experiment's folder at `data_url`."""
    image = read_json(experiment.manifest("image"))
    box, voxel_size_nm_xyz = Box.of(image["box_xyz"]), image["voxel_size_nm_xyz"]
    layers: list[dict[str, Any]] = [{"type": "image", "name": "image", "source": f"precomputed://{data_url}/image"}]
    for folder, name in SEGMENTATIONS.items():
        if experiment.manifest(folder).is_file():
            layers.append(
                {
                    "type": "segmentation",
                    "name": name,
                    "source": f"precomputed://{data_url}/{folder}",
                    "visible": folder == "neurons",
                    "notSelectedAlpha": 0.15,
                }
            )
    neurons = experiment.layer("neurons")
    # A selected segment without a mesh or skeleton keeps the viewer waiting for ever.
    made = [experiment.manifest("neurons").with_name(f"{kind}.json") for kind in ("mesh", "skeletons")]
    manifests = [path for path in made if path.is_file()]
    if layers[-1]["name"] == "neurons" and manifests:
        selected = [str(label) for label in largest_neurons(neurons, SELECTED, *manifests)]
        layers[-1]["segments"] = selected
        layers[-1]["segmentColors"] = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(selected)}

    smallest = min(voxel_size_nm_xyz)
    extent = max(size * nm / smallest for size, nm in zip(box.size_xyz, voxel_size_nm_xyz, strict=True))
    return {
        "dimensions": {axis: [nm * 1e-9, "m"] for axis, nm in zip("xyz", voxel_size_nm_xyz, strict=True)},
        "position": [(a + b) / 2 for a, b in zip(box.start_xyz, box.stop_xyz, strict=True)],
        "crossSectionScale": min(1.0, extent / PIXELS_A_PANEL),
        "projectionScale": 1.5 * extent,
        "layers": [*layers, *places.layers(experiment)],
        "selectedLayer": {"layer": layers[-1]["name"], "visible": False},
        "layout": "4panel",
        "showSlices": False,
    }
