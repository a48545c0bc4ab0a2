"""The estimate against real runs. These need a machine that does nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from running import ROOT, Workflow

from floodline.estimate import STARTING_SECONDS


def seconds(printed: str, rule: str) -> float:
    """What the table says of one job of a stage, without its start."""
    (hours,) = re.findall(rf"^{rule} +\d+ +\d+ +(\S+)", printed, re.MULTILINE)
    return 3600 * float(hours) - STARTING_SECONDS


def workflow_of(folder: Path, values: dict) -> Workflow:
    (folder / "larger.yaml").write_text(yaml.safe_dump(values))
    return Workflow(folder, folder / "larger.yaml")


def test_the_target_prints_every_stage_with_what_the_profile_gives_it(tiny):
    printed = tiny("estimate", "--set-resources", "flood:nodes=3")
    assert re.search(r"^flood +2 +3 ", printed, re.MULTILINE)
    assert "Disk needed: " in printed


@pytest.mark.slow
def test_training_takes_what_was_estimated(tmp_path):
    values = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    values["network"] = {"depth": 6, "features": 32, "fov_xyz": [21, 21, 21], "deltas_xyz": [5, 5, 5]}
    values["training"] |= {"fovs": 1500, "checkpoint_fovs": 1500, "summary_fovs": 500}
    workflow = workflow_of(tmp_path, values)
    workflow("labels")
    printed = workflow("estimate")
    workflow("train")
    took = json.loads((tmp_path / "results/tiny/training/main/metrics.json").read_text())["seconds"]
    assert seconds(printed, "train_network") == pytest.approx(took, rel=0.25)


@pytest.mark.slow
def test_inference_takes_what_was_estimated_once_a_shard_is_there(tmp_path, fib25):
    """The published network on FIB-25: one shard of two tells how many calls the other takes."""
    values = {
        "name": "fib25",
        "image": {
            "source": {"kind": "stack", "path": str(fib25 / "grayscale_maps/*.png")},
            "voxel_size_nm_xyz": [10, 10, 10],
            "crop_xyz": [[0, 0, 0], [150, 150, 80]],
        },
        "network": {"weights": str(fib25 / "ffn_weights/model.ckpt-27465036")},
        "inference": {"subvolume_size_xyz": [91, 91, 80], "shards": 2},
    }
    workflow = workflow_of(tmp_path, values)
    results = tmp_path / "results/fib25"
    workflow("results/fib25/inference/shards/0.json")
    printed = workflow("estimate")
    workflow("infer")
    blocks = json.loads((results / "inference/manifest.json").read_text())["blocks"]
    assert len(blocks) == 4
    # Two processes flood the two sub-volumes of a shard side by side.
    assert seconds(printed, "flood") == pytest.approx(sum(block["seconds"] for block in blocks) / 4, rel=0.25)
