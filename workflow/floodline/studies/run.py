"""A study's results: tables of its trainings, and what they say."""

from __future__ import annotations

import logging

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.manifest import write_json, write_text
from floodline.studies import findings
from floodline.studies.table import results
from floodline.tables import write_table

logger = logging.getLogger("floodline")


def run(experiment: Experiment) -> None:
    """Write `study_curves.parquet`, `study_floods.parquet`, `study.csv`, `study.json` and, last, `study.parquet`.

    Raises:
        FloodlineError: the experiment is no study, a cell was not trained, or the matrix lacks what the figure needs.
    """
    folder, study = experiment.folder, experiment.config.study
    if study is None:
        raise FloodlineError(f"{experiment.config.name} is no study: its configuration has no key study.")
    (folder / "study.parquet").unlink(missing_ok=True)
    table, curves, floods = results(experiment)
    write_json(folder / "study.json", findings.of(study.figure, table, curves, floods))
    write_table(folder / "study_curves.parquet", curves)
    write_table(folder / "study_floods.parquet", floods)
    write_text(folder / "study.csv", table.to_csv(index=False, lineterminator="\n"))
    write_table(folder / "study.parquet", table)
    logger.info("%d trainings, %d of them diverged", len(table), table["diverged"].sum())
