"""The pages: the tutorial word by word on a tiny stack of TIFF slices, and every command of the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import tifffile
import yaml
from snakemake.cli import get_argument_parser
from typer.main import get_command

from floodline import config as configuration
from floodline.cli import app
from floodline.volumes import phantom

ROOT = Path(__file__).parents[2]
SHAPE_ZYX = (56, 64, 72)
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "config" / "README.md"]
NEEDS = r"<!-- needs: (.*) -->\n"


def commands(page: Path) -> list[str]:
    """The blocks of commands of a page, but for those that need more than a test can give."""
    fenced = rf"(?:{NEEDS})?^```(\w*)\n(.*?)^```$"
    blocks = re.findall(fenced, page.read_text(), re.DOTALL | re.MULTILINE)
    return [block for needs, language, block in blocks if not needs and not language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like floodline's own, with its environment, and a stack and labels in data/."""
    made = tmp_path_factory.mktemp("floodline")
    for name in ("Snakefile", "rules", "workflow", "profiles", "config", "envs", "theta"):
        (made / name).symlink_to(ROOT / name)
    (made / ".venv").symlink_to(sys.prefix)
    (made / "data" / "stack").mkdir(parents=True)
    for z, slice_ in enumerate(phantom.image(SHAPE_ZYX, 3)):
        tifffile.imwrite(made / "data" / "stack" / f"{z:04}.tif", slice_)
    tifffile.imwrite(made / "data" / "labels.tif", phantom.labels(SHAPE_ZYX, 3).astype(np.uint32))
    return made


def run(command: str, folder: Path) -> str:
    """What a block of commands prints; it must succeed. A viewer is asked for its page, and then ended."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HOME": str(folder / "home")}
    if command.startswith("floodline view"):
        arguments = [*command.split(), "--port", "0"]
        with subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as viewer:
            assert viewer.stdout is not None
            printed = viewer.stdout.readline()
            with urlopen(f"{re.findall(r'http://[^ ]*', printed)[0]}state.json") as reply:
                content = reply.read().decode()
            viewer.terminate()
        return content
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.mark.slow
def test_every_command_does_what_the_tutorial_says(folder):
    printed = {command.split("\n")[0]: run(command, folder) for command in commands(ROOT / "docs/tutorial.md")}

    info = printed["floodline info data/stack"]
    assert "72 x 64 x 56 voxels (x, y, z)" in info
    config = folder / "mine" / "config.yaml"
    assert config.is_file()
    results = folder / "results" / "rehearsal"
    metrics = json.loads((results / "evaluation" / "metrics.json").read_text())
    assert {record["box_name"] for record in metrics} == {"held_out"}
    assert (results / "report.html").is_file()
    layers = {layer["name"] for layer in json.loads(printed["floodline view results/rehearsal"])["layers"]}
    assert layers >= {"image", "truth", "supervoxels", "neurons"}
    real_run, changed = (output for command, output in printed.items() if command.endswith("--dry-run"))
    assert "rule train_network" in real_run
    assert "rule solve" in changed
    assert "rule train_network" not in changed
    handover = json.loads((results / "handover" / "manifest.json").read_text())
    assert handover["supervoxels"] > 0
    assert (results / "handover/webknossos/agglomerates/neurons/zarr.json").is_file()
    assert (results / "handover/chunkedgraph/dataset.yml").is_file()
    assert len(list((results / "handover" / "skeletons").iterdir())) == handover["skeletons"]


def test_the_other_pages_commands_run(folder):
    """What Snakemake would do is enough: the tutorial's commands do it."""
    (configuration_text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    configuration.parse(yaml.safe_load(configuration_text))
    (folder / "mine.yaml").write_text(configuration_text)
    for page in (page for page in PAGES if page.name != "tutorial.md"):
        for command in commands(page):
            run(re.sub(r"^(snakemake .*?)(--dry-run)?( *#.*)?$", r"\1 --dry-run", command, flags=re.MULTILINE), folder)
    assert (folder / "home/.config/snakemake/theta").resolve() == ROOT / "profiles/theta"


def test_every_block_that_no_test_runs_says_what_it_needs():
    needs = {need for page in PAGES for need in re.findall(NEEDS, page.read_text())}
    assert needs == {"an installation", "conda", "a machine with GPUs", "measured speeds"}


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_exist(page):
    """Every command of floodline and every option of Snakemake that a page names, and every target of make."""
    text = page.read_text()
    known = get_command(app).commands  # type: ignore[attr-defined]
    for name, rest in re.findall(r"`floodline ([a-z][a-z-]*)([^`]*)`", text):
        assert name in known, f"{page.name}: floodline {name}"
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, f"{page.name}: floodline {name}{rest}"
    of_snakemake = {string for action in get_argument_parser()._actions for string in action.option_strings}
    for rest in re.findall(r"`snakemake ([^`]*)`", text):
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= of_snakemake, f"{page.name}: snakemake {rest}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)`", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    for target in targets:
        assert "://" in target or (page.parent / target).exists(), f"{page.name} points to {target}"


def test_every_benchmark_is_explained():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert [path.name for path in (ROOT / "benchmarks").glob("*.py") if f"`benchmarks/{path.name}`" not in page] == []


def test_files_that_the_pages_name_are_there():
    """Names in backquotes with a folder of the repository in front."""
    for page in PAGES:
        for name in re.findall(
            r"`((?:benchmarks|config|envs|profiles|rules|tests|workflow)/[\w./-]+)`", page.read_text()
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
