"""The report's sections on what came in: quality of the image, its normalisation, cleaning of the labels."""

from __future__ import annotations

from typing import Any

import pandas as pd

from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing import curves, page

MEANINGS = {
    "missing": "one grey value throughout",
    "black": "far darker than the sections around it",
    "repeated": "the same as the section before it",
    "blurred": "less sharp than the sections around it",
    "shifted": "does not lie where the sections around it do",
    "jump": "differs from the section before it more than is usual: sections may be absent between them",
    "low_contrast": "flatter than the sections around it",
    "saturated": "many voxels have the lowest or the highest grey value there is",
}


def sections(experiment: Experiment) -> str:
    """All of them, as far as there is something to show."""
    return _quality(experiment) + _normalisation(experiment) + _cleaning(experiment)


def _quality(experiment: Experiment) -> str:
    folder = experiment.quality
    if not (folder / "manifest.json").is_file():
        return ""
    about, found = read_json(folder / "manifest.json"), pd.read_parquet(folder / "findings.parquet")
    profiles = pd.read_parquet(folder / "profiles.parquet")
    drawn = [
        page.figure(page.image(curves.profile(profiles, axis), "image/svg+xml", f"Grey values along {axis}"))
        for axis in "xyz"
    ]
    return page.section(
        "Quality of the image",
        page.paragraph(_verdict(about)),
        _findings_table(found, about["tiles"]),
        *_pictures(experiment, found),
        page.paragraph(
            "Below: mean grey value, and one standard deviation on either side, at each place of each axis, as the "
            "source has them."
        ),
        page.plots(*drawn),
    )


def _verdict(about: dict[str, Any]) -> str:
    sections = page.number(about["sections"])
    if not about["findings"]:
        return f"{sections} sections were compared with their neighbours, and none is damaged."
    damaged = {z for finding in about["findings"] for z in finding["sections"]}
    return (
        f"{sections} sections were compared with their neighbours: there are findings in {page.number(len(damaged))}."
    )


def _findings_table(found: pd.DataFrame, tiles: int, shown: int = 50) -> str:
    if found.empty:
        return ""
    rows = []
    for _, group in found.groupby(["z0", "kind"]):
        kind, z = str(group["kind"].iloc[0]), int(group["z0"].iloc[0])
        means = (float(group[name].mean()) for name in ("value", "usual"))
        rows.append([kind, z, f"{len(group)} of {tiles}", *means, MEANINGS[kind]])
    columns = ["finding", "z", "tiles", "measured", "usual there", "what it means"]
    more = f"The first {shown} of {len(rows)} findings" if len(rows) > shown else "Findings"
    return page.table(columns, rows[:shown], caption=f"{more}; all are in quality/findings.parquet")


def _pictures(experiment: Experiment, found: pd.DataFrame) -> list[str]:
    figures = []
    for path in sorted((experiment.quality / "pictures").glob("*.png"), key=lambda path: int(path.stem)):
        finding = found.iloc[int(path.stem)]
        caption = f"{finding['kind']} at z = {finding['z0']}, between the sections before and after it."
        figures.append(page.figure(page.image(path.read_bytes(), "image/png", caption), caption))
    return figures


def _normalisation(experiment: Experiment) -> str:
    folder = experiment.beside("image") / "previews"
    if not (folder / "previews.json").is_file():
        return ""
    steps = read_json(folder / "previews.json")["steps"]
    pictures = [
        (name[:1].upper() + name[1:], page.image((folder / f"{number}.png").read_bytes(), "image/png", name))
        for number, name in enumerate(steps)
    ]
    image = read_json(experiment.manifest("image"))
    return page.section(
        "Normalisation of the image",
        page.panels(pictures, "The middle of the middle section, as its source has it and after each step."),
        page.paragraph(
            f"What the network sees has a mean of {page.number(image['mean'])} and a standard deviation of "
            f"{page.number(image['stddev'])}."
        ),
    )


def _cleaning(experiment: Experiment) -> str:
    manifest = experiment.manifest("labels")
    cleaning = read_json(manifest).get("cleaning") if manifest.is_file() else None
    if not cleaning:
        return ""
    names = {
        "before": "as the source has them",
        "disconnected": "disconnected pieces split off, or removed",
        "small_objects": "small objects removed",
        "holes": "holes filled",
        "eroded": "boundaries eroded",
        "after": "as they were used",
    }
    rows = [
        [
            names[step],
            counts.get("objects"),
            counts.get("pieces", counts.get("holes")),
            counts.get("voxels", counts.get("labelled_voxels")),
        ]
        for step, counts in cleaning.items()
    ]
    return page.section(
        "Cleaning of the labels",
        page.paragraph("The source of the labels was not changed."),
        page.table(["step", "objects", "pieces or holes", "voxels"], rows),
    )
