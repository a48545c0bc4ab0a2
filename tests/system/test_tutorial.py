"""The tutorial, word by word: its commands run, in order, on a tiny stack of TIFF slices."""

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

from floodline.volumes import phantom

ROOT = Path(__file__).parents[2]
SHAPE_ZYX = (56, 64, 72)
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "config" / "README.md"]
NEEDS_AN_INSTALLATION = "<!-- needs: an installation -->\n"


def commands() -> list[str]:
    """The blocks of code, but for the one that activates the environment that the tests run in already."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    blocks = re.findall(rf"({NEEDS_AN_INSTALLATION})?```\n(.*?)```", text, re.DOTALL)
    return [block for needs, block in blocks if not needs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like floodline's own, with a stack and labels in data/."""
    made = tmp_path_factory.mktemp("floodline")
    for name in ("Snakefile", "rules", "workflow", "profiles", "config", "envs"):
        (made / name).symlink_to(ROOT / name)
    (made / "data" / "stack").mkdir(parents=True)
    for z, slice_ in enumerate(phantom.image(SHAPE_ZYX, 3)):
        tifffile.imwrite(made / "data" / "stack" / f"{z:04}.tif", slice_)
    tifffile.imwrite(made / "data" / "labels.tif", phantom.labels(SHAPE_ZYX, 3).astype(np.uint32))
    return made


def run(command: str, folder: Path) -> str:
    """What a block of commands prints; it must succeed. A viewer is asked for its page, and then ended."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
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
    printed = {command.split("\n")[0]: run(command, folder) for command in commands()}

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
    assert len(list((results / "handover" / "skeletons").iterdir())) == handover["skeletons"]


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    for target in targets:
        assert "://" in target or (page.parent / target).exists(), f"{page.name} points to {target}"


def test_files_that_the_pages_name_are_there():
    """Names in backquotes with a folder of the repository in front."""
    for page in PAGES:
        for name in re.findall(r"`((?:config|envs|profiles|rules|tests|workflow)/[\w./-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
