"""Flood-fill inference, measured: the bare network and the whole of inference, in every runtime and precision; and what
each way of flooding costs in calls of the network and gives in quality.

    .venv/bin/python benchmarks/inference.py /where/fib25/is [--boxes 0,0,0,110,110,110 ...] [--ways "steps of 12" ...]
    .venv/bin/python benchmarks/inference.py --memory 384 [--seeds peaks fill_empty_space] [--consensus]

One run prints one table, so that its ratios can be trusted on a noisy machine: the bare calls are measured just before
and just after each flood, whose time includes the search for seeds. "In vain" are the calls of attempts that left no
object: no early stop can save more. What several fronts of one object in a call could save is seen from the bare rate
of larger batches. bfloat16 is measured where the processor computes in it. A box that reaches beyond the labels (z 150)
gets no scores.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from floodline import config as configuration
from floodline.config import BodyTable, Flood, FloodPolicy, Network
from floodline.experiment import Experiment
from floodline.ffn import weights
from floodline.ffn.canvas import Canvas
from floodline.ffn.flood import Flooding, Floods, Predict, drive
from floodline.ffn.network import layers
from floodline.ffn.openvino import is_installed
from floodline.ffn.precision import Precision, resolve
from floodline.ffn.runtimes import Runtime, inference_network
from floodline.ffn.seeds import inside, peaks
from floodline.geometry import Box, blocks, to_zyx
from floodline.inference.checkpoint import Checkpoint
from floodline.inference.subvolume import flood_subvolume
from floodline.ingest.labels import as_bodies, read_body_table
from floodline.manifest import write_block, write_json, write_text
from floodline.segmentation.contingency import tabulate
from floodline.segmentation.scores import CONVENTIONS, coverage, score
from floodline.volumes.layer import Layer

MEAN, STDDEV = 128.0, 33.0
SECONDS_OF_BARE_CALLS = 4.0
BATCHES = (1, 2, 4)
OPTIONS = {"grid": {"step": 100}}
"""Of seed policies, when memory is measured."""
FASTEST: Precision = resolve("auto")
BOXES = ["0,0,0,110,110,110", "130,130,40,240,240,150"]


@dataclass(frozen=True)
class Way:
    """A way of flooding."""

    name: str
    policy: FloodPolicy = "reference"
    runtime: Runtime = "tensorflow"
    precision: Precision = FASTEST
    network: Network = field(default_factory=Network)
    largest_first: bool = False


def ways() -> list[Way]:
    """What is compared."""
    runtimes: list[Runtime] = ["tensorflow"]
    if is_installed():
        runtimes.append("openvino")
    precisions: list[Precision] = ["float32"]
    if FASTEST != "float32":
        precisions.append(FASTEST)
    policies: list[FloodPolicy] = ["reference", "efficient"]
    return [
        *(
            Way(policy, policy, runtime, precision, largest_first=policy == "efficient")
            for policy in policies
            for runtime, precision in product(runtimes, precisions)
        ),
        Way("steps of 12", network=Network(deltas_xyz=(12, 12, 12))),
        Way("steps of 16", network=Network(deltas_xyz=(16, 16, 16))),
        Way("... raster order", "efficient"),
        Way("... view of 41", "efficient", network=Network(fov_xyz=(41, 41, 41)), largest_first=True),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "fib25", type=Path, nargs="?", help="folder with grayscale_maps/, groundtruth.h5 and ffn_weights/"
    )
    parser.add_argument("--boxes", nargs="+", default=BOXES, help="x0,y0,z0,x1,y1,z1")
    parser.add_argument("--ways", nargs="+", choices=sorted({way.name for way in ways()}), help="only these rows")
    parser.add_argument("--memory", type=int, help="only measure the memory of a sub-volume of so many voxels a side")
    parser.add_argument(
        "--seeds", nargs="+", default=["peaks"], help="with --memory: the seed policies, one after the other"
    )
    parser.add_argument("--consensus", action="store_true", help="with --memory: of two passes")
    arguments = parser.parse_args()
    if arguments.memory:
        seeds = [{"policy": policy, **OPTIONS.get(policy, {})} for policy in arguments.seeds]
        inference = {"seeds": seeds, "consensus": "split" if arguments.consensus else None}
        held = bytes_a_voxel(arguments.memory, inference)
        print(f"{held:.1f} bytes a voxel beyond the network, {arguments.memory}^3 voxels, {inference}")
        return
    if not arguments.fib25:
        parser.error("the folder of the FIB-25 data is missing")
    chosen = [way for way in ways() if not arguments.ways or way.name in arguments.ways]
    values = weights.load(arguments.fib25 / "ffn_weights/model.ckpt-27465036")
    for runtime, precision in dict.fromkeys((way.runtime, way.precision) for way in chosen):
        network, fov_xyz = inference_network(values, Network(), precision, runtime), Network().fov_xyz
        rates = ", ".join(f"{bare_rate(network, fov_xyz, batch):.2f} in calls of {batch}" for batch in BATCHES)
        print(f"bare FOV/s, {runtime}, {precision}: {rates}", flush=True)
    print(
        "way              runtime     precision  bare FOV/s  GFLOP/s  whole/bare  calls  in vain  calls/kvoxel"
        "  wall s  objects"
    )
    for text in arguments.boxes:
        x0, y0, z0, x1, y1, z1 = map(int, text.split(","))
        box = Box((x0, y0, z0), (x1, y1, z1))
        image, truth = read(arguments.fib25, box)
        print(f"box {box}")
        for way in chosen:
            measure(way, inference_network(values, way.network, way.precision, way.runtime), image, truth)


def read(fib25: Path, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
    """Image and bodies (z, y, x) of a box; no bodies where the labels do not reach."""
    import h5py
    from PIL import Image

    stack = np.stack([np.asarray(Image.open(path)) for path in sorted((fib25 / "grayscale_maps").glob("*.png"))])
    part = box.slices_zyx((0, 0, 0))
    image = np.ascontiguousarray(stack[part])
    with h5py.File(fib25 / "groundtruth.h5") as file:
        if box.stop_xyz[2] > len(file["stack"]):
            return image, None
        supervoxels = file["stack"][part].astype(np.uint64)
    bodies = read_body_table(BodyTable(path=str(fib25 / "groundtruth.h5")))
    return image, as_bodies(supervoxels, bodies)


def measure(way: Way, network: Predict, image: np.ndarray, truth: np.ndarray | None) -> None:
    """Print the rows of one way."""
    options, fov_xyz = Flood(policy=way.policy), way.network.fov_xyz
    before = bare_rate(network, fov_xyz)
    began = time.monotonic()
    seeds = inside(peaks(image, MEAN, STDDEV, largest_first=way.largest_first), image.shape, fov_xyz)
    canvas = Canvas(image, MEAN, STDDEV, fov_xyz, options)
    floods = Floods(canvas, options, way.network.deltas_xyz, seeds)
    drive([floods.flood_all()], network)
    wall = time.monotonic() - began
    bare = (before + bare_rate(network, fov_xyz)) / 2
    calls = floods.counts["network_calls"]
    vain = calls - sum(segment.calls for segment in floods.segments)
    flops = 2 * np.prod(fov_xyz) * sum(np.prod(kernel) for _, kernel in layers(way.network))
    segmentation = canvas.objects()
    print(
        f"{way.name:15s}  {way.runtime:10s}  {way.precision:9s}  {bare:10.2f}  {bare * flops / 1e9:7.0f}"
        f"  {calls / wall / bare:10.3f}  {calls:5d}  {vain:7d}  {1000 * calls / image.size:12.3f}  {wall:6.1f}"
        f"  {len(floods.segments):7d}",
        flush=True,
    )
    if truth is not None:
        table = tabulate(truth, segmentation)
        for name, convention in CONVENTIONS.items():
            scores = score(convention(table))
            print(
                f"{'':17s}{name:16s}  coverage {coverage(table):.4f}, adapted Rand error "
                f"{scores.adapted_rand_error:.4f}, VOI {scores.voi_split:.3f} + {scores.voi_merge:.3f} bits"
            )


def bare_rate(network: Predict, fov_xyz: tuple[int, int, int], batch: int = 1) -> float:
    """Fields of view a second of the network alone."""
    values = np.random.default_rng(0).normal(size=(batch, *to_zyx(fov_xyz))).astype(np.float32)
    network(values, values)
    began, calls = time.monotonic(), 0
    while time.monotonic() - began < SECONDS_OF_BARE_CALLS:
        network(values, values)
        calls += 1
    return batch * calls / (time.monotonic() - began)


def bytes_a_voxel(side: int, inference: dict[str, Any]) -> float:
    """Peak memory of a sub-volume, from image to block, checkpoints included, with a network that costs nothing."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        small, large = (noise(Path(folder) / str(voxels), voxels, inference) for voxels in (64, side))
        flood(small)  # what is loaded once
        before = peak_memory()
        flood(large)
        return (peak_memory() - before) / side**3


def noise(folder: Path, side: int, inference: dict[str, Any]) -> Experiment:
    """An experiment with a sub-volume of noise."""
    flooding = {"subvolume_size_xyz": [side] * 3, "checkpoint_seconds": 1.0, **inference}
    image = {"source": {"kind": "phantom", "size_xyz": [side] * 3}}
    values = {"name": "noise", "image": image, "network": {"weights": "none"}, "inference": flooding}
    write_text(folder / "config.yaml", configuration.dump(configuration.parse(values)))
    experiment, box = Experiment(folder), Box((0, 0, 0), (side, side, side))
    layer = Layer.create(
        experiment.layer("image"),
        box=box, dtype="uint8", voxel_size_nm_xyz=(8, 8, 8), chunk_size_xyz=(64, 64, 64), kind="image",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for slab in blocks(box, (side, side, 64)):
        layer.write(slab, rng.integers(0, 255, slab.shape_zyx, np.uint8))
    write_json(experiment.manifest("image"), {"box_xyz": box.corners, "mean": MEAN, "stddev": STDDEV})
    return experiment


def flood(experiment: Experiment) -> None:
    """Flood the sub-volume: grow whatever is looked at, and resume once on the way."""
    (box,) = experiment.subvolumes

    def grow(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        return np.full_like(seed, 5)

    def interrupted(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        if experiment.block(box).with_suffix(Checkpoint.SUFFIX).exists():
            raise InterruptedError
        return grow(image, seed)

    with contextlib.suppress(InterruptedError):
        drive([to_block(experiment, box)], interrupted)
    drive([to_block(experiment, box)], grow)


def to_block(experiment: Experiment, box: Box) -> Flooding[None]:
    """Flood a sub-volume into its block, as a shard does."""
    result = yield from flood_subvolume(experiment, box, "p")
    write_block(experiment.block(box), "p", result.block())


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
