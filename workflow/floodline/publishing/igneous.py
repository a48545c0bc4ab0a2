"""Meshes and skeletons by igneous, run as a program.

igneous edits the `info` and `provenance` of the layer that it works on, keeps what an earlier run left, and tells of
some failures by nothing but a missing file. So it works on a stand-in: a folder beside the layer with a copy of `info`
and a link to the voxels, or, of a layer in an object store, a copy of them. What it made is checked there, and only
then takes its place in the layer.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
import shutil
import subprocess
import sys
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np

from floodline.config import Publishing
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.manifest import write_json
from floodline.publishing.sizes import sizes
from floodline.software import SETUP
from floodline.volumes.layer import Layer, open_cloud_volume
from floodline.volumes.remote import (
    cloud_files,
    copy,
    exists,
    is_url,
    name_of,
    reaching,
    read_info,
    remove,
    write_info,
)

logger = logging.getLogger("floodline")

Kind = Literal["mesh", "skeletons"]


def make(experiment: Experiment, kind: Kind, forge: list[str], merge: list[str]) -> None:
    """Make the meshes or the skeletons of the neurons layer, and write `neurons/<kind>.json` when they are whole.

    Args:
        kind: their folder in the layer, and the key of `info` that names it.
        forge, merge: arguments of igneous for its two steps, without the path of the layer.

    Raises:
        FloodlineError: there are no neurons, or igneous failed.
    """
    neurons, publishing = experiment.layer("neurons"), experiment.config.publishing
    manifest = experiment.manifest("neurons").with_name(f"{kind}.json")
    manifest.unlink(missing_ok=True)
    remove(neurons, kind)
    register(neurons)

    ids, voxels = sizes(Layer.open(neurons))
    wanted = ids[voxels >= publishing.min_voxels].tolist()
    made: set[int] = set()
    size = 0
    if wanted:
        stand_in = experiment.folder / f".{kind}.partial"
        shutil.rmtree(stand_in, ignore_errors=True)
        stats = _set_up(stand_in, neurons, kind, dict(zip(ids.tolist(), voxels.tolist(), strict=True)))
        layer_url = f"file://{stand_in.absolute()}"
        tasks = tasks_of(Layer.open(neurons), publishing)
        workers = min(tasks, len(os.sched_getaffinity(0)))
        _igneous(["-p", str(workers), *forge, layer_url, *_pieces(publishing)])
        forged = len(list((stand_in / kind).glob("*.spatial*")))
        if forged != tasks:
            raise FloodlineError(f"igneous left {forged} of {tasks} pieces of {kind} undone: run the stage again.")
        _igneous([*merge, layer_url])
        made = finished(stand_in, kind)
        _tidy(stand_in / kind)
        size = sum(file.stat().st_size for file in (stand_in / kind).glob("*"))
        shutil.rmtree(stats)
        if is_url(neurons):
            copy(stand_in / kind, name_of(neurons, kind))
        else:
            (stand_in / kind).rename(Path(neurons) / kind)
        shutil.rmtree(stand_in)
        register(neurons)

    without = sorted(set(wanted) - made)
    if without:
        logger.warning("%d of %d neurons are too thin for %s: %s", len(without), len(wanted), kind, without[:10])
    write_json(
        manifest,
        {
            "neurons": len(wanted) - len(without),
            "without": without,
            "min_voxels": publishing.min_voxels,
            "bytes": size,
        },
    )


def register(neurons: Path | str) -> None:
    """Let `info` name the meshes and skeletons that are there, and no others: a viewer gives up on a dangling name."""
    info = read_info(neurons)
    rest = {key: value for key, value in info.items() if key not in ("mesh", "skeletons")}
    there = {kind: kind for kind in ("mesh", "skeletons") if exists(neurons, f"{kind}/info")}
    write_info(neurons, rest | there)


def tasks_of(layer: Layer, publishing: Publishing) -> int:
    """Number of pieces in which igneous goes through a layer."""
    pieces = zip(layer.box.size_xyz, publishing.task_size_xyz, strict=True)
    return int(np.prod([ceil(size / task) for size, task in pieces]))


def _pieces(publishing: Publishing) -> list[str]:
    """Arguments that forging meshes and skeletons have in common."""
    shape = ",".join(str(size) for size in publishing.task_size_xyz)
    # Without --dust-global the limit would hold for the part of a neuron in a piece, and tear holes into large ones.
    limit = ["--dust-threshold", str(publishing.min_voxels), "--dust-global"]
    return ["--mip", "0", "--shape", shape, *limit, *(["--sharded"] if publishing.sharded else [])]


def _set_up(stand_in: Path, neurons: Path | str, kind: Kind, voxels: dict[int, int]) -> Path:
    """Make the folder that igneous works in, and the table of sizes that its --dust-global reads.

    Returns:
        the folder of that table; it lies beside the voxels, in a local layer itself.
    """
    from mapbuffer import IntMap

    info = read_info(neurons)
    info["scales"] = info["scales"][:1]
    scale = info["scales"][0]["key"]
    stand_in.mkdir()
    # Without its key igneous would choose a folder's name itself.
    write_json(stand_in / "info", info | {kind: kind})
    if is_url(neurons):
        copy(name_of(neurons, scale), stand_in / scale)
    else:
        (stand_in / scale).symlink_to((Path(neurons) / scale).absolute(), target_is_directory=True)
    stats = stand_in / scale / "stats"
    stats.mkdir(exist_ok=True)
    (stats / "voxel_counts.im").write_bytes(IntMap(voxels).tobytes())
    return stats


def _igneous(arguments: list[str]) -> None:
    """Run igneous and wait for it.

    Raises:
        FloodlineError: it is not installed, or it failed; the sentence has its last line, the log all of them.
    """
    program = Path(sys.executable).with_name("igneous")
    command = " ".join(["igneous", *arguments])
    logger.info("%s", command)
    try:
        done = subprocess.run(
            [program, *arguments],
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise FloodlineError(f"{program} is missing: igneous-pipeline is in the lock; run {SETUP}.") from None
    if done.returncode:
        logger.error("%s\n%s%s", command, done.stdout, done.stderr)
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise FloodlineError(f"`{command}` ended with status {done.returncode}: {last}")


def finished(layer: Path | str, kind: Kind) -> set[int]:
    """Neurons whose mesh or skeleton is there, whole files and shards alike."""
    folder = name_of(layer, kind)
    with reaching(folder, "read"):
        names = list(cloud_files(folder).list())
        if "sharding" in read_info(folder):
            volume = open_cloud_volume(layer)
            reader = (volume.mesh if kind == "mesh" else volume.skeleton).reader
            shards = [name for name in names if name.endswith(".shard")]
            return {int(label) for shard in shards for label in reader.list_labels(f"{kind}/{shard}")}
    # A mesh of several levels of detail is an index and its data; a skeleton is one file.
    pattern = r"(\d+)\.index" if kind == "mesh" else r"(\d+)(\.gz)?"
    return {int(match[1]) for name in names if (match := re.fullmatch(pattern, name))}


def _tidy(folder: Path) -> None:
    """Remove the pieces that were merged, and unpack what igneous compressed.

    gzip's header holds the time, and a plain web server does not know that `1` is served from `1.gz`.
    """
    for file in folder.iterdir():
        # Pieces carry a neuron and a box, `7:0:0-64_0-64_0-64`; those of shards are .frags, with .labels beside them.
        if ":" in file.name or ".frags" in file.suffixes or ".labels" in file.suffixes:
            file.unlink()
        elif file.suffix == ".gz":
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
            file.unlink()
