"""A study: one training for each cell of a matrix, everything else alike."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from floodline.config.base import Fraction, Model, NonNegative, key

WORKERS = "workers"
"""The axis of a matrix that is no key of the configuration: how many workers train."""

VARIABLE = ("training.", "network.depth", "network.features")
"""What else an axis may be: these keys decide nothing that is made before the training, so that the cells share it."""

Value = StrictBool | StrictInt | StrictFloat | StrictStr | None
Matrix = dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]]


class Study(Model):
    """A matrix of trainings: `snakemake study`. What they share is made once; each is a job of its own."""

    figure: Literal["learning_rate", "optimizers", "batch_size", "checkpoints", "scaling"] = key(
        "What is drawn of the results; docs/studies.md describes each."
    )
    matrix: Annotated[tuple[Matrix, ...], Field(min_length=1)] = key(
        "Mappings from an axis to its values, e.g. {workers: [1, 2], training.learning_rate.base: [0.001, 0.003]}. A "
        "cell is a combination of the values of one mapping. An axis is the number of workers, a key of training, or "
        "network.depth or network.features."
    )
    seeds: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = key(
        "Each cell is trained once with each of these in place of seed; the spread is shown.", (1, 2, 3)
    )
    compare_at: Literal["fovs", "time"] = key(
        "Where cells are compared: at the end, when all have seen the same fields of view, or at the training time of "
        "the quickest.",
        "fovs",
    )
    last: Annotated[Fraction, Field(gt=0)] = key(
        "Scores of training patches are means over this last part of what a cell has seen by then.", 0.2
    )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        for matrix in self.matrix:
            for axis, values in matrix.items():
                if axis != WORKERS and not axis.startswith(VARIABLE):
                    raise ValueError(
                        f"matrix: '{axis}' cannot be an axis: workers, keys of training, network.depth and "
                        "network.features can"
                    )
                if axis == WORKERS and not all(type(value) is int and value > 0 for value in values):
                    raise ValueError(f"matrix: workers must be positive whole numbers, not {list(values)}")
        return self
