"""Places worth a look, as annotation layers of the viewer: uncertain decisions, and the worst mergers and splits."""

from __future__ import annotations

from typing import Any

import pandas as pd

from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing.colours import PALETTE, rgb

MAX_DECISIONS = 100
"""They travel in the viewer's address, which should not grow without end."""

SIZE = "setPointMarkerSize(9.0);"
MERGER, SPLIT = "#ff5533", "#ffdd33"
KEPT_APART, MERGED = (tuple(round(part / 255, 3) for part in rgb(PALETTE[i])) for i in (1, 0))


def layers(experiment: Experiment) -> list[dict[str, Any]]:
    """Annotation layers of what is there: `decisions` of the agglomeration, `mergers` and `splits` of the neurons."""
    found = [_decisions(experiment)] if (experiment.agglomeration / "mapping.parquet").is_file() else []
    worst = experiment.metrics.with_name("worst.json")
    if worst.is_file():
        mistakes = [mistake for mistake in read_json(worst) if mistake["segmentation"] == "neurons"]
        for kind, colour in (("merger", MERGER), ("split", SPLIT)):
            points = [
                _point(
                    f"{kind} {i}",
                    mistake["position_xyz"],
                    f"{kind} {i} in {mistake['box_name']}: {mistake['voxels']} voxels, true neurons "
                    f"{_listed(mistake['neurons'])}, segments {_listed(mistake['segments'])}",
                    mistake["segments"],
                )
                for i, mistake in enumerate((m for m in mistakes if m["kind"] == kind), start=1)
            ]
            shader = f"void main() {{ setColor(defaultColor()); {SIZE} }}\n"
            found.append(_layer(experiment, f"{kind}s", points, "neurons", annotationColor=colour, shader=shader))
    return [layer for layer in found if layer["annotations"]]


def query(mistake: dict[str, Any]) -> str:
    """Leads from the viewer's address to a mistake of `worst.json`, with its segments selected."""
    at, segments = (",".join(map(str, mistake[key])) for key in ("position_xyz", "segments"))
    return f"?at={at}&{mistake['segmentation']}={segments}"


def _decisions(experiment: Experiment) -> dict[str, Any]:
    """The contacts whose scores are nearest to the threshold, coloured by score; hidden until they are asked for."""
    edges = pd.read_parquet(experiment.agglomeration / "edges.parquet")
    neuron = pd.read_parquet(experiment.agglomeration / "mapping.parquet").set_index("supervoxel")["neuron"]
    doubt = (edges["score"] - experiment.config.agglomeration.solver.threshold).abs()
    shown = edges.loc[doubt.sort_values(kind="stable").index[:MAX_DECISIONS]]
    points = []
    for row in shown.to_dict("records"):
        a, b, score = row["a"], row["b"], row["score"]
        decided = "merged" if neuron[a] == neuron[b] else "kept apart"
        text = f"{score:.3f}, {decided}: {a} and {b}, {row['contact_area']} faces"
        point = _point(f"{a}-{b}", (row["x"], row["y"], row["z"]), text, [a, b])
        points.append(point | {"props": [round(score, 3)]})
    return _layer(
        experiment,
        "decisions",
        points,
        "supervoxels",
        visible=False,
        annotationProperties=[{"id": "score", "type": "float32", "description": "1: one neuron"}],
        shader=f"void main() {{ setColor(mix(vec3{KEPT_APART}, vec3{MERGED}, prop_score())); {SIZE} }}\n",
    )


def _layer(
    experiment: Experiment, name: str, points: list[dict[str, Any]], segmentation: str, **more: Any
) -> dict[str, Any]:
    voxel_size_nm_xyz = read_json(experiment.manifest("image"))["voxel_size_nm_xyz"]
    dimensions = {axis: [nm * 1e-9, "m"] for axis, nm in zip("xyz", voxel_size_nm_xyz, strict=True)}
    return {
        "type": "annotation",
        "name": name,
        "source": {"url": "local://annotations", "transform": {"outputDimensions": dimensions}},
        "annotations": points,
        "linkedSegmentationLayer": {"segments": segmentation},
        "tab": "annotations",
        **more,
    }


def _point(name: str, voxel_xyz: Any, description: str, segments: list[Any]) -> dict[str, Any]:
    """A point in the middle of a voxel, with the segments that it is about."""
    return {
        "type": "point",
        "id": name,
        "point": [int(place) + 0.5 for place in voxel_xyz],
        "description": description,
        "segments": [[str(segment) for segment in segments]],
    }


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
