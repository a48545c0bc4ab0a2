"""Studies: cells that keep their names, fair tables, and findings that recover what made the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from floodline import config as configuration
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.publishing import study as section
from floodline.studies import findings, run
from floodline.studies.table import curve, results

PHANTOM = {"source": {"kind": "phantom", "size_xyz": [48, 48, 48]}}
RATE = "training.learning_rate.base"


def tree(matrix: list[dict], **study: object) -> dict:
    training = {"batch_size": 4, "learning_rate": {"base": 0.01, "scaling": "none"}}
    figure = {"figure": "learning_rate", "matrix": matrix, "seeds": [1], **study}
    return {"name": "s", "image": PHANTOM, "labels": PHANTOM, "training": training, "study": figure}


def names(matrix: list[dict], **study: object) -> list[str]:
    return list(configuration.cells(configuration.parse(tree(matrix, **study))))


def test_a_cell_is_named_by_its_own_values_alone():
    before = names([{"workers": [1], RATE: [0.01]}])
    after = names([{"workers": [1, 2], RATE: [0.003, 0.01]}, {"training.optimiser.kind": ["sgd"]}], seeds=[1, 2])
    assert before == ["workers-1_learning_rate.base-0.01_seed-1"]
    assert set(before) < set(after)
    assert len(after) == 2 * (4 + 1)


def test_a_cell_has_the_studys_configuration_with_its_values_in_place():
    config = configuration.parse(tree([{"workers": [2], RATE: ["1e-3"], "network.depth": [3]}], seeds=[7]))
    (cell,) = configuration.cells(config).values()
    assert (cell.workers, cell.seed, cell.config.seed) == (2, 7, 7)
    assert cell.config.training.learning_rate.base == 0.001, "YAML reads 1e-3 as a text"
    assert cell.config.network.depth == 3
    assert cell.config.study is None
    changed = {"study", "seed", "network", "training"}
    assert cell.config.model_dump(exclude=changed) == config.model_dump(exclude=changed)


@pytest.mark.parametrize(
    ("axis", "values", "said"),
    [
        ("training.lerning_rate", [1], "did you mean 'learning_rate'?"),
        ("training.fovs", [-1], "key 'training.fovs'"),
        ("inference.precision", ["float32"], "'inference.precision' cannot be an axis"),
        ("network.fov_xyz", [9], "'network.fov_xyz' cannot be an axis"),
        ("training.fovs.more", [1], "'training.fovs.more' cannot be an axis"),
        ("workers", [0], "workers must be positive whole numbers"),
        ("workers", [True], "workers must be positive whole numbers"),
    ],
)
def test_an_impossible_matrix_is_one_sentence(axis, values, said):
    with pytest.raises(FloodlineError) as caught:
        configuration.parse(tree([{axis: values}]))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_needs_training():
    values = tree([{}]) | {"training": None, "network": {"weights": "w"}}
    with pytest.raises(FloodlineError, match="a study needs training"):
        configuration.parse(values)


def test_seconds_of_a_curve_are_those_of_its_rows():
    log = pd.DataFrame({"fovs": [100.0, 200.0, 400.0], "fovs_per_second": [10.0, 20.0, 10.0]})
    assert curve(log)["seconds"].tolist() == [10, 15, 35]


def trained(tmp_path: Path, matrix: list[dict], logs: dict[str, pd.DataFrame], floods=None, **study) -> Experiment:
    """A study whose trainings left these logs; None: it diverged at once."""
    experiment = Experiment(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "config.yaml").write_text(configuration.dump(configuration.parse(tree(matrix, **study))))
    for name in configuration.cells(experiment.config):
        folder = Experiment(tmp_path, name).training
        folder.mkdir(parents=True)
        log = logs.get(name)
        if log is not None:
            log.to_csv(folder / "log.csv", index=False)
        fovs = 8 if log is None else float(log["fovs"].iloc[-1])
        metrics = {"fovs": fovs, "diverged": log is None, "checkpoints": (floods or {}).get(name, [])}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return experiment


def log(score: np.ndarray | float, rate: float = 10.0, held_out: bool = False) -> pd.DataFrame:
    fovs = np.arange(100.0, 1100.0, 100.0)
    rows = pd.DataFrame({"fovs": fovs, "loss": 1.0, "learning_rate": 0.1, "fovs_per_second": rate})
    for name in ("accuracy", "precision", "recall", "specificity", "f1", "patch_loss"):
        rows[name] = score
        if held_out:
            rows["held_out_" + name] = np.where(fovs % 500 == 0, fovs / 1000, np.nan)
    return rows


def test_cells_are_compared_after_the_same_fields_of_view_or_the_same_time(tmp_path):
    matrix = [{"training.batch_size": [4, 8]}]
    rising = np.arange(1, 11) / 10
    logs = {"batch_size-4_seed-1": log(rising, 10.0, True), "batch_size-8_seed-1": log(rising, 20.0, True)}
    at_end, _, _ = results(trained(tmp_path / "fovs", matrix, logs, last=0.2))
    assert at_end["fovs"].tolist() == [1000, 1000]
    assert at_end["f1"].tolist() == pytest.approx([0.95, 0.95]), "mean of the last fifth"
    assert at_end["held_out_f1"].tolist() == [1.0, 1.0]
    in_time, _, _ = results(trained(tmp_path / "time", matrix, logs, last=0.2, compare_at="time"))
    assert in_time["seconds"].tolist() == [50, 50]
    assert in_time["fovs"].tolist() == [500, 1000]
    assert in_time["f1"].tolist() == pytest.approx([0.5, 0.95])
    assert in_time["held_out_f1"].tolist() == [0.5, 1.0]


def test_a_diverged_cell_is_a_row_without_scores(tmp_path):
    matrix = [{RATE: [0.01, 1000.0]}]
    experiment = trained(tmp_path, matrix, {"learning_rate.base-0.01_seed-1": log(0.5)})
    run.run(experiment)
    table = pd.read_csv(tmp_path / "study.csv").set_index("learning_rate")
    assert table.loc[1000, "diverged"] and not table.loc[0.01, "diverged"]
    assert np.isnan(table.loc[1000, "accuracy"]) and table.loc[0.01, "accuracy"] == 0.5
    assert table.loc[1000, "total_fovs"] == 8
    assert "learning_rate.base-1000.0_seed-1" in section.section(experiment)


def test_a_study_in_which_all_diverged_is_still_a_study(tmp_path):
    experiment = trained(tmp_path, [{RATE: [0.01, 1.0]}], {})
    run.run(experiment)
    assert "2 trainings" in section.section(experiment)


def test_a_cell_that_was_not_trained_is_named(tmp_path):
    experiment = trained(tmp_path, [{RATE: [0.01]}], {})
    (Experiment(tmp_path, "learning_rate.base-0.01_seed-1").training / "metrics.json").unlink()
    with pytest.raises(FloodlineError, match=r"base-0\.01_seed-1 has no metrics\.json"):
        run.run(experiment)


def test_the_rule_of_learning_rates_is_found(tmp_path):
    """Accuracies that are highest at 0.001 sqrt(n) in every column."""
    rates, workers = [0.001, 0.002, 0.004], [1, 4, 16]
    matrix = [{"workers": workers, RATE: rates}]
    logs = {
        f"workers-{n}_learning_rate.base-{rate}_seed-{seed}": log(0.9 - abs(np.log2(rate / (0.001 * n**0.5))) / 10)
        for n in workers
        for rate in rates
        for seed in (1, 2)
    }
    experiment = trained(tmp_path, matrix, logs, seeds=[1, 2])
    run.run(experiment)
    found = json.loads((tmp_path / "study.json").read_text())
    assert found["by"] == "workers"
    assert [column["best_rate"] for column in found["columns"]] == rates
    assert found["rule"]["exponent"] == pytest.approx(0.5)
    assert found["rule"]["factor"] == pytest.approx(0.001)
    assert "to the power of 0.50" in section.section(experiment)


def test_rates_that_seeds_cannot_tell_apart_count_together():
    rows = [(rate, seed, score) for rate, scores in ((0.1, (0.5, 0.7)), (0.2, (0.55, 0.75)), (0.4, (0.2, 0.4)))
            for seed, score in enumerate(scores)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["learning_rate", "seed", "accuracy"]).assign(
        workers=1, global_batch=4, diverged=False
    )
    (column,) = findings.learning_rate(table, pd.DataFrame(), pd.DataFrame())["columns"]
    assert column["best_rate"] == 0.2
    assert column["tied_rates"] == [0.1, 0.2]


def test_each_optimisers_best_setting_is_found(tmp_path):
    matrix = [{"training.optimiser.kind": ["adam", "sgd"], RATE: [0.01, 0.1]}]
    scores = {("adam", 0.01): 0.8, ("adam", 0.1): 0.3, ("sgd", 0.01): 0.2, ("sgd", 0.1): 0.6}
    logs = {f"optimiser.kind-{k}_learning_rate.base-{r}_seed-1": log(score) for (k, r), score in scores.items()}
    experiment = trained(tmp_path, matrix, logs, figure="optimizers")
    run.run(experiment)
    best = json.loads((tmp_path / "study.json").read_text())["best"]
    assert [(one["optimiser"], one["learning_rate"]) for one in best] == [("adam", 0.01), ("sgd", 0.1)]
    assert best[0]["cells"] == ["optimiser.kind-adam_learning_rate.base-0.01_seed-1"]
    assert "adam 0.800" in section.section(experiment)


def test_the_knee_of_batch_sizes_is_found(tmp_path):
    """F1 that reaches 0.8 after 200 + 10 b fields of view: the knee is at 20."""
    sizes = [4, 8, 16, 32, 64]
    fovs = np.arange(2.0, 2002.0, 2.0)
    logs = {}
    for size in sizes:
        one = pd.DataFrame({"fovs": fovs, "loss": 1.0, "learning_rate": 0.1, "fovs_per_second": 10.0})
        for name in ("accuracy", "precision", "recall", "specificity", "f1"):
            one[name] = 0.8 * np.minimum(fovs / (200 + 10 * size), 1.0)
        logs[f"batch_size-{size}_seed-1"] = one
    experiment = trained(tmp_path, [{"training.batch_size": sizes}], logs, figure="batch_size")
    run.run(experiment)
    found = json.loads((tmp_path / "study.json").read_text())
    assert all(batch["fovs_to_target"] for batch in found["batches"])
    assert found["knee"]["batch"] == pytest.approx(20, rel=0.15)
    assert "The knee is at a global batch of" in section.section(experiment)


def test_the_best_checkpoint_and_the_spread_are_found(tmp_path):
    errors = [None, 0.6, 0.2, 0.5, 0.3]
    records = [
        {"fovs": 100 * i, "seconds": 10.0 * i, "adapted_rand_error": error, "voi_split": 1.0, "voi_merge": 0.5,
         "coverage": 0.5, "chosen": i == 2}
        for i, error in enumerate(errors)
    ]  # fmt: skip
    floods = {"fovs-1000_seed-1": records}
    experiment = trained(
        tmp_path, [{"training.fovs": [1000]}], {"fovs-1000_seed-1": log(0.5)}, floods, figure="checkpoints"
    )
    run.run(experiment)
    (one,) = json.loads((tmp_path / "study.json").read_text())["cells"]
    assert (one["best"]["fovs"], one["last"]["adapted_rand_error"]) == (200, 0.3)
    assert one["second_half"] == {"lowest": 0.3, "highest": 0.5}
    assert "lowest adapted Rand error 0.200" in section.section(experiment)


def test_checkpoints_need_a_box_to_flood(tmp_path):
    experiment = trained(tmp_path, [{RATE: [0.01]}], {"learning_rate.base-0.01_seed-1": log(0.5)}, figure="checkpoints")
    with pytest.raises(FloodlineError, match=r"needs training\.selection"):
        run.run(experiment)


def test_efficiencies_are_of_one_workers_speed(tmp_path):
    logs = {f"workers-{n}_seed-1": log(0.5, rate) for n, rate in ((1, 10.0), (2, 18.0), (4, 30.0), (8, 56.0))}
    experiment = trained(tmp_path, [{"workers": [1, 2, 4, 8]}], logs, figure="scaling")
    run.run(experiment)
    found = json.loads((tmp_path / "study.json").read_text())
    assert [row["efficiency"] for row in found["rows"]] == pytest.approx([1, 0.9, 0.75, 0.7])
    assert [row["model"] for row in found["rows"]] == pytest.approx([1, 0.9, 0.75, 0.7], abs=0.06)
    assert "efficiency 75.0%" in section.section(experiment)


def test_scaling_needs_one_worker(tmp_path):
    experiment = trained(tmp_path, [{"workers": [2]}], {"workers-2_seed-1": log(0.5)}, figure="scaling")
    with pytest.raises(FloodlineError, match="one worker"):
        run.run(experiment)


def test_an_experiment_without_a_study_is_none():
    values = {key: value for key, value in tree([{}]).items() if key != "study"}
    with pytest.raises(FloodlineError, match="s is no study"):
        configuration.cells(configuration.parse(values))


def test_a_run_that_is_no_cell_is_named(tmp_path):
    experiment = trained(tmp_path, [{RATE: [0.01]}], {})
    with pytest.raises(FloodlineError, match=r"nonsense is no cell of the study s; there is learning_rate"):
        _ = Experiment(experiment.folder, "nonsense").config
