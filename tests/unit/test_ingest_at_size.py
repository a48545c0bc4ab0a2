"""Ingest of any size: it goes on where it was interrupted, notices damage, and keeps to its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from peak_memory import run_measured
from test_ingest import experiment

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.ingest import image as ingest_image
from floodline.ingest import verify
from floodline.ingest.blocks import BASE_MB, whole_chunks
from floodline.manifest import read_json
from floodline.volumes.layer import Layer

SHAPE_ZYX = (24, 96, 64)


def large(folder: Path, shape=SHAPE_ZYX) -> tuple[Experiment, np.ndarray]:
    """An experiment whose blocks, with FEWEST_VOXELS lowered, are many."""
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "v.h5", "w") as file:
        file["v"] = array
    return experiment(folder, {"source": {"kind": "hdf5", "path": str(folder / "v.h5"), "dataset": "v"}}), array


@pytest.mark.parametrize("size", [(64, 64, 64), (640, 640, 640), (100, 3000, 65)])
@pytest.mark.parametrize("megabytes", [310, 400, 5000])
def test_blocks_are_whole_chunks_that_cover_the_volume_and_fit(size, megabytes):
    box, chunk = Box.sized((7, 8, 9), size), (64, 64, 64)
    cut = whole_chunks(box, chunk, megabytes, lambda s: 10.0 * s[0] * s[1] * s[2])
    assert sum(b.voxels for b in cut) == box.voxels
    assert set(cut) >= {b for b in cut if box.contains(b)} == set(cut)
    for b in cut:
        assert all((p - o) % c == 0 for p, o, c in zip(b.start_xyz, box.start_xyz, chunk, strict=True))
        assert 10 * b.voxels <= (megabytes - BASE_MB) * 1e6
    if megabytes == 310:
        assert len(cut) >= len(blocks(box, chunk)) / 4, "so little memory holds few chunks"


def test_too_little_memory_is_said(tmp_path):
    exp, _ = large(tmp_path)
    with pytest.raises(FloodlineError, match=r"a memory of 299 MB is too little .* give --memory-mb 301"):
        ingest_image.run(exp, memory_mb=299)


CUT = "import floodline.ingest.blocks as b; b.FEWEST_VOXELS = 3000; from floodline.cli import main; main()"
"""The command, with blocks small enough for many in a small volume."""


def test_a_killed_ingest_goes_on_where_it_stopped_and_damage_is_made_good(tmp_path):
    exp, array = large(tmp_path)
    marks = exp.unfinished("image") / "write"
    command = [sys.executable, "-c", CUT, "ingest", str(exp.folder), "image"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while len(list(marks.glob("[!.]*"))) < 5 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {path.name: path.stat().st_mtime_ns for path in marks.iterdir() if not path.name.startswith(".")}
    assert len(done) >= 5
    assert not exp.manifest("image").exists()
    assert process.returncode == -signal.SIGKILL, "it was killed in the middle"

    # One block's mark is there, but its chunk is not what was written any more.
    first = sorted(done)[0]
    corner = first.split("_")
    (chunk,) = exp.layer("image").glob(f"*/{corner[0].split('-')[0]}-8_{corner[1].split('-')[0]}-*_{corner[2]}")
    chunk.write_bytes(bytes(len(chunk.read_bytes())))

    program = CUT.replace("main()", "import floodline.steps as s; s.shutil.rmtree = lambda *a, **k: None; main()")
    again = subprocess.run([sys.executable, "-c", program, *command[3:]], capture_output=True, text=True, check=True)
    kept = {path.name: path.stat().st_mtime_ns for path in marks.iterdir()}
    remade = {name for name, when in done.items() if kept[name] != when}
    assert remade == {first}
    assert "is damaged and is written again" in again.stderr
    layer = Layer.open(exp.layer("image"))
    assert np.array_equal(layer.read(layer.box), array)


def test_a_changed_source_is_read_anew(tmp_path, monkeypatch):
    exp, _ = large(tmp_path)
    monkeypatch.setattr("floodline.steps.Steps.__exit__", lambda *arguments: None)
    ingest_image.run(exp)
    _, array = large(tmp_path, SHAPE_ZYX)
    with h5py.File(tmp_path / "v.h5", "a") as file:
        file["v"][3, 3, 3] = 255 - array[3, 3, 3]
    os.utime(tmp_path / "v.h5", (1, 1))
    monkeypatch.undo()
    ingest_image.run(exp)
    assert Layer.open(exp.layer("image")).read(Box((3, 3, 3), (4, 4, 4))) == 255 - array[3, 3, 3]


def test_verify_finds_what_changed_and_what_is_missing(tmp_path):
    exp, _ = large(tmp_path)
    ingest_image.run(exp, workers=1)
    assert "holds what was written" in verify.run(exp, "image")
    chunks = sorted((exp.layer("image")).glob("8*/*-*_*-*_*-*"))
    spoiled = bytearray(chunks[7].read_bytes())
    spoiled[100] ^= 1
    chunks[7].write_bytes(spoiled)
    chunks[20].unlink()
    with pytest.raises(FloodlineError, match=r"does not hold what was written at x .* \(2 of its chunks\)"):
        verify.run(exp, "image", workers=2)


def test_the_checksum_is_that_of_the_voxels_alone(tmp_path, monkeypatch):
    checksums = set()
    for fewest in (3000, 2**22):
        monkeypatch.setattr("floodline.ingest.blocks.FEWEST_VOXELS", fewest)
        exp, _ = large(tmp_path / str(fewest))
        ingest_image.run(exp)
        checksums.add(read_json(exp.manifest("image"))["checksum"])
    assert len(checksums) == 1


INGEST = """
import sys
from pathlib import Path
from floodline.experiment import Experiment
from floodline.ingest import image
image.run(Experiment(Path(sys.argv[1])), 1, int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [{}, {"match": {}, "clahe": {}}])
def test_a_volume_larger_than_the_memory_passes_within_it(tmp_path, steps):
    """640 MB through 500 MB, of which the interpreter and its libraries have 300."""
    shape = (128, 2000, 2500)
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        dataset = file.create_dataset("v", shape, np.uint8, chunks=(64, 100, 100))
        for z in range(0, shape[0], 64):
            dataset[z : z + 64] = rng.integers(0, 256, (64, *shape[1:]), dtype=np.uint8)
    source = {"kind": "hdf5", "path": str(tmp_path / "v.h5"), "dataset": "v"}
    exp = experiment(tmp_path, {"source": source, "normalise": steps})
    text = (tmp_path / "config.yaml").read_text()
    assert "- 8\n  - 8\n  - 4\n" in text
    (tmp_path / "config.yaml").write_text(text.replace("- 8\n  - 8\n  - 4\n", "- 64\n  - 64\n  - 64\n"))
    _, peak = run_measured([sys.executable, "-c", INGEST, str(tmp_path), "500"])
    assert peak < 500e6
    assert Layer.open(exp.layer("image")).box.voxels == np.prod(shape)
