"""The flood that the report shows is the one that there was: the same calls, the same object in the end."""

from __future__ import annotations

import numpy as np
import pytest
import small_floods

from floodline.experiment import Experiment
from floodline.geometry import Box, to_zyx
from floodline.inference import example, run
from floodline.manifest import read_block


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    experiment = small_floods.make(tmp_path_factory.mktemp("flooded"), 2)
    run.run(experiment, 0, 1)
    run.finish(experiment)
    return experiment


def test_the_object_fills_and_ends_as_it_was_kept(flooded):
    example.run(flooded)
    shown = read_block(flooded.inference / "example.block")
    plane = Box.of(shown["box_xyz"].tolist())
    (box,) = (
        box
        for box in flooded.subvolumes
        if box.contains(plane)
        and _has_seed(flooded, box, shown["seed_xyz"])
    )  # fmt: skip
    block = read_block(flooded.block(box))
    seed_zyx = to_zyx(shown["seed_xyz"] - box.start_xyz)
    (row,) = np.flatnonzero((block["origins"][:, 1:] == seed_zyx).all(axis=1))
    assert block["calls"][row] == shown["calls"][-1] == max(c for c in block["calls"] if c <= example.MOST_CALLS)
    assert (np.diff(shown["calls"]) > 0).all()
    assert shown["calls"][0] == 1

    kept = block["segmentation"][plane.slices_zyx(box.start_xyz)].squeeze() == block["origins"][row, 0]
    assert ((shown["frames"][-1] > 0) == kept).all()
    assert kept.any()
    # What was predicted once stays predicted, until the object is kept.
    for before, after in zip(shown["frames"][:-2], shown["frames"][1:-1], strict=True):
        assert ((before == 0) | (after > 0)).all()


def _has_seed(experiment: Experiment, box: Box, seed_xyz: np.ndarray) -> bool:
    origins = read_block(experiment.block(box))["origins"][:, 1:]
    return bool((origins == to_zyx(seed_xyz - box.start_xyz)).all(axis=1).any())


def test_the_same_run_gives_the_same_bytes(flooded):
    example.run(flooded)
    first = (flooded.inference / "example.block").read_bytes()
    example.run(flooded)
    assert (flooded.inference / "example.block").read_bytes() == first


def test_without_a_short_flood_there_are_no_frames(flooded, monkeypatch):
    monkeypatch.setattr(example, "MOST_CALLS", 0)
    example.run(flooded)
    assert read_block(flooded.inference / "example.block")["frames"].size == 0
