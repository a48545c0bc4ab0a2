"""Users' mistakes: one sentence each, a failing exit status, and nothing that a later run would take for whole."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image
from running import ROOT, Workflow

SHAPE_ZYX = (24, 32, 40)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An image as PNG slices, and labels of its shape and of another one."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for z in range(SHAPE_ZYX[0]):
        Image.fromarray(rng.integers(0, 255, SHAPE_ZYX[1:], np.uint8)).save(folder / f"{z:03d}.png")
    with h5py.File(folder / "labels.h5", "w") as file:
        file["labels"] = np.ones(SHAPE_ZYX, np.uint64)
        file["cut"] = np.ones((20, 32, 40), np.uint64)
    return folder


def configuration(data: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "image": {"source": {"kind": "stack", "path": f"{data}/*.png"}, "voxel_size_nm_xyz": [8, 8, 8]},
        "labels": {"source": {"kind": "hdf5", "path": f"{data}/labels.h5", "dataset": "labels"}},
        "training": {},
        **changes,
    }


def refused(data: Path, values: dict[str, Any], target: str = "ingest") -> str:
    """What Snakemake said about a run that must fail."""
    path = data.parent / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    output = Workflow(data.parent, path)(target, ok=False)
    assert "Traceback" not in output, output
    return output


def written(data: Path, *names: str) -> list[str]:
    return [name for name in names if (data.parent / "results/mine" / name).exists()]


def test_a_missing_image_is_named(data):
    path = data / "nowhere" / "*.png"
    output = refused(data, configuration(data, image={"source": {"kind": "stack", "path": str(path)}}))
    assert str(path) in output
    assert not written(data, "image/manifest.json", "image/mips.json")


def test_a_wrong_dataset_is_named_with_those_that_there_are(data):
    labels = {"source": {"kind": "hdf5", "path": f"{data}/labels.h5", "dataset": "label"}}
    output = refused(data, configuration(data, labels=labels))
    assert f"{data}/labels.h5 has no dataset 'label': its datasets are cut, labels." in output
    assert not written(data, "labels/manifest.json", "labels/mips.json")


def test_labels_of_another_shape_are_refused(data):
    labels = {"source": {"kind": "hdf5", "path": f"{data}/labels.h5", "dataset": "cut"}}
    output = refused(data, configuration(data, labels=labels))
    assert "the labels have size [40, 32, 20] (x, y, z), but the image has [40, 32, 24]" in output
    assert not written(data, "labels/manifest.json")


def test_an_empty_crop_is_refused_before_anything_is_written(data):
    image = {**configuration(data)["image"], "crop_xyz": [[10, 0, 0], [10, 32, 24]]}
    output = refused(data, configuration(data, image=image))
    assert "crop_xyz [[10, 0, 0], [10, 32, 24]] is empty" in output
    assert not (data.parent / "results").exists()


def test_a_truncated_png_is_named(data):
    slice_ = data / "011.png"
    slice_.write_bytes(slice_.read_bytes()[:300])
    assert str(slice_) in refused(data, configuration(data))
    assert not written(data, "image/manifest.json")


def test_a_repaired_input_is_taken_without_ado(data):
    slice_ = data / "011.png"
    whole = slice_.read_bytes()
    slice_.write_bytes(whole[:300])
    refused(data, configuration(data))
    slice_.write_bytes(whole)
    Workflow(data.parent, data.parent / "mine.yaml")("ingest")
    assert written(data, "image/manifest.json", "labels/manifest.json") == [
        "image/manifest.json",
        "labels/manifest.json",
    ]


def test_weights_of_another_depth_are_refused(data, tiny):
    values = configuration(data, training=None, labels=None)
    values["network"] = {"depth": 3, "features": 4, "weights": str(tiny.folder / "results/tiny/model")}
    output = refused(data, values, "train")
    assert "the weights are of a network of depth 2 with 4 features, but network.depth is 3" in output
    assert not written(data, "model/card.json")


def test_set_up_without_a_compiler_says_what_to_install(tmp_path):
    venv = tmp_path / "venv"
    run = subprocess.run(
        ["bash", str(ROOT / "envs/install.sh")],
        env={**os.environ, "CXX": "no-such-compiler", "FLOODLINE_VENV": str(venv)},
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert "no C++ compiler found ('no-such-compiler')" in run.stderr
    assert not venv.exists()
