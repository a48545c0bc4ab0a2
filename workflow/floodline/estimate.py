"""`floodline estimate`: what an experiment takes on a machine, before anything is spent.

Everything follows from the configuration, the size of the volumes, what the profile gives each rule, and how fast the
network is (`floodline tune`, or a measurement of a few seconds). Time is work divided by ranks and rate, in whole
rounds of sub-volumes or boxes; a rate that was measured on other cores than a rank has is taken as proportional.

What it does not know: how long jobs wait in the queue, and how fast the file system is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil, prod
from typing import Any

import numpy as np

from floodline.config import Config, cells
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.network import layers
from floodline.geometry import Box, triple
from floodline.manifest import read_block, read_json
from floodline.schedulers import limits
from floodline.schedulers.commands import with_nodes
from floodline.volumes.sources import open_source

CALLS = {"reference": 0.85, "efficient": 0.21}
"""Network calls for each voxel times the product of the deltas: 25,799 calls for 250^3 voxels with deltas of 8 in
google/ffn's published FIB-25 result; a quarter of it is assumed with efficient (0.27 on two boxes of 110^3)."""

MEASURED_BLOCKS = 16
"""Blocks of this experiment, at most, that are looked into for a better number."""

VOXELS_PER_CORE_SECOND = {
    "ingest_image": 20e6,
    "ingest_labels": 5e6,
    "partitions": 6e6,
    "coordinates": 9e6,
    "supervoxels": 4e6,
    "region_graph": 1.8e6,
    "neurons": 12e6,
    "pyramid": 4e6,
    "metrics": 1.2e6,
    "meshes": 0.3e6,
    "skeletons": 1e6,
}
"""Of the other stages: processor time on a generated volume of 192^3 voxels, 2026-11-24, on a core with AVX-512; ingest
and skeletons are assumed. Much depends on the data, so these say the order of magnitude."""

SEGMENTATION_BYTES = 0.2
"""Of a voxel of a segmentation layer, as stored; measured on the same volume."""
BLOCK_BYTES = 5
"""Of a voxel of a block: id 4, probability 1. Candidates of free voxels are a few per cent more."""
BOX_SIDE = 256
"""Voxels that the stages that work box by box take at once along each axis."""
STARTING_SECONDS = 20.0
"""Until the libraries of a job are loaded: assumed; thousands of ranks take longer."""


TUNED = "tune.json"


@dataclass(frozen=True)
class Given:
    """What the profile gives a rule."""

    nodes: int
    ranks: int
    cores: float
    """Of a rank."""
    minutes: int | None
    """Wall time of a job; None: no limit."""
    queue: str
    limits: str

    @classmethod
    def of(cls, resources: Mapping[str, Any]) -> Given:
        """From a rule's resources, as Snakemake knows them; without any: one process on this machine."""
        ranks = int(resources.get("tasks", 1) if resources.get("mpi") else resources.get("workers", 1))
        nodes = int(resources.get("nodes", 1))
        node_cores = int(resources.get("node_cores") or os.cpu_count() or 1)
        minutes = resources.get("runtime")
        return cls(
            nodes,
            ranks,
            max(1.0, node_cores * nodes / ranks),
            None if minutes is None else int(minutes),
            str(resources.get("queue", "")),
            str(resources.get("limits", "")),
        )

    @property
    def usable_seconds(self) -> float:
        """Of a job: a stage stops a tenth of the time, at most five minutes, before the end (allocation.py)."""
        if self.minutes is None:
            return float("inf")
        return 60 * self.minutes - min(300.0, 6 * self.minutes)


@dataclass(frozen=True)
class Stage:
    """What a rule has to do."""

    rule: str
    jobs: int
    """Jobs of the rule, where each fits its wall time."""
    tasks: int
    """Of a job, that ranks take one by one."""
    core_seconds: float
    """Of a task, on one core."""
    read: float
    written: float
    """Bytes, of all jobs."""
    on_ranks: bool = True
    each_rank: bool = False
    """Whether every rank has all these tasks, as in a training whose length is given in steps."""
    workers: int | None = None
    """Of a study's cell; None: as many ranks as the profile gives."""

    def given(self, resources: Mapping[str, Mapping[str, Any]]) -> Given:
        """What the profile gives it."""
        own = dict(resources.get(self.rule, {}))
        return Given.of(own if self.workers is None else with_nodes({**own, "tasks": self.workers}))


@dataclass(frozen=True)
class Line:
    """The estimate of one stage."""

    rule: str
    jobs: int
    nodes: int
    seconds: float
    """Of one of the rule's jobs, from its start to its end, however often it is queued again."""
    node_hours: float
    read: float
    written: float


def run(experiment: Experiment, resources: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the estimate.

    Args:
        experiment: of its results only the configuration must be there.
        resources: of each rule, as the profile gives them; missing ones: one process on this machine.

    Raises:
        FloodlineError: a job does not fit its queue, or a stage that cannot go on in another job does not fit one.
    """
    rates = rates_of(experiment)
    calls, calls_from = calls_per_voxel(experiment)
    work = stages(experiment, rates, calls)
    given = [stage.given(resources) for stage in work]
    lines = [line(stage, one) for stage, one in zip(work, given, strict=True)]
    print(table(lines))
    print(
        f"\nCores at {', '.join(f'{rate:.3g} fields of view a second ({name})' for name, rate in rates.items())}; "
        f"{1000 * calls:.3g} network calls for a thousand voxels ({calls_from})."
    )
    asked = [(rule, Given.of(values)) for rule, values in resources.items() if rule != "study_cell"]
    asked += [(stage.rule, one) for stage, one in zip(work, given, strict=True) if stage.workers]
    refusals = [sentence for rule, one in asked if (sentence := refusal(rule, one))]
    refusals += [
        f"{stage.rule}: one process needs {_number(one.seconds / 3600)} h, and its job ends after "
        f"{_number((has.minutes or 0) / 60)} h, and would begin anew: give it more time."
        for stage, one, has in zip(work, lines, given, strict=True)
        if not stage.on_ranks and one.seconds > has.usable_seconds
    ]
    if refusals:
        raise FloodlineError(" ".join(refusals))


def rates_of(experiment: Experiment) -> dict[str, float]:
    """Fields of view a second of one core, for inference and, where there is one, for training.

    From the experiment's `tune.json`, as `floodline tune --output` writes it; what is not there is measured now.

    Raises:
        FloodlineError: the file is not of this network.
    """
    from floodline.ffn import rate
    from floodline.ffn.precision import of_inference

    config, tuned = experiment.config, experiment.folder / TUNED
    inference, rates = config.inference, dict[str, float]()
    if tuned.is_file():
        numbers = read_json(tuned)
        network = config.network.without_weights()
        if numbers.get("network") != network:
            raise FloodlineError(f"{tuned} was measured with another network: run `floodline tune` with this one.")
        rates = {name: value / numbers["cores"] for name, value in numbers["fov_per_second"].items()}
        if (numbers.get("runtime"), numbers.get("precision")) != (inference.runtime, of_inference(inference)):
            rates.pop("inference", None)  # of another way to compute than this experiment's
    cores = len(os.sched_getaffinity(0))
    if "inference" not in rates:
        rates["inference"] = rate.inference(config) / cores
    if config.training is not None and "training" not in rates:
        rates["training"] = rate.training(config) / cores
    return rates


def calls_per_voxel(experiment: Experiment) -> tuple[float, str]:
    """Network calls for each voxel of a sub-volume, of both passes if there are two, and where the number is from."""
    calls = voxels = 0
    for path in islice(sorted((experiment.inference / "blocks").glob("*.block")), MEASURED_BLOCKS):
        block = read_block(path)
        if block is not None:
            counts = dict(zip(block["count_names"].tolist(), block["counts"].tolist(), strict=True))
            calls, voxels = calls + counts.get("network_calls", 0), voxels + block["segmentation"].size
    if voxels:
        return calls / voxels, "as in the sub-volumes that are flooded already"
    config = experiment.config
    passes = 1 if config.inference.consensus is None else 2
    expected = passes * CALLS[config.inference.flood.policy] / max(1, prod(config.network.deltas_xyz))
    return expected, "as in the published FIB-25 run: flood a few sub-volumes, and estimate again"


def stages(experiment: Experiment, rates: Mapping[str, float], calls: float) -> list[Stage]:
    """What each rule has to do, in order; of a study, what its trainings need and they themselves.

    Args:
        rates: fields of view a second of a core.
        calls: of the network, for each voxel of a sub-volume.
    """
    config = experiment.config
    source = open_source(config.image.source, config.seed)
    volume = source.box if config.image.crop_xyz is None else Box.of(config.image.crop_xyz)
    voxels, image = volume.voxels, volume.voxels * np.dtype(source.dtype).itemsize
    segmentation = SEGMENTATION_BYTES * voxels
    if config.study is not None:
        return [
            _boxwise("ingest_image", voxels, image, image),
            *_labels(config, volume),
            *_training(config, volume, rates),
        ]
    stored = 2 * segmentation + image
    pyramid = replace(_alone("pyramid", voxels, stored, stored / 7), jobs=3 if config.labels is None else 4)
    return [
        _boxwise("ingest_image", voxels, image, image),
        *_labels(config, volume),
        *_training(config, volume, rates),
        *_flooding(config, volume, image / voxels, rates["inference"], calls),
        _boxwise("region_graph", voxels, segmentation + image + voxels, 0),
        _boxwise("neurons", voxels, segmentation, segmentation),
        pyramid,
        *([_boxwise("metrics", voxels, 3 * segmentation, 0)] if config.labels is not None else []),
        _alone("meshes", voxels, segmentation, 0),
        _alone("skeletons", voxels, segmentation, 0),
    ]


def _labelled(config: Config, volume: Box) -> int:
    """Voxels of the labels."""
    assert config.labels is not None
    return (volume if config.labels.box_xyz is None else Box.of(config.labels.box_xyz)).voxels


def _labels(config: Config, volume: Box) -> list[Stage]:
    """Labels serve training or scores."""
    if config.labels is None:
        return []
    voxels = _labelled(config, volume)
    return [_boxwise("ingest_labels", voxels, 8 * voxels, SEGMENTATION_BYTES * voxels)]


def _training(config: Config, volume: Box, rates: Mapping[str, float]) -> list[Stage]:
    """From the labels to the network."""
    if config.labels is None or config.training is None:
        return []
    labelled, training = _labelled(config, volume), config.training
    used = labelled if config.sites.box_xyz is None else Box.of(config.sites.box_xyz).voxels
    stored, batch = SEGMENTATION_BYTES * labelled, training.batch_size
    steps = training.steps or ceil(_fovs(config) / batch)
    return [
        _boxwise("partitions", used, 2 * stored, used),
        _boxwise("coordinates", used, 2 * used, 0),
        *(
            _cells(config, rates["training"], stored)
            if config.study is not None
            else [
                Stage("train_network", 1, steps, batch / rates["training"], stored, 0, each_rank=bool(training.steps))
            ]
        ),
    ]


def _fovs(config: Config) -> float:
    """Length of the training in fields of view of the network's own size: smaller ones count by their voxels."""
    assert config.training is not None
    return config.training.voxels_of(config.training.fovs, config.network) / prod(config.network.fov_xyz)


def _cells(config: Config, rate: float, read: float) -> list[Stage]:
    """The trainings of a study, those of equally many workers and equal work together.

    Args:
        rate: fields of view a second of a core with the study's own network; a cell's takes its share of the weights.
    """
    found: Counter[tuple[int, int, float]] = Counter()
    for cell in cells(config).values():
        training = cell.config.training
        assert training is not None
        steps = cell.workers * training.steps if training.steps else ceil(_fovs(cell.config) / training.batch_size)
        seconds = training.batch_size / rate * _weights(cell.config) / _weights(config)
        found[cell.workers, steps, seconds] += 1
    return [
        Stage("study_cell", jobs, steps, seconds, jobs * read, 0, workers=workers)
        for (workers, steps, seconds), jobs in found.items()
    ]


def _weights(config: Config) -> int:
    return sum(prod(kernel) for _, kernel in layers(config.network))


def _flooding(config: Config, volume: Box, image_bytes: float, rate: float, calls: float) -> list[Stage]:
    """From the image to the supervoxels."""
    size, overlap = triple(map(min, config.inference.subvolume_size_xyz, volume.size_xyz)), config.overlap_xyz
    along = [
        1 if s == whole else ceil((whole - o) / (s - o))
        for whole, s, o in zip(volume.size_xyz, size, overlap, strict=True)
    ]
    subvolumes = prod(along)
    shards = min(config.inference.shards, subvolumes)
    block = BLOCK_BYTES * prod(size)
    # Assembly reads a block for its objects, once for each of its six overlaps, and again for each box that it touches.
    touched = prod(
        min(n, (min(BOX_SIDE, whole) + s) / (s - o))
        for n, whole, s, o in zip(along, volume.size_xyz, size, overlap, strict=True)
    )
    read = block * (7 * subvolumes + touched * ceil(volume.voxels / BOX_SIDE**3))
    seconds = calls * prod(size) / rate
    flooded = subvolumes * prod(size)
    return [
        Stage("flood", shards, ceil(subvolumes / shards), seconds, flooded * image_bytes, subvolumes * block),
        _boxwise("supervoxels", volume.voxels, read, (1 + SEGMENTATION_BYTES) * volume.voxels),
    ]


def _boxwise(rule: str, voxels: int, read: float, written: float) -> Stage:
    boxes = ceil(voxels / BOX_SIDE**3)
    return Stage(rule, 1, boxes, voxels / boxes / VOXELS_PER_CORE_SECOND[rule], read, written)


def _alone(rule: str, voxels: int, read: float, written: float) -> Stage:
    return Stage(rule, 1, 1, voxels / VOXELS_PER_CORE_SECOND[rule], read, written, on_ranks=False)


def line(stage: Stage, given: Given) -> Line:
    """How long a stage takes, and in how many jobs."""
    ranks = given.ranks if stage.on_ranks else 1
    # A stage that is one process, or works box by box, computes with one core of a rank; the network takes them all.
    cores = given.cores if stage.rule in ("train_network", "study_cell", "flood") else 1.0
    rounds = stage.tasks if stage.each_rank else ceil(stage.tasks / ranks)
    seconds = STARTING_SECONDS + rounds * stage.core_seconds / cores
    times = ceil(seconds / given.usable_seconds) if stage.on_ranks and given.minutes else 1
    return Line(
        stage.rule,
        stage.jobs * times,
        given.nodes,
        seconds + (times - 1) * STARTING_SECONDS,
        stage.jobs * given.nodes * seconds / 3600,
        stage.read,
        stage.written,
    )


def refusal(rule: str, given: Given) -> str | None:
    """Why the queue does not take a job of a rule."""
    if not given.limits or given.minutes is None:
        return None
    try:
        limits.check(given.queue, given.limits, given.nodes, given.minutes)
    except FloodlineError as error:
        return f"{rule}: {error}"
    return None


def table(lines: list[Line]) -> str:
    """For people."""
    rows = [("stage", "jobs", "nodes", "hours", "node-hours", "reads", "writes")]
    rows += [
        (
            one.rule,
            f"{one.jobs:,}",
            f"{one.nodes:,}",
            _number(one.seconds / 3600),
            _number(one.node_hours),
            _bytes(one.read),
            _bytes(one.written),
        )
        for one in lines
    ]
    disk = sum(one.written for one in lines)
    rows.append(
        ("all", f"{sum(one.jobs for one in lines):,}", "", "", _number(sum(one.node_hours for one in lines)), "", "")
    )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )
    return f"{text}\n\nDisk needed: {_bytes(disk)}."


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"
