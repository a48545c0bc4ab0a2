"""The model of scaling: against the published numbers, against a simulation, and against what must hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from floodline.cli import app
from floodline.errors import FloodlineError
from floodline.studies import forecast
from floodline.studies.scaling import PUBLISHED, PUBLISHED_AT_2048, Model, fit, slowest, what_if
from floodline.studies.simulation import step_times

models = st.builds(
    Model,
    own=st.floats(0.01, 10),
    interference=st.floats(0, 0.5),
    spread=st.floats(0, 0.2),
    latency=st.floats(0, 1e-4),
    bandwidth=st.floats(1e8, 1e10),
    algorithm=st.sampled_from(["ring", "tree", "hierarchy"]),
    overlapped=st.booleans(),
)


def test_fitted_to_1024_nodes_it_predicts_the_published_efficiency_at_2048():
    model = fit(PUBLISHED, 4)
    assert model.efficiency(2048) == pytest.approx(PUBLISHED_AT_2048, abs=0.03)
    for nodes, speed in PUBLISHED.items():
        assert model.rate(nodes) == pytest.approx(speed, rel=0.05), nodes


@given(models, st.integers(1, 5000))
def test_the_parts_of_a_step_add_up(model, nodes):
    parts = {"computing": model.efficiency(nodes), **model.losses(nodes)}
    assert all(part >= -1e-12 for part in parts.values())
    assert sum(parts.values()) == pytest.approx(1)


@given(models, st.integers(1, 12).map(lambda power: 2**power))
def test_more_workers_are_never_more_efficient_and_one_alone_is(model, nodes):
    assert model.efficiency(2 * nodes) <= model.efficiency(nodes) + 1e-9
    assert Model(own=model.own, spread=model.spread, interference=model.interference).efficiency(1) == pytest.approx(1)


def test_the_largest_of_normal_draws_is_as_large_as_tables_say():
    # Means of the largest order statistic of n standard normal draws (Harter 1961).
    assert [slowest(n) for n in (1, 2, 10, 100)] == pytest.approx([0, 0.56419, 1.53875, 2.50759], abs=1e-4)


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("workers", [1, 4, 32])
def test_events_one_by_one_take_as_long_as_the_formula_says(workers, overlapped):
    model = Model(1.0, interference=0.1, spread=0.05, latency=2e-3, bandwidth=1e8, messages=3, overlapped=overlapped)
    simulated = step_times(model, workers, 60, np.random.default_rng(5))
    assert simulated.mean() == pytest.approx(model.step(workers), rel=0.03)


def test_a_fit_finds_what_made_the_speeds():
    made = Model(own=2.0, fovs=8, interference=0.08, spread=0.03, latency=2e-5, messages=10)
    found = fit({n: made.rate(n) for n in (1, 2, 8, 64, 512)}, 8, messages=10)
    assert [found.interference, found.spread, found.latency] == pytest.approx([0.08, 0.03, 2e-5], rel=1e-3)


def test_a_fit_to_too_little_is_one_sentence():
    with pytest.raises(FloodlineError, match="at least three other numbers of workers"):
        fit({1: 1.0, 2: 1.9}, 4)


def test_what_would_help_helps_what_it_is_about():
    model = fit(PUBLISHED, 4)
    changed = what_if(model)
    for name in ("fused into one message", "tree", "overlapped with the backward pass"):
        assert changed[name].efficiency(2048) > model.efficiency(2048) + 0.05, name
    # The published gradients are small: their bytes were not the trouble.
    assert changed["bfloat16 gradients"].efficiency(2048) == pytest.approx(model.efficiency(2048), abs=1e-3)
    assert replace(model, latency=0.0).losses(2048)["latency, growing with the workers"] == 0


def test_the_command_takes_a_table_of_ones_own(tmp_path):
    made = Model(own=2.0, fovs=8, interference=0.08, spread=0.03, latency=2e-5, messages=10)
    table = tmp_path / "speeds.csv"
    table.write_text("workers,fovs_per_second\n" + "".join(f"{n},{made.rate(n)}\n" for n in (1, 2, 8, 64)))
    command = ["scaling", str(table), "--fovs", "8", "--tensors", "10", "--workers", "100"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert f"{made.efficiency(100):.1%}"[:-1] in result.output


@pytest.mark.parametrize(
    "content", [None, "workers\n1\n", "workers,fovs_per_second\none,2\n", "workers,fovs_per_second\n"]
)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path, content):
    path = tmp_path / "speeds.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FloodlineError, match="speeds"):
        forecast.read_speeds(path)
