"""A study by its one command: cells as jobs of their own, which grow, resume and may diverge."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from running import Workflow

RATE = "training.learning_rate.base"


def study(folder: Path, matrix: list[dict], figure: str = "learning_rate", **training: object) -> Workflow:
    tree = yaml.safe_load((Path(__file__).parent / "tiny.yaml").read_text())
    tree["sites"]["held_out_xyz"] = [[[48, 0, 0], [72, 64, 56]]]
    tree["training"] |= training
    tree["study"] = {"figure": figure, "matrix": matrix, "seeds": [1]}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return Workflow(folder, path)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Workflow:
    """One cell with one worker and one with two; a learning rate that diverges."""
    run = study(tmp_path_factory.mktemp("study"), [{"workers": [1, 2], RATE: [0.01]}, {RATE: [1000.0]}])
    run("study")
    return run


def results(run: Workflow) -> Path:
    return run.folder / "results" / "tiny"


def test_the_table_has_a_row_for_each_cell_and_one_that_diverged_stops_nothing(done):
    table = pd.read_parquet(results(done) / "study.parquet").set_index("cell")
    assert table["diverged"].to_dict() == {
        "workers-1_learning_rate.base-0.01_seed-1": False,
        "workers-2_learning_rate.base-0.01_seed-1": False,
        "learning_rate.base-1000.0_seed-1": True,
    }
    whole = table[~table["diverged"]]
    assert whole["workers"].tolist() == [1, 2]
    assert whole["global_batch"].tolist() == [4, 8]
    assert (whole["fovs"] == 256).all()
    assert whole[["accuracy", "held_out_accuracy", "fovs_per_second"]].notna().all(axis=None)
    assert len(pd.read_csv(results(done) / "study.csv")) == 3


def test_the_report_shows_the_figure(done):
    page = (results(done) / "report.html").read_text()
    assert "Learning rates by workers" in page
    assert "learning_rate.base-1000.0_seed-1" in page


def test_a_second_run_does_nothing(done):
    assert done.planned("study") == {}


def test_a_new_value_runs_only_its_own_cells(done):
    grown = study(done.folder, [{"workers": [1, 2], RATE: [0.01, 0.02]}, {RATE: [1000.0]}])
    assert grown.planned("study") == {"study_cell": 2, "study_table": 1, "report_page": 1, "study": 1}


def test_a_changed_training_runs_all_cells_and_nothing_that_they_share(done):
    changed = study(done.folder, [{"workers": [1, 2], RATE: [0.01]}, {RATE: [1000.0]}], clip=0.5)
    assert changed.planned("study") == {"study_cell": 3, "study_table": 1, "report_page": 1, "study": 1}


def test_cells_whose_speeds_are_compared_do_not_run_side_by_side(tmp_path):
    printed = study(tmp_path, [{"workers": [1], RATE: [0.01, 0.02]}], "scaling")("study", "--cores", "2")
    events = re.findall(r"^localrule study_cell:|^Finished jobid: \d+ \(Rule: study_cell\)", printed, re.M)
    began = ["Finished" not in event for event in events]
    assert began == [True, False, True, False]


def test_a_study_without_a_study_is_one_sentence(tiny):
    printed = tiny("study", "--dry-run", ok=False)
    assert "floodline: tiny is no study: its configuration has no key study" in printed
    assert "Traceback" not in printed


def test_an_interrupted_study_goes_on(tmp_path):
    """It is stopped in the middle of its first cell, which goes on from its checkpoint."""
    run = study(tmp_path, [{RATE: [0.01, 0.02]}], fovs=6000, checkpoint_fovs=200)
    folder = results(run) / "training"
    process = subprocess.Popen(run.command("study", "--cores", "1"), env=run.environment, start_new_session=True)
    cells = [folder / f"learning_rate.base-{rate}_seed-1" for rate in (0.01, 0.02)]

    def wait(what) -> None:
        until = time.monotonic() + 300
        while not what():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)

    wait(lambda: any((cell / "checkpoint.block").exists() for cell in cells))
    begun, other = sorted(cells, key=lambda cell: not (cell / "checkpoint.block").exists())
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    process.wait()
    assert not (begun / "metrics.json").exists()
    run("study")
    log = results(run) / "logs" / "study" / f"{begun.name}.log"
    assert "resumed after" in log.read_text()
    assert "resumed after" not in log.with_name(f"{other.name}.log").read_text()
    assert len(pd.read_parquet(results(run) / "study.parquet")) == 2
