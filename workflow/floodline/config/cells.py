"""The cells of a study: each a configuration of its own, and a name that says what is special about it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import ValidationError

from floodline.config.experiment import Config
from floodline.config.sentence import sentence
from floodline.config.study import WORKERS, Value
from floodline.errors import FloodlineError


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes:
        name: of its folder, training/<name>; it depends on the cell's own values and on nothing else, so that a cell
            keeps its results when the matrix grows.
        values: by axis.
        seed: of its random choices.
        workers: how many train it.
        config: the study's configuration with these values in place.
    """

    name: str
    values: dict[str, Value]
    seed: int
    workers: int
    config: Config


def cells(config: Config) -> dict[str, Cell]:
    """The cells by name, in the order of the matrix.

    Raises:
        FloodlineError: the configuration has no study, or an axis is unknown or has an impossible value.
    """
    if config.study is None:
        raise FloodlineError(f"{config.name} is no study: its configuration has no key study.")
    found: dict[str, Cell] = {}
    for matrix in config.study.matrix:
        for combination in product(*matrix.values()):
            for seed in config.study.seeds:
                cell = _cell(config, dict(zip(matrix, combination, strict=True)), seed)
                found.setdefault(cell.name, cell)
    return found


def _cell(config: Config, wanted: dict[str, Value], seed: int) -> Cell:
    tree = config.model_dump(mode="json", exclude={"study"}) | {"seed": seed}
    for axis, value in wanted.items():
        if axis != WORKERS:
            _put(tree, axis, value)
    try:
        own = Config.model_validate(tree)
    except ValidationError as error:
        raise FloodlineError(f"study.matrix, {wanted}: {sentence(error)}") from None
    workers = wanted.get(WORKERS, 1)
    assert isinstance(workers, int)
    # As the configuration understands them: YAML reads 1e-3 as a text.
    values = {axis: workers if axis == WORKERS else _get(own, axis) for axis in wanted}
    parts = [f"{axis.removeprefix('training.')}-{_text(value)}" for axis, value in values.items()]
    return Cell("_".join([*parts, f"seed-{seed}"]), values, seed, workers, own)


def _put(tree: dict[str, Any], axis: str, value: Value) -> None:
    *above, last = axis.split(".")
    for part in above:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            raise FloodlineError(f"study.matrix: '{axis}' cannot be an axis: '{part}' is not there, or has no keys.")
        tree = inner
    tree[last] = value


def _get(config: Any, axis: str) -> Any:
    for part in axis.split("."):
        config = getattr(config, part)
    return config


def _text(value: Value) -> str:
    """A value as a part of a file's name."""
    return "".join(c if c.isalnum() or c in ".-+" else "-" for c in str(value).lower())
