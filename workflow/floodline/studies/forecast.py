"""`floodline scaling`: the model fitted to a table of speeds, where the time goes, and what would help."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from floodline.errors import FloodlineError
from floodline.studies.scaling import Model, fit, what_if

COLUMNS = ("workers", "fovs_per_second")


def read_speeds(path: Path) -> dict[int, float]:
    """Speeds by number of workers, from a CSV file with the columns `workers` and `fovs_per_second`.

    Raises:
        FloodlineError: the file is missing or is not such a table.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        speeds = {int(row[COLUMNS[0]]): float(row[COLUMNS[1]]) for row in rows}
    except OSError as error:
        raise FloodlineError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (KeyError, ValueError, TypeError):
        raise FloodlineError(f"{path} must be a CSV file with the columns {' and '.join(COLUMNS)}.") from None
    if not speeds or min(speeds) < 1 or min(speeds.values()) <= 0:
        raise FloodlineError(f"{path} must hold positive numbers of workers and speeds.")
    return speeds


def report(speeds: Mapping[int, float], fovs: int, parameters: int, tensors: int, wanted: Sequence[int]) -> str:
    """The whole answer, as text.

    Args:
        speeds: measured fields of view a second by number of workers.
        fovs: fields of view of a worker's step.
        parameters, tensors: of the network: gradients, and the tensors that they come in.
        wanted: numbers of workers to predict.
    """
    model = fit(speeds, fovs, messages=tensors, gradient_bytes=4.0 * parameters)
    sections = (_fitted(model), _table(model, speeds, wanted), _losses(model, wanted), _what_if(model, wanted))
    return "\n".join(line for section in sections for line in (*section, ""))


def _fitted(model: Model) -> Iterator[str]:
    yield f"one worker alone computes       {model.own:10.3f} s a step of {model.fovs} fields of view"
    yield f"listening while computing costs {100 * model.interference:10.1f} % of it (fitted)"
    yield f"spread of computing times       {100 * model.spread:10.1f} % of their mean (fitted)"
    yield f"latency of a hop                {1e6 * model.latency:10.2f} µs, {model.messages} messages (fitted)"
    yield f"bandwidth of a link             {model.bandwidth / 1e9:10.1f} GB/s (assumed)"


def _table(model: Model, speeds: Mapping[int, float], wanted: Sequence[int]) -> Iterator[str]:
    yield "workers  FOV/s measured  FOV/s model  efficiency measured  model"
    for workers in sorted({*speeds, *wanted}):
        speed = speeds.get(workers)
        measured = "              -" if speed is None else f"{speed:15.4g}"
        share = "                  -" if speed is None else f"{100 * speed / speeds[1] / workers:17.1f} %"
        efficiency = 100 * model.efficiency(workers)
        yield f"{workers:7d} {measured}  {model.rate(workers):11.4g}  {share}  {efficiency:4.1f} %"


def _losses(model: Model, wanted: Sequence[int]) -> Iterator[str]:
    yield "where the time goes, % of a step     " + "".join(f"{workers:>10,d}" for workers in wanted)
    losses = [{"computing": model.efficiency(workers), **model.losses(workers)} for workers in wanted]
    for name in losses[0]:
        yield f"{name:37s}" + "".join(f"{100 * one[name]:10.1f}" for one in losses)


def _what_if(model: Model, wanted: Sequence[int]) -> Iterator[str]:
    yield "efficiency, %, if                    " + "".join(f"{workers:>10,d}" for workers in wanted)
    for name, changed in what_if(model).items():
        yield f"{name:37s}" + "".join(f"{100 * changed.efficiency(workers):10.1f}" for workers in wanted)
