"""Ingest, measured: an HDF5 file of 8 bits to a precomputed layer, beside the storage libraries' own ways to copy it.

    .venv/bin/python benchmarks/ingest.py [--megabytes 1024] [--rounds 3] [--folder /where/there/is/room]

Nothing is compressed. One run prints one table, and the ways take turns, so that ratios can be trusted on a noisy
machine; of each the best round counts. Seconds are wall time with the start of processes and imports; processor seconds
are of all processes together. The file is in the page cache when it is read.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from floodline import config

CHUNK = (64, 64, 64)

CLOUD_VOLUME = """
import sys, warnings; warnings.simplefilter("ignore")
import h5py
from cloudvolume import CloudVolume
source, target = sys.argv[1:]
data = h5py.File(source)["v"]
z, y, x = data.shape
info = CloudVolume.create_new_info(1, "image", "uint8", "raw", [8, 8, 8], [0, 0, 0], [x, y, z], [64, 64, 64])
layer = CloudVolume("file://" + target, info=info, compress=False, progress=False)
layer.commit_info()
for start in range(0, z, 64):
    layer[:, :, start : start + 64] = data[start : start + 64].transpose()
"""

TENSORSTORE = """
import sys
import h5py, tensorstore
source, target = sys.argv[1:]
data = h5py.File(source)["v"]
z, y, x = data.shape
layer = tensorstore.open({
    "driver": "neuroglancer_precomputed", "kvstore": "file://" + target + "/", "create": True,
    "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
    "scale_metadata": {"size": [x, y, z], "resolution": [8, 8, 8], "encoding": "raw", "chunk_size": [64, 64, 64]},
}).result()
for start in range(0, z, 64):
    layer[:, :, start : start + 64, 0].write(data[start : start + 64].transpose()).result()
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="default: the system's temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        source = folder / "source.h5"
        write_source(source, arguments.megabytes)
        ways: dict[str, Callable[[Path], list[str]]] = {
            "floodline, 2 workers": lambda target: floodline(source, target, 2),
            "floodline, 1 worker": lambda target: floodline(source, target, 1),
            "CloudVolume, slab by slab": lambda target: [sys.executable, "-c", CLOUD_VOLUME, str(source), str(target)],
            "tensorstore, slab by slab": lambda target: [sys.executable, "-c", TENSORSTORE, str(source), str(target)],
            "igneous image create": lambda target: igneous(source, target),
        }
        best: dict[str, tuple[float, float]] = {}
        for _ in range(arguments.rounds):
            for way, command_for in ways.items():
                target = folder / "target"
                shutil.rmtree(target, ignore_errors=True)
                command = command_for(target)
                best[way] = min(best.get(way, (np.inf, np.inf)), measured(command))
        megabytes = source.stat().st_size / 1e6
        print(f"{megabytes:.0f} MB, {len(os.sched_getaffinity(0))} cores")
        print(f"{'way':28s} {'s':>6s} {'MB/s':>6s} {'CPU s':>6s}  of floodline's speed with 2 workers")
        first = best["floodline, 2 workers"][0]
        for way, (seconds, processor) in best.items():
            print(f"{way:28s} {seconds:6.1f} {megabytes / seconds:6.0f} {processor:6.1f}  {first / seconds:.2f}")


def write_source(path: Path, megabytes: int) -> None:
    """A chunked dataset of noise, which nothing can compress."""
    rng = np.random.default_rng(0)
    depth = 64 * max(1, round(megabytes / 64))
    with h5py.File(path, "w") as file:
        data = file.create_dataset("v", (depth, 1024, 1024), np.uint8, chunks=CHUNK)
        for z in range(0, depth, 64):
            data[z : z + 64] = rng.integers(0, 256, (64, 1024, 1024), dtype=np.uint8)


def floodline(source: Path, target: Path, workers: int) -> list[str]:
    values = {
        "name": "ingest",
        "image": {
            "source": {"kind": "hdf5", "path": str(source), "dataset": "v"},
            "voxel_size_nm_xyz": [8, 8, 8],
        },
        "network": {"weights": "none"},
    }
    target.mkdir()
    (target / "config.yaml").write_text(config.dump(config.parse(values)))
    command = str(Path(sys.executable).with_name("floodline"))
    return [command, "ingest", str(target), "image", "--workers", str(workers), "--memory-mb", "1000"]


def igneous(source: Path, target: Path) -> list[str]:
    command = str(Path(sys.executable).with_name("igneous"))
    options = ["--resolution", "8,8,8", "--chunk-size", "64,64,64", "--compress", "none", "--h5-dataset", "v"]
    return [command, "image", "create", str(source), f"file://{target}", *options]


def measured(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, used


if __name__ == "__main__":
    main()
