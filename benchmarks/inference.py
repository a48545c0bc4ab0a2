"""Flood-fill inference, measured: the bare network, the whole of inference, and what each precision costs in quality.

    .venv/bin/python benchmarks/inference.py /where/fib25/is [--box 0 0 0 110 110 110]

One run prints one table, so that its ratios can be trusted on a noisy machine: the bare calls of a precision are
measured just before and just after its flood.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Literal

import numpy as np

from floodline.config import Flood, Network
from floodline.ffn import weights
from floodline.ffn.canvas import Canvas
from floodline.ffn.flood import Floods, drive
from floodline.ffn.network import InferenceNetwork, layers
from floodline.ffn.seeds import inside, peaks
from floodline.geometry import Box
from floodline.ingest.labels import as_bodies, read_body_table
from floodline.segmentation.contingency import tabulate
from floodline.segmentation.scores import CONVENTIONS, coverage, score

NETWORK = Network()
MEAN, STDDEV = 128.0, 33.0
SECONDS_OF_BARE_CALLS = 5.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fib25", type=Path, help="folder with grayscale_maps/, groundtruth.h5 and ffn_weights/")
    parser.add_argument("--box", type=int, nargs=6, default=[0, 0, 0, 110, 110, 110], help="x0 y0 z0 x1 y1 z1")
    arguments = parser.parse_args()
    x0, y0, z0, x1, y1, z1 = arguments.box
    box = Box((x0, y0, z0), (x1, y1, z1))
    image, truth = read(arguments.fib25, box)
    values = weights.load(arguments.fib25 / "ffn_weights/model.ckpt-27465036")
    print(f"box {box}, depth {NETWORK.depth}, field of view {NETWORK.fov_xyz}, batch 1")
    print("precision   bare FOV/s  GFLOP/s  whole FOV/s  whole/bare  calls  calls/kvoxel  wall s  objects  coverage")
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    for precision in precisions:
        measure(precision, InferenceNetwork(values, NETWORK, precision), image, truth)


def read(fib25: Path, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
    """Image and bodies (z, y, x) of a box; no bodies where the labels do not reach."""
    import h5py
    from PIL import Image

    from floodline.config import BodyTable

    stack = np.stack([np.asarray(Image.open(path)) for path in sorted((fib25 / "grayscale_maps").glob("*.png"))])
    part = box.slices_zyx((0, 0, 0))
    with h5py.File(fib25 / "groundtruth.h5") as file:
        if box.stop_xyz[2] > len(file["stack"]):
            return stack[part], None
        supervoxels = file["stack"][part].astype(np.uint64)
    bodies = read_body_table(BodyTable(path=str(fib25 / "groundtruth.h5")))
    return stack[part], as_bodies(supervoxels, bodies)


def measure(precision: str, network: InferenceNetwork, image: np.ndarray, truth: np.ndarray | None) -> None:
    """Print the rows of one precision."""
    options = Flood()
    seeds = inside(peaks(image, MEAN, STDDEV), image.shape, NETWORK.fov_xyz)
    canvas = Canvas(image, MEAN, STDDEV, NETWORK.fov_xyz, options)
    floods = Floods(canvas, options, NETWORK.deltas_xyz, seeds)
    before = bare_rate(network)
    began = time.monotonic()
    drive([floods.flood_all()], network)
    wall = time.monotonic() - began
    bare = (before + bare_rate(network)) / 2
    calls = floods.counts["network_calls"]
    flops = 2 * np.prod(NETWORK.fov_xyz) * sum(np.prod(kernel) for _, kernel in layers(NETWORK))
    segmentation = np.maximum(canvas.segmentation, 0)
    print(
        f"{precision:10s}  {bare:10.2f}  {bare * flops / 1e9:7.0f}  {calls / wall:11.2f}  {calls / wall / bare:10.2f}"
        f"  {calls:5d}  {1000 * calls / image.size:12.3f}  {wall:6.1f}  {len(floods.segments):7d}"
        f"  {(segmentation > 0).mean():8.3f}"
    )
    if truth is not None:
        table = tabulate(truth, segmentation)
        for name, convention in CONVENTIONS.items():
            scores = score(convention(table))
            print(
                f"            {name}: coverage {coverage(table):.3f}, adapted Rand error "
                f"{scores.adapted_rand_error:.3f}, VOI {scores.voi_split:.3f} + {scores.voi_merge:.3f} bits"
            )


def bare_rate(network: InferenceNetwork) -> float:
    """Calls a second of the network alone."""
    z, y, x = NETWORK.fov_xyz[::-1]
    values = np.random.default_rng(0).normal(size=(1, z, y, x)).astype(np.float32)
    network(values, values)
    began, calls = time.monotonic(), 0
    while time.monotonic() - began < SECONDS_OF_BARE_CALLS:
        network(values, values)
        calls += 1
    return calls / (time.monotonic() - began)


if __name__ == "__main__":
    main()
