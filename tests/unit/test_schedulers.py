"""Cobalt and PBS: what is submitted, how answers are read, and what Snakemake is told of a job.

The answers are in the formats of a recorded OpenPBS and of Cobalt's own source; nothing here needs a scheduler: `ask`
and the job's folder are used as they are, with programs named qsub and qstat that print such answers.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from floodline.errors import FloodlineError
from floodline.schedulers import commands, job, limits
from floodline.schedulers.cobalt import Cobalt
from floodline.schedulers.job import Job
from floodline.schedulers.pbs import Pbs
from floodline.schedulers.scheduler import Said

THETA = "128-255: 30m-3h, 256-383: 30m-6h, 384-639: 30m-9h, 640-801: 30m-12h, 802-4392: 30m-24h"
RESOURCES = {
    "queue": "default", "limits": THETA, "nodes": 128, "runtime": 180, "attrs": "mcdram=cache:filesystems=home,eagle",
    "select": "system=polaris", "filesystems": "home:eagle", "tasks": 128, "mpi": "aprun -N 1",
}  # fmt: skip


# --- the queue's limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "most"),
    [(128, 180), (255, 180), (256, 360), (384, 540), (639, 540), (640, 720), (801, 720), (802, 1440), (4392, 1440)],
)
def test_thetas_wall_limit_grows_with_the_nodes(nodes, most):
    limits.check("default", THETA, nodes, most)
    with pytest.raises(FloodlineError, match=f"{most // 60} h at most"):
        limits.check("default", THETA, nodes, most + 1)


def test_a_refusal_says_what_would_fit():
    with pytest.raises(FloodlineError, match="ask for 3 h or for 640 nodes"):
        limits.check("default", THETA, 128, 10 * 60)
    with pytest.raises(FloodlineError, match=r"ask for 24 h\. A stage that runs out of time is submitted again"):
        limits.check("default", THETA, 1000, 25 * 60)
    with pytest.raises(FloodlineError, match="jobs of 1-8 nodes, not of 64"):
        limits.check("debug-cache-quad", "1-8: 1m-1h", 64, 30)
    with pytest.raises(FloodlineError, match="ask for 30 min"):
        limits.check("default", THETA, 128, 20)


def test_badly_written_limits_are_named():
    with pytest.raises(FloodlineError, match="'128: 3h' must be written like"):
        limits.parse("1-8: 1m-1h, 128: 3h")


# --- Cobalt ----------------------------------------------------------------------------------------------------------

COBALT_QSTAT = "JobID   State    \n=================\n{id:>6}  {state}  \n"


@pytest.mark.parametrize(
    ("state", "ended"),
    [(state, False) for state in ("queued", "user_hold", "dep_hold", "maxrun_hold", "starting", "running", "exiting")]
    + [("dep_fail", True), ("done", True)],
)
def test_cobalts_states(state, ended):
    assert Cobalt().has_ended("99871", Said(0, COBALT_QSTAT.format(id="99871", state=state), "")) == ended


def test_a_job_that_cobalt_has_forgotten_has_ended_and_a_lost_queue_manager_says_nothing():
    assert Cobalt().has_ended("1", Said(1, "", ""))
    away = "component error: Failed to connect to queue-manager: ..."
    assert not Cobalt().has_ended("1", Said(1, "", away))
    assert not Cobalt().has_ended("1", Said(255, "", "timed out"))


@pytest.mark.parametrize("output", ["104942\n", "104942 Memory mode set to cache quad for queue debug-cache-quad\n"])
def test_cobalts_id_is_the_first_number(output):
    assert Cobalt().id_in(output) == "104942"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Info: maximum execution time exceeded; initiating job termination\n", "wall time was exceeded"),
        ("Info: user delete requested with signal SIGTERM by user user1\n", "it was deleted"),
        ("", "ended from outside"),
    ],
)
def test_cobalts_log_says_how_a_job_ended(folder, text, why):
    (folder.folder / "7.cobaltlog").write_text("Jobid: 7\n" + text)
    assert why in Cobalt().why("7", Said(1, "", ""), folder)


# --- PBS -------------------------------------------------------------------------------------------------------------


def pbs_answer(**record) -> Said:
    answer = {"timestamp": 1795417017, "pbs_server": "pbshost", "Jobs": {"3.pbshost": {"Job_Name": "hello", **record}}}
    return Said(0, json.dumps(answer), "")


@pytest.mark.parametrize(("state", "ended"), [(state, False) for state in "QRHEWTSB"] + [("F", True), ("X", True)])
def test_states_of_pbs(state, ended):
    assert Pbs().has_ended("3.pbshost", pbs_answer(job_state=state)) == ended


def test_a_job_unknown_to_pbs_has_ended_and_a_lost_server_says_nothing():
    assert Pbs().has_ended("9999", Said(153, "", "qstat: Unknown Job Id 9999.pbshost"))
    assert not Pbs().has_ended("9", Said(255, "", "Connection refused"))
    assert not Pbs().has_ended("9", Said(0, '{"timestamp": 1, "pbs_version": "23.06.06"}', ""))


def test_pbs_says_how_a_job_ended(folder):
    def why(**record):
        return Pbs().why("3.pbshost", pbs_answer(job_state="F", **record), folder)

    assert why(Exit_status=-29, substate=93) == "its wall time was exceeded"
    assert why(Exit_status=271) == "it was ended from outside (exit status 271)"
    assert "never ran" in why(substate=92)  # what a dependant of a failed job looks like
    assert "Insufficient amount" in why(substate=91, comment="Can Never Run: Insufficient amount of resource: ncpus")


# --- submitting ------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A working directory, and a folder of programs that stand where the scheduler's are."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "site"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FLOODLINE_ACCOUNT", "proj")
    monkeypatch.setattr(job, "GRACE_SECONDS", 0.6)
    return programs


def program(site: Path, name: str, script: str) -> None:
    (site / name).write_text(f"#!/bin/bash\n{script}\n")
    (site / name).chmod(0o755)


@pytest.fixture
def folder(site) -> Job:
    """A job that was submitted as number 7, and that runs `true`."""
    return submitted(site, "true")


def submitted(site: Path, work: str, scheduler=Cobalt, setup: str = "") -> Job:
    jobscript = site.parent / "snakejob.sh"
    jobscript.write_text(f"#!/bin/sh\n{work}\n")
    program(site, "qsub", 'printf "%s\\n" "$@" > submission; echo 7')
    id_ = commands.submit(scheduler(), jobscript, "flood", {**RESOURCES, "setup": setup})
    jobscript.unlink()  # as Snakemake does when it ends
    return Job.find(id_)


def submission(site: Path) -> list[str]:
    return (site.parent / "submission").read_text().splitlines()


def start(one: Job, **environment: str) -> int:
    """Run the job's script as its scheduler would."""
    return subprocess.run([one.script], env={"PATH": "/usr/bin:/bin", "COBALT_JOBID": one.id, **environment}).returncode


def test_cobalts_command_line(site):
    one = submitted(site, "true")
    words = submission(site)
    pairs = dict(itertools.pairwise(words))
    asked = {
        "-A": "proj",
        "-q": "default",
        "-n": "128",
        "-t": "180",
        "--mode": "script",
        "--attrs": "mcdram=cache:filesystems=home,eagle",
    }
    assert pairs.items() >= asked.items()
    assert words.count("--attrs") == 1
    assert words[-1] == str(one.script)  # all options before the script
    assert "$jobid" in pairs["-O"]


def test_the_command_line_of_pbs(site):
    one = submitted(site, "true", Pbs)
    words = submission(site)
    limits_ = [words[i + 1] for i, word in enumerate(words) if word == "-l"]
    assert limits_ == ["select=128:system=polaris", "walltime=03:00:00", "filesystems=home:eagle", "place=scatter"]
    assert words[-1] == str(one.script)


def test_a_job_that_does_not_fit_is_not_submitted(site, tmp_path):
    (tmp_path / "job.sh").write_text("#!/bin/sh\n")
    program(site, "qsub", "touch was-called")
    with pytest.raises(FloodlineError, match="ask for 3 h or for 256 nodes"):
        commands.submit(Cobalt(), tmp_path / "job.sh", "flood", {**RESOURCES, "runtime": 360})
    assert not (tmp_path / "was-called").exists()


def test_without_a_project_the_sentence_says_what_to_export(site, monkeypatch):
    monkeypatch.delenv("FLOODLINE_ACCOUNT")
    with pytest.raises(FloodlineError, match="export FLOODLINE_ACCOUNT"):
        submitted(site, "true")


def test_what_the_scheduler_says_against_a_job_is_passed_on(site, tmp_path):
    (tmp_path / "job.sh").write_text("#!/bin/sh\n")
    program(site, "qsub", "echo \"The limit of 20 jobs per user in the 'default' queue has been reached\" >&2; exit 1")
    with pytest.raises(FloodlineError, match="limit of 20 jobs"):
        commands.submit(Cobalt(), tmp_path / "job.sh", "flood", RESOURCES)


def test_the_command_reads_what_snakemake_writes_into_its_job_script(site, tmp_path):
    properties = {"type": "single", "rule": "flood", "resources": RESOURCES}
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\n# properties = {json.dumps(properties)}\ntrue\n")
    program(site, "qsub", "echo 104941; echo 'Job routed to queue \"default\".' >&2")
    run = subprocess.run(
        [Path(sys.executable).parent / "floodline-qsub", "cobalt", tmp_path / "job.sh"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "104941\n"
    assert "routed" in run.stderr


# --- what Snakemake is told ------------------------------------------------------------------------------------------


def state(site: Path, one: Job, qstat: str = "exit 1", scheduler=Cobalt) -> str:
    program(site, "qstat", qstat)
    return commands.state(scheduler(), one)


LISTED = r"printf 'JobID   State    \n=================\n     7  running  \n'"


def test_a_listed_job_runs(site, folder):
    assert state(site, folder, LISTED) == "running"


def test_the_exit_status_of_the_job_decides_even_while_it_is_still_listed(site):
    one = submitted(site, "exit 0")
    assert start(one) == 0
    assert state(site, one, LISTED) == "success"


def test_a_failing_job_has_failed(site, capsys):
    one = submitted(site, "exit 7")
    assert start(one) == 7
    assert state(site, one) == "failed"
    assert "status 7" in capsys.readouterr().err


def test_a_job_that_was_ended_from_outside_has_failed(site):
    one = submitted(site, "kill -TERM $PPID; sleep 5")
    start(one)
    assert state(site, one) == "failed"


def test_a_lost_scheduler_fails_nothing(site, folder):
    assert state(site, folder, "echo 'component error: no queue-manager' >&2; exit 1") == "running"


def test_the_job_has_the_setup_of_the_profile_and_the_programs_of_the_environment(site, tmp_path):
    one = submitted(site, 'echo "$SITE" "$(command -v floodline)" > seen; pwd >> seen', setup="export SITE=theta")
    assert start(one) == 0
    assert (tmp_path / "seen").read_text().split() == [
        "theta", str(Path(sys.executable).parent / "floodline"), str(tmp_path)
    ]  # fmt: skip


@pytest.mark.parametrize("ended_by_itself", [True, False])
def test_a_job_that_ran_out_of_time_is_submitted_again_and_runs_on(site, capsys, ended_by_itself):
    one = submitted(site, 'touch "$FLOODLINE_UNFINISHED"; ' + ("exit 1" if ended_by_itself else "kill $PPID"))
    before = submission(site)
    start(one)
    program(site, "qsub", 'printf "%s\\n" "$@" > submission; echo 8')
    assert state(site, one) == "running"
    assert submission(site) == before
    assert one.id == "8"
    assert "goes on as 8" in capsys.readouterr().err
    # What the first attempt left says nothing about the second.
    assert state(site, Job.find("7"), "exit 1") == "failed"
    (one.folder / "8.exit").write_text("0\n")
    assert state(site, Job.find("7")) == "success"


def test_a_full_queue_is_tried_again(site):
    one = submitted(site, 'touch "$FLOODLINE_UNFINISHED"; exit 1')
    start(one)
    program(site, "qsub", "echo 'The limit of 20 jobs has been reached' >&2; exit 1")
    assert state(site, one) == "running"
    program(site, "qsub", "echo 8")
    assert state(site, one) == "running"
    assert one.id == "8"


def test_a_job_of_pbs_knows_when_it_ends(site, tmp_path):
    one = submitted(site, "echo $(( FLOODLINE_END - $(date +%s) )) > left", Pbs)
    assert start(one, PBS_JOBID=one.id) == 0
    assert int((tmp_path / "left").read_text()) in range(180 * 60 - 5, 180 * 60 + 1)


def test_cancelling_goes_to_the_job_that_goes_on(site):
    one = submitted(site, 'touch "$FLOODLINE_UNFINISHED"; exit 1')
    start(one)
    program(site, "qsub", "echo 8")
    state(site, one)
    program(site, "qdel", 'echo "$@" > cancelled')
    run = subprocess.run([Path(sys.executable).parent / "floodline-qdel", "7", "99"], capture_output=True, text=True)
    assert (site.parent / "cancelled").read_text() == "8\n"
    assert "nothing is known of job 99" in run.stderr


def test_a_status_command_always_has_an_answer(site):
    run = subprocess.run(
        [Path(sys.executable).parent / "floodline-qstat", "cobalt", "99"], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, "failed\n")
