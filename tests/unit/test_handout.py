"""The hand-out on recorded calls: the ranks of a job end together."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks/handout.py"


@pytest.fixture(scope="module")
def handout():
    """The simulation, which is a benchmark."""
    spec = importlib.util.spec_from_file_location("handout", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["handout"] = module
    spec.loader.exec_module(module)
    return module


def test_the_clock_is_that_of_the_longest_first_rule(handout):
    # Two ranks: 3 | 2, then 2 goes on behind 2.
    assert handout.idle_share(np.array([3.0, 2.0, 2.0]), 2) == pytest.approx(1 - 7 / (2 * 4))
    assert handout.idle_share(np.array([1.0] * 6), 3) == 0
    # A long one that comes last keeps one rank busy alone.
    assert handout.idle_share(np.array([1.0, 1.0, 6.0]), 2) == pytest.approx(1 - 8 / (2 * 7))


@pytest.mark.parametrize("side", [62, 125])
@pytest.mark.parametrize("per_rank", [8, 16])
def test_from_eight_recorded_sub_volumes_a_rank_on_64_ranks_idle_less_than_a_twentieth(handout, fib25, side, per_rank):
    recorded = handout.recorded_calls(fib25 / "published_segmentation.h5", side)
    for seed in range(5):
        lengths = np.random.default_rng(seed).choice(recorded, 64 * per_rank)
        assert handout.idle_share(np.sort(lengths)[::-1], 64) < 0.05
        if side == 125:
            assert handout.idle_share(lengths, 64) < 0.05
