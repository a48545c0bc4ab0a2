"""`report.html`: a run, for a scientist who was not there. `provenance.json`: what made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from floodline import config as configuration
from floodline.experiment import Experiment
from floodline.manifest import read_json, write_json, write_text
from floodline.progress import duration
from floodline.publishing import calibration, curves, inputs, page, provenance, scores, study, training
from floodline.publishing.flooding import flooding_section
from floodline.publishing.neurons import neurons_section
from floodline.publishing.pictures import slices_section
from floodline.publishing.viewer import ADDRESS


def run(experiment: Experiment) -> None:
    """Write `provenance.json` and, last, `report.html`.

    Only the image is needed; what else is there is shown: labels, scores, training, flooding, neurons, times.

    Raises:
        FloodlineError: the image was not ingested, or a file that is there cannot be read.
    """
    report = experiment.folder / "report.html"
    report.unlink(missing_ok=True)
    made_with = provenance.collect(experiment)
    write_json(experiment.folder / "provenance.json", made_with)
    records = _read(experiment.metrics, [])
    neurons = _table(experiment.connectome / "neurons.parquet")
    write_text(
        report,
        page.document(
            f"{experiment.config.name} · floodline",
            _head(experiment, scores.headline(records), neurons, made_with),
            study.section(experiment),
            slices_section(experiment),
            inputs.sections(experiment),
            _viewer(experiment),
            scores.section(records, _read(experiment.metrics.with_name("worst.json"), [])),
            calibration.section(experiment),
            neurons_section(experiment, neurons, _table(experiment.connectome / "contacts.parquet")),
            training.section(experiment),
            flooding_section(experiment),
            _costs(made_with),
            _asked(experiment),
            _made_with(made_with),
        ),
    )


def _read(path: Path, otherwise: Any) -> Any:
    return read_json(path) if path.is_file() else otherwise


def _table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()


def _head(experiment: Experiment, best: scores.Record | None, neurons: pd.DataFrame, made_with: dict[str, Any]) -> str:
    config, image = experiment.config, read_json(experiment.manifest("image"))
    box = experiment.image_box
    extent = " × ".join(f"{n * nm / 1000:.3g}" for n, nm in zip(box.size_xyz, image["voxel_size_nm_xyz"], strict=True))
    voxel = " × ".join(f"{nm:g}" for nm in image["voxel_size_nm_xyz"])
    items = [("Volume", f"{extent} µm", f"{page.product(box.size_xyz)} voxels of {voxel} nm (x, y, z)")]
    if len(neurons):
        share = neurons["voxels"].sum() / box.voxels
        items.append(("Neurons", page.number(len(neurons)), f"they fill {share:.1%} of the volume"))
    if best:
        items += [
            ("Adapted Rand error", page.number(best["adapted_rand_error"]), "0 is perfect, 1 is worst"),
            ("Variation of information", f"{best['voi_split'] + best['voi_merge']:.2f} bits", "0 is perfect"),
        ]
    seconds = [step["seconds"] for step in made_with["steps"].values() if step["seconds"] is not None]
    if seconds:
        items.append(("Time", duration(sum(seconds)), "of all steps together"))
    return (
        f'<header>\n<p class="kicker">Segmentation report · floodline {made_with["floodline"]["version"]} · '
        f"{made_with['reported'][:10]}</p>\n<h1>{page.escape(config.name)}</h1>\n"
        f'<p class="verdict">{page.escape(scores.verdict(best, len(neurons)))}</p>\n{page.facts(items)}</header>\n'
    )


def _viewer(experiment: Experiment) -> str:
    folder = experiment.folder / "screenshots"
    made = _read(folder / "manifest.json", None)
    if made is None:
        return ""
    drawn = [
        page.figure(page.image((folder / one["file"]).read_bytes(), "image/jpeg", one["caption"]), one["caption"])
        for one in made["pictures"]
    ]
    return page.section(
        "In the viewer",
        page.command(f"floodline view results/{experiment.config.name}", "serves it; then this link opens it:"),
        page.link(ADDRESS, ADDRESS),
        *drawn,
        page.paragraph(made["why"]) if made["why"] else "",
    )


def _costs(made_with: dict[str, Any]) -> str:
    steps = {name: step for name, step in made_with["steps"].items() if step["seconds"] is not None}
    if not steps:
        return ""
    names = {name: name.replace("_", " ") for name in steps}
    rows, totals = [], dict.fromkeys(("cores", "nodes"), 0.0)
    for name, step in steps.items():
        reserved, unit = step["reserved"], step["unit"]
        hours = None if reserved is None else reserved * step["seconds"] / 3600
        totals[unit] += hours or 0.0
        rows.append(
            [
                names[name],
                step["seconds"],
                step["cpu_seconds"],
                None if step["peak_mb"] is None else round(step["peak_mb"]),
                "–" if reserved is None else f"{reserved:.0f} {unit if reserved > 1 else unit[:-1]}",
                hours,
            ]
        )
    cost = " and ".join(f"{page.number(total)} {unit[:-1]}-hours" for unit, total in totals.items() if total)
    plot = curves.bars({names[name]: step["seconds"] for name, step in steps.items()}, "seconds")
    machine = made_with["machine"]
    return page.section(
        "Times and costs",
        page.paragraph(
            f"On {machine['processor']}, {machine['cores']} cores (of the machine that made this page). Steps may have "
            "run side by side. A step costs what was reserved for it, for as long as it ran"
            f"{f': {cost} in all' if cost else ''}."
        ),
        page.plots(
            page.figure(page.image(plot, "image/svg+xml", "Seconds of each step")),
            page.table(["step", "seconds", "processor seconds", "peak memory, MB", "reserved", "unit-hours"], rows),
        ),
    )


def _asked(experiment: Experiment) -> str:
    resolved = configuration.dump(experiment.config)
    return page.section(
        "What was asked",
        page.paragraph(
            "The configuration, every default filled in. The same one on the same software gives the same result."
        ),
        page.folded("Configuration", f"<pre>{page.escape(resolved)}</pre>\n"),
    )


def _made_with(made_with: dict[str, Any]) -> str:
    versions = {"floodline": made_with["floodline"]["version"], "Python": made_with["python"], **made_with["packages"]}
    when, where = made_with["reported"], made_with["machine"]["system"]
    hashes = {"source code": made_with["floodline"]["source"], "configuration": made_with["config"]} | made_with[
        "files"
    ]
    return page.section(
        "What made it",
        page.folded("Versions", page.table(["software", "version"], [[*item] for item in versions.items()])),
        page.folded("Hashes (BLAKE2b, 128 bits)", page.table(["what", "hash"], [[*item] for item in hashes.items()])),
        f"<footer>Written {page.escape(when)} on {page.escape(where)}.</footer>\n",
    )
