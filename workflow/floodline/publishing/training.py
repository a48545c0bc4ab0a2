"""The report's section about training: curves, the choice of the checkpoint, and what augmentation does to examples."""

from __future__ import annotations

import pandas as pd

from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing import curves, page

SCORES = ("accuracy", "precision", "recall", "f1")
HELD_OUT = "held_out_"


def section(experiment: Experiment) -> str:
    """The section; nothing where there was no training here."""
    path = experiment.training / "log.csv"
    log = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    if log.empty:
        return ""
    network = experiment.config.network
    return page.section(
        "Training",
        page.paragraph(
            f"A flood-filling network of {network.depth} residual modules with {network.features} features saw "
            f"{_seen(experiment, int(log['fovs'].iloc[-1]))}. "
            "Thin lines are single summaries, thick ones a running mean."
        ),
        page.plots(*_plots(log)),
        _checkpoints(experiment),
        _augmentation(experiment),
    )


def _seen(experiment: Experiment, fovs: int) -> str:
    """So many fields of view of each size, in their order."""
    training = experiment.config.training
    parts = []
    for view in training.first_views if training else ():
        parts.append((min(view.fovs, fovs), view.fov_xyz))
        fovs -= parts[-1][0]
    parts.append((fovs, experiment.config.network.fov_xyz))
    return ", then ".join(
        f"{page.number(seen)} fields of view of {' × '.join(map(str, fov_xyz))} voxels"
        for seen, fov_xyz in parts
        if seen
    )


def _plots(log: pd.DataFrame) -> list[str]:
    plots = [
        (log, ["loss"], "loss (cross-entropy)", False),
        (log, list(SCORES), "of voxels in training patches", True),
        (log, ["learning_rate"], "learning rate", False),
    ]
    if f"{HELD_OUT}f1" in log:
        held_out = log.dropna(subset=[f"{HELD_OUT}f1"])[["fovs", *(HELD_OUT + name for name in SCORES)]]
        held_out = held_out.rename(columns=lambda name: name.removeprefix(HELD_OUT))
        plots.insert(2, (held_out, list(SCORES), "of voxels in held-out patches", True))
    return [
        page.figure(page.image(curves.learning_curve(*plot), "image/svg+xml", f"Training: {plot[2]}")) for plot in plots
    ]


def _checkpoints(experiment: Experiment) -> str:
    """The floods that the checkpoint was chosen by."""
    path = experiment.training / "metrics.json"
    records = read_json(path).get("checkpoints", []) if path.is_file() else []
    if not records:
        return ""
    columns = {
        "fovs": "fields of view seen",
        "adapted_rand_error": "adapted Rand error",
        "voi_split": "VOI split, bits",
        "voi_merge": "VOI merge, bits",
        "coverage": "coverage",
    }
    rows = [[record.get(name) for name in columns] for record in records]
    return page.table(
        [*columns.values()],
        rows,
        f"A box that training did not see, flooded with the weights of the last checkpoints ({_convention(records)}); "
        "the best of them became the model",
        [bool(record["chosen"]) for record in records],
    )


def _convention(records: list[dict[str, object]]) -> str:
    known = next((str(record["convention"]) for record in records if "convention" in record), "")
    return "every labelled voxel counts" if known == "all_labelled" else "voxels with a label and a segment count"


def _augmentation(experiment: Experiment) -> str:
    """An example as it is, and what augmentation makes of it."""
    folder = experiment.training / "augmentation"
    titles = read_json(folder / "pictures.json") if (folder / "pictures.json").is_file() else {}
    if not titles:
        return ""
    pictures = [
        (title, page.image((folder / name).read_bytes(), "image/png", f"Example, {title}"))
        for name, title in titles.items()
    ]
    return page.panels(
        pictures,
        "One example as the network may see it: x to the right, z downwards, the outline of the object in orange. "
        "Defects of sections are shown more often than they come.",
    )
