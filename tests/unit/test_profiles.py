"""The profiles: every key is one of Snakemake's, every rule exists, and what is asked for fits together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.cli import get_argument_parser

from floodline.schedulers import limits
from floodline.schedulers.commands import with_nodes

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.parent.name for path in (ROOT / "profiles").glob("*/config.yaml"))
ON_QUEUES = ["theta", "polaris"]
BOXES = ["ingest_image", "ingest_labels", "quality_control", "partitions", "coordinates", "supervoxels", "region_graph"]
ON_RANKS = ["train_network", "flood", *BOXES, "neurons", "resegment", "metrics"]
"""The rules that use all ranks of the launcher."""

WORKERS = 8
"""Of the study's cell that the profiles are checked with."""


@cache
def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())


def rules() -> dict[str, str]:
    """The text of each rule that runs a command as a job."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    parts = re.split(r"^ *rule (\w+):", text, flags=re.MULTILINE)
    found = zip(parts[1::2], parts[2::2], strict=True)
    return {name: body for name, body in found if "shell:" in body and "localrule: True" not in body}


@cache
def resources(name: str, rule: str) -> dict[str, Any]:
    """What a rule asks for: its own values, above them the profile's."""
    defaults = {"mpi": "", "tasks": 1, "nodes": 1}
    asked = {**defaults, **profile(name).get("default-resources", {}), **profile(name)["set-resources"].get(rule, {})}
    if rule == "study_cell":
        # The matrix says how many workers there are, and the profile how many nodes that makes.
        asked = with_nodes({**asked, "tasks": WORKERS})
    return asked


def minutes(runtime: str) -> int:
    return int(runtime[:-1]) * {"m": 1, "h": 60}[runtime[-1]]


def option(launcher: str, *names: str) -> int | None:
    """The number that follows one of the launcher's options."""
    words = launcher.replace("=", " ").split()
    return next((int(words[i + 1]) for i, word in enumerate(words) if word in names), None)


def test_there_is_a_profile_for_each_kind_of_machine():
    assert PROFILES == ["local", "polaris", "slurm", "theta"]


@pytest.mark.parametrize("name", PROFILES)
def test_every_key_is_an_option_of_snakemakes(name):
    known = {string for action in get_argument_parser()._actions for string in action.option_strings}
    assert [key for key in profile(name) if f"--{key}" not in known] == []


@pytest.mark.parametrize("name", PROFILES)
def test_every_rule_exists(name):
    named = {*profile(name).get("set-resources", {}), *profile(name).get("set-threads", {})}
    assert named - rules().keys() == set()


@pytest.mark.parametrize("name", PROFILES)
def test_every_value_has_its_reason_beside_it(name):
    """A comment on the line of each plain value, or a block of comments above the section that it is in."""
    for line in (ROOT / "profiles" / name / "config.yaml").read_text().splitlines():
        if re.match(r"(jobs|cores|latency-wait|retries|.*seconds.*|local-cores|scheduler|keep-going|rerun.*):", line):
            assert "#" in line, line


def test_theta_is_found_by_its_name_from_the_root():
    link = ROOT / "theta"
    assert link.is_symlink() and link.resolve() == ROOT / "profiles" / "theta"
    assert not link.readlink().is_absolute()


def test_theta_is_found_by_its_name_from_elsewhere_after_the_link_that_is_documented(tmp_path):
    (command,) = re.findall(r"^mkdir -p .*ln -s.*$", (ROOT / "docs/clusters.md").read_text(), re.MULTILINE)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("XDG_CONFIG_HOME", None)
    subprocess.run(command, shell=True, cwd=ROOT, env=environment, check=True)
    (tmp_path / "Snakefile").write_text('rule flood:\n    output: "a"\n    shell: "{resources.mpi} true"\n')
    run = subprocess.run(
        ["snakemake", "--profile", "theta", "--dry-run", "a"],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    assert "aprun -N 32" in run.stdout + run.stderr


def test_on_theta_everything_is_under_aprun_since_job_scripts_run_on_service_nodes():
    for rule in rules():
        assert resources("theta", rule)["mpi"].startswith("aprun "), rule


@pytest.mark.parametrize("rule", rules())
def test_every_command_can_be_put_under_a_launcher(rule):
    assert re.search(r'shell:\s+f"{LAUNCH}floodline ', rules()[rule])


@pytest.mark.parametrize("name", ON_QUEUES)
@pytest.mark.parametrize("rule", rules())
def test_queues_take_what_is_asked_for(name, rule):
    asked = resources(name, rule)
    limits.check(asked["queue"], asked["limits"], asked["nodes"], minutes(asked["runtime"]))


@pytest.mark.parametrize("name", ON_QUEUES)
@pytest.mark.parametrize("rule", rules())
def test_ranks_fill_the_nodes(name, rule):
    asked = resources(name, rule)
    if asked["mpi"]:
        per_node = option(asked["mpi"], "-N", "-ppn")
        assert asked["tasks"] == per_node * asked["nodes"]


@pytest.mark.parametrize("rule", rules())
def test_ranks_have_hardware_threads_of_their_own_on_theta(rule):
    launcher = resources("theta", rule)["mpi"]
    assert option(launcher, "-N") * option(launcher, "-d") <= 64 * option(launcher, "-j")


@pytest.mark.parametrize("name", ["slurm", *ON_QUEUES])
@pytest.mark.parametrize("rule", ON_RANKS)
def test_the_long_stages_run_on_the_ranks_of_many_nodes(name, rule):
    asked = resources(name, rule)
    assert asked["mpi"] and asked["tasks"] >= asked["nodes"] >= 2
    assert "tasks=" in rules()[rule] and "mpi=" in rules()[rule]


@pytest.mark.parametrize("rule", ON_RANKS)
def test_ranks_have_hardware_threads_of_their_own_on_polaris(rule):
    launcher = resources("polaris", rule)["mpi"]
    assert option(launcher, "-ppn") * option(launcher, "--depth") <= 64


def test_slurm_finds_the_nodes_of_a_studys_cell():
    assert profile("slurm")["set-resources"]["study_cell"]["nodes"] == 0


@pytest.mark.parametrize("rule", profile("slurm")["set-threads"])
def test_ranks_fill_the_nodes_of_estimates_on_slurm(rule):
    asked = resources("slurm", rule)
    assert asked["tasks"] * profile("slurm")["set-threads"][rule] == asked["nodes"] * asked["node_cores"]


@pytest.mark.parametrize("rule", profile("slurm")["set-threads"])
def test_srun_gives_a_rank_the_processors_that_the_job_asks_for(rule):
    assert option(resources("slurm", rule)["mpi"], "--cpus-per-task") == profile("slurm")["set-threads"][rule]
