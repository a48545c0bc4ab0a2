"""The theta and polaris profiles, with stand-ins for Cobalt's and PBS's commands that forward to a real Slurm.

So jobs really queue, run on several nodes, fail, run out of time and are cancelled; and the project's own commands and
job scripts are what runs. What a stand-in cannot show is in docs/clusters.md.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import yaml
from slurm_cluster import SlurmCluster
from submitting import BOXES, ROOT, Run, wait_for

ON_RANKS = ["train_network", *BOXES]
STAND_INS = {
    "theta": ("cobalt.py", ["qsub", "qstat", "qdel", "aprun"], "aprun -d 1 -j 1 -cc depth -N"),
    "polaris": ("pbs.py", ["qsub", "qstat", "qdel", "mpiexec"], "mpiexec --depth 1 --cpu-bind depth -ppn"),
}


@pytest.fixture(params=sorted(STAND_INS))
def profile(request) -> str:
    return request.param


def submitting(cluster: SlurmCluster, folder: Path, profile: str, *config: str, runtime: str = "1h") -> Run:
    """Runs of a profile, made small: two nodes for the queue's 128 or 10."""
    program, names, launcher = STAND_INS[profile]
    programs = folder / "programs"
    programs.mkdir()
    for name in names:
        (programs / name).symlink_to(Path(__file__).parent / program)
    given = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())
    one = {rule: {"mpi": f"{launcher} 1"} for rule, values in given["set-resources"].items() if "mpi" in values}
    large = {"nodes": 2, "limits": "2-4: 1m-3h", "runtime": runtime}
    changes = {
        "default-resources": {"setup": f"export PATH={programs}:{cluster.folder}/bin:$PATH"},
        "set-resources": {
            **one,
            **{rule: {**large, "tasks": 2, "mpi": f"{launcher} 1"} for rule in [*ON_RANKS, "resegment"]},
            "flood": {**large, "tasks": 4, "mpi": f"{launcher} 2"},
        },
        "latency-wait": 5,
        "retries": 0,
        "seconds-between-status-checks": 1,
        "max-status-checks-per-second": 10,
    }
    run = Run(cluster, folder, profile, changes, *config)
    run.environment["PATH"] = f"{programs}:{run.environment['PATH']}"
    run.environment["FLOODLINE_ACCOUNT"] = "proj"
    return run


def states_of(cluster: SlurmCluster, rule: str) -> list[str]:
    """How the jobs of a rule stand, the oldest first; a cancelled one takes a moment to end."""
    name = rule[:15]  # as much as PBS takes
    until = time.monotonic() + 30
    while True:
        states = cluster.run("squeue", "-h", "--states=all", "--sort=i", f"--name={name}", "--format=%T|%N").split()
        if time.monotonic() > until or not any(state.startswith(("RUNNING", "COMPLETING")) for state in states):
            return states
        time.sleep(0.2)


def test_training_runs_across_nodes_by_mpi(cluster, labelled, profile):
    run = submitting(cluster, labelled, profile)
    run("train")
    assert json.loads((run.results / "training/main/metrics.json").read_text())["ranks"] == 2
    state, _, nodes = states_of(cluster, "train_network")[-1].partition("|")
    assert state == "COMPLETED"
    assert nodes.startswith("n[")


def test_a_failing_job_is_reported_with_its_log(cluster, labelled, profile):
    run = submitting(cluster, labelled, profile, "network={weights: /nowhere/model}")
    output = run("train", ok=False)
    assert "Error in rule train_network" in output
    assert "floodline: " in output and "/nowhere/model" in output
    assert "it ended with status 1; its output is in " in output


def test_a_job_that_the_queue_does_not_take_is_not_submitted(cluster, trained, profile):
    output = submitting(cluster, trained, profile, runtime="6h")("infer", ok=False)
    assert "ask for 3 h" in output
    assert "Submitted" not in output


@pytest.mark.slow
@pytest.mark.parametrize("how", ["scancel", "interrupt"])
def test_after_an_interruption_the_next_start_goes_on_from_the_blocks(cluster, trained, profile, how):
    run = submitting(cluster, trained, profile)
    with run.start("infer") as running:
        wait_for(lambda: run.blocks, running)
        if how == "scancel":
            cluster.run("scancel", "--name=flood")
        else:
            running.send_signal(signal.SIGINT)
        output, _ = running.communicate()
    assert running.returncode != 0
    assert states_of(cluster, "flood")[-1].startswith("CANCELLED"), output
    if how == "scancel":
        assert "ended from outside" in output
    before = run.blocks
    assert 0 < len(before) < 36
    run("infer")
    assert len(run.blocks) == 36
    assert before.items() <= run.blocks.items()


@pytest.mark.slow
def test_a_stage_that_runs_out_of_time_is_submitted_again_and_is_no_failure(cluster, trained, profile):
    # 120 sub-volumes: some minutes.
    run = submitting(cluster, trained, profile, "inference={overlap_xyz: [24, 24, 24]}", runtime="1m")
    output = run("infer")
    assert "ran out of time and goes on as" in output
    assert "Error" not in output


@pytest.mark.slow
def test_the_whole_pipeline_runs_under_the_profile(cluster, tmp_path, profile):
    run = submitting(cluster, tmp_path, profile)
    run()
    assert (run.results / "report.html").stat().st_size > 0
    for rule in ON_RANKS:
        state, _, nodes = states_of(cluster, rule)[-1].partition("|")
        assert state == "COMPLETED" and nodes.startswith("n["), rule
