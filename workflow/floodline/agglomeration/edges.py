"""The scores of all contacts, from everything that is known of them by then.

edges.parquet       the contacts (contacts.parquet) with what their resegmentation measured (resegment.py) and `score`.

Three ways to a score: a model that was trained on labels (`agglomeration.model`); without one, the published rule for
contacts that were resegmented, and the built-in rule (score.py) for all others.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from floodline.agglomeration.model import Model
from floodline.agglomeration.resegment import MEASURED, accepted
from floodline.agglomeration.score import score
from floodline.experiment import Experiment
from floodline.tables import read_table, write_table

logger = logging.getLogger(__name__)

SURE = 0.99
"""The score of a contact that the published rule accepts; of one that it refuses, what is missing to 1."""


def run(experiment: Experiment) -> None:
    """Write `edges.parquet`.

    Raises:
        FloodlineError: a table or the model is missing or damaged.
    """
    folder, wanted = experiment.agglomeration, experiment.config.agglomeration.model
    (folder / "edges.parquet").unlink(missing_ok=True)
    edges = read_contacts(experiment)
    edges["score"] = by_rules(edges) if wanted is None else Model.load(Path(wanted)).score(edges)
    logger.info("%d contacts, %d of them above 0.5", len(edges), int((edges["score"] > 0.5).sum()))
    write_table(folder / "edges.parquet", edges)


def read_contacts(experiment: Experiment) -> pd.DataFrame:
    """The contacts with what their resegmentation measured, where that is configured; NaN where nothing was flooded.

    Raises:
        FloodlineError: a table is missing or damaged.
    """
    contacts = read_table(experiment.agglomeration / "contacts.parquet")
    if experiment.config.agglomeration.resegmentation is None:
        return contacts.assign(**dict.fromkeys(MEASURED, np.nan))
    measured = read_table(experiment.agglomeration / "resegmentation.parquet")
    return contacts.merge(measured[["a", "b", *MEASURED]], on=["a", "b"], how="left", validate="one_to_one")


def by_rules(edges: pd.DataFrame) -> np.ndarray:
    """Scores without a model."""
    resegmented = edges["a_recovers_a"].notna()
    return np.where(resegmented, np.where(accepted(edges), SURE, 1 - SURE), score(edges))
