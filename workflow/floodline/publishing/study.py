"""The report's section about a study: its figure, what it says in sentences, and the table of its trainings."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing import page, study_plots
from floodline.publishing.page import number
from floodline.studies.findings import Findings
from floodline.tables import read_table

Drawn = tuple[list[tuple[str, bytes]], list[str]]
"""Captions with their figures, and sentences."""

SHOWN = ["cell", "fovs", "seconds", "fovs_per_second", "loss", "accuracy", "f1", "held_out_accuracy", "held_out_f1"]
"""Columns of the table of all trainings."""


def section(experiment: Experiment) -> str:
    """The section; nothing where there is no study, or none that is done."""
    folder = experiment.folder
    if experiment.config.study is None or not (folder / "study.parquet").is_file():
        return ""
    found = read_json(folder / "study.json")
    table, curves, floods = (read_table(folder / f"study{part}.parquet") for part in ("", "_curves", "_floods"))
    figures, sentences = SECTIONS[found["figure"]](found, table, curves, floods)
    return page.section(
        "The study",
        page.paragraph(_compared(experiment, table)),
        page.plots(*(page.figure(page.image(svg, "image/svg+xml", text), text) for text, svg in figures)),
        *(page.paragraph(sentence) for sentence in sentences),
        _settings(table),
        _diverged(table),
        page.folded("All trainings", _all(table)),
    )


def _compared(experiment: Experiment, table: pd.DataFrame) -> str:
    study = experiment.config.study
    assert study is not None
    seeds = len(study.seeds)
    where = (
        "at the end, each after the fields of view that it was given"
        if study.compare_at == "fovs"
        else f"at the training time of the quickest, {number(float(table['seconds'].max()))} s"
    )
    each = "once" if seeds == 1 else f"{seeds} times with different seeds: means are shown, and their spread"
    return (
        f"{len(table)} trainings. Each setting was trained {each}. They are compared {where}. Scores of training "
        f"patches are means over the last {study.last:.0%} before that."
    )


def _settings(table: pd.DataFrame) -> str:
    """Means over seeds, and from the lowest to the highest."""
    scores = [name for name in ("accuracy", "f1", "held_out_accuracy", "held_out_f1") if name in table]
    rows = []
    for setting in table["setting"].unique().tolist():
        own = table[table["setting"] == setting]
        cells = [_spread(own.loc[~own["diverged"], name].dropna()) for name in scores]
        rows.append([setting or "as configured", len(own), int(own["diverged"].sum()), *cells])
    return page.table(
        ["setting", "trainings", "diverged", *(name.replace("_", " ") for name in scores)],
        rows,
        "Means over the trainings of a setting, with the lowest and the highest",
    )


def _spread(values: pd.Series[float]) -> str:
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})" if len(values) else "–"


def _diverged(table: pd.DataFrame) -> str:
    lost = table[table["diverged"]]
    if lost.empty:
        return ""
    rows = [[cell, int(fovs)] for cell, fovs in zip(lost["cell"], lost["total_fovs"], strict=True)]
    caption = "Trainings whose loss stopped being a number: a result as any other"
    return page.table(["diverged", "after fields of view"], rows, caption)


def _all(table: pd.DataFrame) -> str:
    columns = [name for name in SHOWN if name in table]
    rows = table[columns].astype(object).where(table[columns].notna(), None).to_numpy().tolist()
    return page.table([name.replace("_", " ") for name in columns], rows)


def _learning_rate(found: Findings, table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Drawn:
    by, score = found["by"].replace("_", " "), found["score"].replace("_", " ")
    best = "; ".join(f"{c['n']}: {_best_rate(c)}" for c in found["columns"] if c["best_rate"])
    sentences = [
        f"Best learning rate by {by}, with its {score}: {best}. Between seeds of one setting the score has a standard "
        f"deviation of {number(found['noise'])}."
    ]
    if found["rule"]:
        sentences.append(
            f"Fitted rule: the best rate grows with the {by} to the power of {found['rule']['exponent']:.2f} (1 would "
            "be linear scaling, 0.5 the square root)."
        )
    return [(f"Learning rates by {by}; colours: {score}", study_plots.learning_rates(found))], sentences


def _best_rate(column: Findings) -> str:
    others = [f"{rate:g}" for rate in column["tied_rates"] if rate != column["best_rate"]]
    same = f"; not told apart from it: {', '.join(others)}" if others else ""
    return f"{column['best_rate']:g} ({column['best_score']:.3f}{same})"


def _optimizers(found: Findings, table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Drawn:
    figures = [
        (f"{name} against wall time, each optimiser at its best setting", study_plots.optimisers(found, curves, score))
        for score, name in (("f1", "F1"), ("accuracy", "Accuracy"))
    ]
    best = "; ".join(
        f"{one['optimiser']} {one['mean']:.3f} ({one['min']:.3f} to {one['max']:.3f}) at {one['learning_rate']:g} with "
        f"a warm-up of {number(int(one['warmup_fovs']))} fields of view"
        for one in found["best"]
    )
    return figures, [f"Best learning rate of each, by {found['score'].replace('_', ' ')}: {best}."]


def _batch_size(found: Findings, table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Drawn:
    rows = curves.merge(table[["cell", "global_batch"]], on="cell")
    figures = [
        (f"F1 against {label}, by global batch", study_plots.batches(found, rows, along, label))
        for along, label in (("fovs", "fields of view seen"), ("seconds", "seconds of training"))
    ]
    if found["target_f1"] is None:
        return figures, []
    caption = f"Steps and fields of view until an F1 of {found['target_f1']:.2f}, by global batch"
    figures.append((caption, study_plots.knee(found)))
    sentences = [
        f"Until an F1 of {found['target_f1']:.2f} (training patches, running mean): "
        + "; ".join(f"batch {batch['global_batch']}: {_reached(batch)}" for batch in found["batches"])
        + "."
    ]
    if found["knee"]:
        sentences.append(
            f"The knee is at a global batch of {found['knee']['batch']:.0f}: there, steps and fields of view are each "
            "twice the fewest that the fit allows. Larger batches save few steps for many fields of view."
        )
    return figures, sentences


def _reached(batch: Findings) -> str:
    if batch["fovs_to_target"] is None:
        return "not reached"
    return f"{number(int(batch['fovs_to_target']))} fields of view in {number(round(batch['steps_to_target']))} steps"


def _checkpoints(found: Findings, table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Drawn:
    if not found["cells"]:
        return [], ["No flood with any checkpoint found an object."]
    known = floods.dropna(subset=["adapted_rand_error"])
    known = known.assign(voi=known["voi_split"] + known["voi_merge"], minutes=known["seconds"] / 60)
    figures = [
        (f"A held-out box flooded with each checkpoint: {label}; a line a training",
         study_plots.checkpoints(known, score, label))
        for score, label in (("adapted_rand_error", "adapted Rand error"), ("voi", "variation of information, bits"))
    ]  # fmt: skip
    sentences = [
        f"{one['cell']}: lowest adapted Rand error {one['best']['adapted_rand_error']:.3f} after "
        f"{number(int(one['best']['fovs']))} fields of view, last {one['last']['adapted_rand_error']:.3f}; in the "
        f"second half between {one['second_half']['lowest']:.3f} and {one['second_half']['highest']:.3f}."
        for one in found["cells"]
    ]
    return figures, sentences


def _scaling(found: Findings, table: pd.DataFrame, curves: pd.DataFrame, floods: pd.DataFrame) -> Drawn:
    lines = "; ".join(map(_speed, found["rows"]))
    model = found["model"]
    fitted = (
        "The scaling model needs the speeds of one worker and of at least three other numbers of them."
        if model is None
        else f"The model: a worker alone computes {number(model['own'])} s a step, loses {model['interference']:.1%} "
        f"once it listens to others, computing times spread by {model['spread']:.1%}, and a hop takes "
        f"{1e6 * model['latency']:.0f} µs."
    )
    figure = ("Parallel efficiency by workers", study_plots.efficiency(pd.DataFrame(found["rows"])))
    return [figure], [f"{lines}.", fitted]


def _speed(one: Findings) -> str:
    model = "" if one["model"] is None else f" (model {one['model']:.1%})"
    return (
        f"{one['workers']} workers: {number(one['fovs_per_second'])} fields of view a second ({number(one['lowest'])} "
        f"to {number(one['highest'])}), {number(one['per_worker'])} a worker, efficiency {one['efficiency']:.1%}{model}"
    )


SECTIONS: dict[str, Callable[[Findings, pd.DataFrame, pd.DataFrame, pd.DataFrame], Drawn]] = {
    "learning_rate": _learning_rate,
    "optimizers": _optimizers,
    "batch_size": _batch_size,
    "checkpoints": _checkpoints,
    "scaling": _scaling,
}
