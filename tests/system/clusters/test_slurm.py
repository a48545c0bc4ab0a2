"""The slurm profile on a real Slurm: jobs queue, run on several nodes, fail, are cancelled, and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from slurm_cluster import SlurmCluster
from submitting import BOXES, Run, wait_for

# Two real cores stand behind the nodes, and nobody waits for their file system.
SRUN = "srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=1"
ON_RANKS = ["train_network", "flood", *BOXES]
SMALL = {
    "set-threads": dict.fromkeys([*ON_RANKS, "resegment"], 1),
    "set-resources": {rule: {"tasks": 2, "mpi": SRUN} for rule in [*ON_RANKS, "resegment"]},
    "latency-wait": 5,
    "retries": 0,
    "slurm-status-command": "squeue",  # the test cluster has no accounting
    "slurm-init-seconds-before-status-checks": 2,
}


def jobs_of(cluster: SlurmCluster, rule: str) -> list[dict[str, str]]:
    """What Slurm knows of the jobs of a rule, the oldest first."""
    lines = cluster.run("squeue", "-h", "--states=all", "--sort=i", "--format=%k|%i|%T|%N").splitlines()
    jobs = [dict(zip(("comment", "id", "state", "nodes"), line.split("|"), strict=True)) for line in lines]
    return [job for job in jobs if job["comment"].startswith(f"rule_{rule}")]


def test_training_runs_across_nodes_by_mpi(cluster, labelled):
    run = Run(cluster, labelled, "slurm", SMALL)
    run("train")
    assert json.loads((run.results / "training/main/metrics.json").read_text())["ranks"] == 2
    job = jobs_of(cluster, "train_network")[-1]
    assert (job["state"], job["nodes"]) == ("COMPLETED", "n[1-2]")


@pytest.mark.slow
def test_a_killed_rank_ends_the_training(cluster, labelled):
    run = Run(cluster, labelled, "slurm", SMALL, "training={fovs: 10000000}")
    with run.start("train") as running:
        wait_for((run.results / "training/main/log.csv").is_file, running)
        ranks = subprocess.run(["pgrep", "-f", "python.*floodline train results/tiny$"], capture_output=True, text=True)
        os.kill(int(ranks.stdout.split()[-1]), signal.SIGKILL)
        killed = time.monotonic()
        wait_for(lambda: jobs_of(cluster, "train_network")[-1]["state"] == "FAILED", running)
        assert time.monotonic() - killed < 30
        output, _ = running.communicate()
    assert "Error in rule train_network" in output
    assert not (run.results / "model").exists()


@pytest.mark.slow
def test_a_failing_job_is_reported_with_its_log(cluster, labelled):
    output = Run(cluster, labelled, "slurm", SMALL, "network={weights: /nowhere/model}")("train", ok=False)
    assert "Error in rule train_network" in output
    assert "floodline: " in output and "/nowhere/model" in output
    assert jobs_of(cluster, "train_network")[-1]["state"] == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["scancel", "interrupt"])
def test_after_an_interruption_the_next_start_goes_on_from_the_blocks(cluster, trained, how):
    run = Run(cluster, trained, "slurm", SMALL)
    with run.start("infer") as running:
        wait_for(lambda: run.blocks, running)
        if how == "scancel":
            cluster.run("scancel", jobs_of(cluster, "flood")[-1]["id"])
        else:
            running.send_signal(signal.SIGINT)
        output, _ = running.communicate()
    assert running.returncode != 0
    assert jobs_of(cluster, "flood")[-1]["state"] == "CANCELLED", output
    before = run.blocks
    assert 0 < len(before) < 36
    run("infer")
    assert len(run.blocks) == 36
    assert before.items() <= run.blocks.items()


@pytest.mark.slow
def test_a_cancelled_job_is_retried_and_goes_on_from_its_blocks(cluster, trained):
    run = Run(cluster, trained, "slurm", {**SMALL, "retries": 1})
    with run.start("infer") as running:
        wait_for(lambda: run.blocks, running)
        before = run.blocks
        cluster.run("scancel", jobs_of(cluster, "flood")[-1]["id"])
        output, _ = running.communicate()
    assert running.returncode == 0, output
    assert [job["state"] for job in jobs_of(cluster, "flood")[-2:]] == ["CANCELLED", "COMPLETED"]
    assert before.items() <= run.blocks.items() and len(run.blocks) == 36


ONE_RULE = """
rule forgetful:
    output: "done"
    resources: runtime=1
    shell: "if [ -e begun ]; then touch done; else touch begun; sleep 300; fi"
"""


@pytest.mark.slow
def test_a_job_that_does_not_watch_its_time_limit_is_ended_and_retried(cluster, tmp_path):
    (tmp_path / "Snakefile").write_text(ONE_RULE)
    run = Run(cluster, tmp_path, "slurm", {**SMALL, "set-threads": {}, "set-resources": {}, "retries": 1})
    run.options[1] = str(tmp_path / "Snakefile")
    output = run("done")
    assert "Error in rule forgetful" in output
    assert [job["state"] for job in jobs_of(cluster, "forgetful")] == ["TIMEOUT", "COMPLETED"]


@pytest.mark.slow
def test_when_a_node_goes_down_the_job_goes_on_elsewhere(cluster, trained):
    run = Run(cluster, trained, "slurm", SMALL)
    with run.start("infer") as running:
        wait_for(lambda: run.blocks, running)
        before = run.blocks
        cluster.run("scontrol", "update", "nodename=n1", "state=down", "reason=test")
        try:
            output, _ = running.communicate()
        finally:
            cluster.run("scontrol", "update", "nodename=n1", "state=resume")
    assert running.returncode == 0, output
    assert jobs_of(cluster, "flood")[-1]["nodes"] == "n[2-3]"
    assert before.items() <= run.blocks.items()


@pytest.mark.slow
def test_a_stage_that_runs_out_of_time_is_queued_again_and_is_no_failure(cluster, trained):
    limited = {**SMALL, "set-resources": {"flood": {"tasks": 2, "mpi": SRUN, "runtime": "1m"}}}
    # 120 sub-volumes: some minutes for two ranks.
    Run(cluster, trained, "slurm", limited, "inference={overlap_xyz: [24, 24, 24]}")("infer")
    job = jobs_of(cluster, "flood")[-1]
    assert " Restarts=0 " not in cluster.run("scontrol", "show", "job", job["id"])


@pytest.mark.slow
def test_a_training_that_runs_out_of_time_is_queued_again(cluster, labelled):
    limited = {**SMALL, "set-resources": {"train_network": {"tasks": 2, "mpi": SRUN, "runtime": "1m"}}}
    run = Run(cluster, labelled, "slurm", limited, "training={fovs: 10000000}")
    with run.start("train") as running:
        wait_for(lambda: jobs_of(cluster, "train_network")[-1:], running)
        job = jobs_of(cluster, "train_network")[-1]["id"]
        wait_for(lambda: " Restarts=1 " in cluster.run("scontrol", "show", "job", job), running)
        wait_for(lambda: "resumed after" in (run.results / "logs/train.log").read_text(), running)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate()
    assert "Error in rule" not in output


@pytest.mark.slow
def test_the_whole_pipeline_runs_under_the_profile(cluster, tmp_path):
    run = Run(cluster, tmp_path, "slurm", SMALL)
    run()
    assert (run.results / "report.html").stat().st_size > 0
    for rule in ON_RANKS:
        assert jobs_of(cluster, rule)[-1]["nodes"].startswith("n["), rule
    assert "Nothing to be done" in run()
