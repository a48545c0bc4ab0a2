"""The estimate against a real run."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from running import ROOT, Workflow

LARGER = {
    "network": {"depth": 4, "features": 16, "fov_xyz": [21, 21, 21], "deltas_xyz": [5, 5, 5]},
    "training": {"fovs": 1500, "batch_size": 4, "learning_rate": {"base": 0.01}, "summary_fovs": 500},
}


def hours(printed: str, rule: str) -> float:
    """What the table says of a stage, without the start of its jobs."""
    (row,) = re.findall(rf"^{rule} +\d+ +\d+ +(\S+)", printed, re.MULTILINE)
    return float(row)


@pytest.mark.slow
def test_the_estimate_is_within_a_quarter_of_what_inference_and_training_took(tmp_path):
    """Needs a machine that does nothing else. The pilot's sub-volumes say how many calls the others will take."""
    values = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text()) | LARGER
    (tmp_path / "larger.yaml").write_text(yaml.safe_dump(values))
    workflow = Workflow(tmp_path, tmp_path / "larger.yaml")
    results = tmp_path / "results" / "tiny"
    workflow(str(results.relative_to(tmp_path) / "inference/shards/0.json"))
    printed = workflow("estimate")
    workflow("infer")
    from floodline.estimate import STARTING_SECONDS

    trained = json.loads((results / "training/main/metrics.json").read_text())["seconds"]
    assert 3600 * hours(printed, "train_network") - STARTING_SECONDS == pytest.approx(trained, rel=0.25)
    blocks = json.loads((results / "inference/manifest.json").read_text())["blocks"]
    # Two processes flood one shard after the other.
    flooded = sum(block["seconds"] for block in blocks) / 2
    assert 2 * (3600 * hours(printed, "flood") - STARTING_SECONDS) == pytest.approx(flooded, rel=0.25)


def test_the_target_prints_every_stage_with_what_the_profile_gives_it(tiny):
    printed = tiny("estimate", "--set-resources", "flood:nodes=3")
    assert re.search(r"^flood +2 +3 ", printed, re.MULTILINE)
    assert "Disk needed: " in printed
