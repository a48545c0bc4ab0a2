"""The pool: every task once, in order, to whoever is free; failures end everything; the time limit ends it cleanly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pool_crew
import pytest

from floodline import allocation, pool
from floodline.allocation import OutOfTime
from floodline.errors import FloodlineError
from floodline.parallel import LAUNCHER_ENVIRONMENT


def on_processes(tasks, workers):
    results = []
    pool.run(pool_crew.CREW, lambda hand_out: results.extend(hand_out(tasks)), workers)
    return results


def launch(tasks, ranks, **environment):
    """The crew's program under mpirun."""
    launcher = Path(sys.executable).parent / "mpirun"
    return subprocess.run(
        [launcher, "-n", str(ranks), sys.executable, pool_crew.__file__, json.dumps(tasks)],
        env={**os.environ, **LAUNCHER_ENVIRONMENT, **environment},
        text=True,
        capture_output=True,
        timeout=120,
    )


def on_ranks(tasks, ranks):
    run = launch(tasks, ranks)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


TASKS = [(f"task{i}", 0.01) for i in range(12)]


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_do_every_task_once(workers):
    results = on_processes(TASKS, workers)
    assert sorted(r["name"] for r in results) == sorted(name for name, _ in TASKS)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_do_every_task_once(ranks):
    results = on_ranks(TASKS, ranks)
    assert sorted(r["name"] for r in results) == sorted(name for name, _ in TASKS)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_process_mentions_is_heard_before_its_result(workers):
    heard: list[str] = []

    def lead(hand_out):
        for result in hand_out(TASKS, heard.append):
            assert f"{result['name']} by {result['worker']}" in heard

    pool.run(pool_crew.CREW, lead, workers)
    assert len(heard) == len(TASKS)


def test_what_a_rank_mentions_is_heard_before_its_result():
    assert all(result["heard"] for result in on_ranks(TASKS, 3))


def test_a_worker_without_a_leader_mentions_to_nobody():
    pool.mention("nothing happens")


def test_all_ranks_work_the_leading_one_too():
    results = on_ranks([(f"task{i}", 0.3) for i in range(6)], 2)
    assert {r["worker"] for r in results} == {"0", "1"}


def test_tasks_are_handed_out_in_the_order_of_the_list():
    results = on_processes([(f"{i:02d}", 0.05) for i in range(8)], 2)
    for worker in {r["worker"] for r in results}:
        mine = [r["name"] for r in sorted(results, key=lambda r: r["began"]) if r["worker"] == worker]
        assert mine == sorted(mine)
    assert [r["name"] for r in on_processes([("b", 0.0), ("a", 0.0), ("c", 0.0)], 1)] == ["b", "a", "c"]


def test_a_long_task_does_not_hold_back_the_others():
    results = on_processes([("long", 3.0)] + [(f"short{i}", 0.05) for i in range(6)], 2)
    long = next(r for r in results if r["name"] == "long")
    assert results[-1] is long
    assert [r["worker"] == long["worker"] for r in results[:-1]] == [False] * 6


def test_a_worker_keeps_its_state_between_tasks():
    results = on_processes(TASKS, 1)
    assert [r["count"] for r in results] == list(range(1, 13))


def test_a_failing_process_ends_the_work_with_its_sentence():
    began = time.monotonic()
    with pytest.raises(FloodlineError, match="the task was impossible"):
        on_processes([("fail", 0), ("long", 60.0)], 2)
    assert time.monotonic() - began < 30


def test_what_another_process_has_under_way_is_kept_when_one_fails(tmp_path):
    with pytest.raises(FloodlineError, match="the task was impossible"):
        on_processes([(str(tmp_path / "kept"), 60.0), ("fail", 5)], 2)
    assert (tmp_path / "kept").exists()


def test_a_killed_process_is_noticed():
    with pytest.raises(FloodlineError, match="signal 9"):
        on_processes([("kill", 0), ("long", 60.0)], 2)


@pytest.mark.parametrize("failing", [0, 1], ids=["first task", "second task"])
def test_a_failing_rank_ends_all_ranks_with_its_own_message(failing):
    tasks = [("long", 60.0), ("long", 60.0)]
    tasks[failing] = ("fail", 1.0)
    began = time.monotonic()
    run = launch(tasks, 2)
    assert run.returncode != 0
    assert f"floodline: rank {failing} of 2: the task was impossible." in run.stderr
    assert "Traceback" not in run.stderr
    assert time.monotonic() - began < 45


def test_near_the_end_of_the_job_no_task_is_begun(monkeypatch):
    monkeypatch.setenv(allocation.END, str(time.time() + 2))
    results = []
    with pytest.raises(OutOfTime):
        pool.run(pool_crew.CREW, lambda hand_out: results.extend(hand_out([("a", 0.3)] * 40)))
    # 0.9 of the two seconds, and the task that was running then.
    assert 1 <= len(results) <= 7


def test_a_task_that_runs_out_of_time_is_left_and_the_others_results_are_kept():
    run = launch([("late", 0.5), ("kept", 1.0), *[("never", 0.1)] * 50], 2)
    assert run.returncode == allocation.EXIT_STATUS, run.stderr
    assert "kept" in [r["name"] for r in json.loads(run.stdout)]
    assert len(json.loads(run.stdout)) < 20
