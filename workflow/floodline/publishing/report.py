"""`report.html`: a run, for a scientist who was not there. `provenance.json`: what made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from floodline import config as configuration
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import read_json, write_json, write_text
from floodline.publishing import calibration, curves, inputs, page, provenance, scores, training
from floodline.publishing.pictures import slices_section


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
            slices_section(experiment),
            inputs.sections(experiment),
            scores.section(records, _read(experiment.metrics.with_name("worst.json"), [])),
            calibration.section(experiment),
            _neurons(neurons),
            training.section(experiment),
            _flooding(experiment),
            _times(made_with),
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
    items = [("Volume", f"{extent} µm", f"{_product(box.size_xyz)} voxels of {voxel} nm (x, y, z)")]
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


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _neurons(neurons: pd.DataFrame, shown: int = 10) -> str:
    if neurons.empty:
        return ""
    neurons = neurons.assign(cable_um=neurons["cable_nm"] / 1000)
    lengths = neurons["cable_um"][neurons["cable_um"] > 0]
    drawn = [
        page.figure(page.image(curves.distribution(values.to_numpy(), label), "image/svg+xml", label))
        for values, label in ((neurons["volume_um3"], "volume, µm³"), (lengths, "length of the skeleton, µm"))
        if len(values)
    ]
    columns = {
        "neuron": "neuron",
        "volume_um3": "volume, µm³",
        "surface_um2": "surface, µm²",
        "cable_um": "skeleton, µm",
        "branch_points": "branch points",
        "contacts": "touches neurons",
    }
    largest = neurons.nlargest(shown, "voxels").astype({"neuron": str, "branch_points": "Int64"})
    rows = [[None if pd.isna(value) else value for value in row] for row in largest[[*columns]].values.tolist()]
    table = page.table([*columns.values()], rows, caption="The largest neurons")
    return page.section("Neurons", page.plots(*drawn), table)


def _flooding(experiment: Experiment) -> str:
    blocks = _read(experiment.inference / "manifest.json", {}).get("blocks", [])
    if not blocks:
        return ""
    calls, seconds = (sum(block[key] for block in blocks) for key in ("network_calls", "seconds"))
    voxels = sum(Box.of(block["box_xyz"]).voxels for block in blocks)
    segments = sum(block["segments"] for block in blocks)
    network, precision = experiment.config.network, experiment.config.inference.precision
    return page.section(
        "Flooding",
        page.paragraph(
            f"{page.number(len(blocks))} overlapping sub-volumes were flooded with {page.number(calls)} network calls, "
            f"{1000 * calls / voxels:.2f} per thousand voxels, and gave {page.number(segments)} segments. With a field "
            f"of view of {_product(network.fov_xyz)} voxels and depth {network.depth}, in {precision} precision, a "
            f"worker made {calls / seconds:.1f} calls a second."
        ),
    )


def _product(xyz: tuple[int, int, int]) -> str:
    return " × ".join(str(n) for n in xyz)


def _times(made_with: dict[str, Any]) -> str:
    steps = {name: step for name, step in made_with["steps"].items() if step["seconds"] is not None}
    if not steps:
        return ""
    names = {name: name.replace("_", " ") for name in steps}
    rows = [
        [names[name], step["seconds"], step["cpu_seconds"], None if step["peak_mb"] is None else round(step["peak_mb"])]
        for name, step in steps.items()
    ]
    plot = curves.bars({names[name]: step["seconds"] for name, step in steps.items()}, "seconds")
    machine = made_with["machine"]
    return page.section(
        "Times",
        page.paragraph(f"On {machine['processor']}, {machine['cores']} cores. Steps may have run side by side."),
        page.plots(
            page.figure(page.image(plot, "image/svg+xml", "Seconds of each step")),
            page.table(["step", "seconds", "processor seconds", "peak memory, MB"], rows),
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
