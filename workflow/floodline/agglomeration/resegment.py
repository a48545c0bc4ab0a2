"""Resegmentation: what the network says when both supervoxels of a contact are flooded again.

Around the decision point of a contact lies a cube. In it, the two supervoxels A and B are erased and all others stay.
Each of the two is flooded again from a place deep inside it and away from the contact. If the two are one neuron,
either flood covers both; if not, each recovers its own. Measured in the analysis box, a smaller cube around the point:

column                                  meaning
iou                                     overlap of the two floods (probability of at least 0.5), over their union
a_recovers_a, a_recovers_b, b_..., ...  fraction of the second one's voxels that the flood from the first one covers
deleted_a, deleted_b                    voxels that the network took for certain (0.8) and later excluded (below 0.5),
                                        call by call, over the voxels of that flood
depth_a, depth_b                        largest distance of a voxel of that flood from its surface
calls                                   network calls spent

The procedure, its options and the rule `accepted` follow google/ffn (its `resegmentation` and
`resegmentation_analysis`), but for two things: a cube that reaches beyond the volume is cut off there instead of being
skipped, and B is not flooded where the flood from A recovered too little of A, since the rule says no whatever B does.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import edt
import numpy as np
import pandas as pd
from scipy.special import logit

from floodline import pool, steps
from floodline.agglomeration.growth import spacing_zyx
from floodline.agglomeration.score import score
from floodline.config import Resegmentation
from floodline.config.files import masks_for
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.canvas import Canvas
from floodline.ffn.closed import restriction_of
from floodline.ffn.contrast import as_the_network_sees
from floodline.ffn.flood import Floods, ObjectFlood, Predict
from floodline.ffn.movement import Frontier
from floodline.ffn.restriction import Restriction
from floodline.ffn.runtimes import arithmetic_of, network_of
from floodline.geometry import Box, Triple, to_zyx, triple
from floodline.manifest import hash_of, hash_of_file, read_json
from floodline.segmentation.relabel import compact
from floodline.steps import Arrays, Steps
from floodline.tables import read_table, write_table
from floodline.volumes.layer import Layer

logger = logging.getLogger(__name__)

MEASURED = [
    "iou", "a_recovers_a", "a_recovers_b", "b_recovers_a", "b_recovers_b",
    "deleted_a", "deleted_b", "depth_a", "depth_b",
]  # fmt: skip
CERTAIN = logit(0.8)
"""A voxel that was at least this probable and becomes less probable than not is deleted."""

MIN_IOU, MIN_RECOVERED, MAX_DELETED = 0.8, 0.6, 0.02
"""The published rule's limits: a conservative start, to be calibrated for each data set."""


def accepted(edges: pd.DataFrame) -> np.ndarray:
    """The published rule: whether the floods of the two supervoxels say that they are one; False where unmeasured.

    Args:
        edges: the columns `MEASURED`.
    """
    recovered = edges[[f"{one}_recovers_{other}" for one in "ab" for other in "ab"]].min(axis=1, skipna=False)
    steady = edges[["deleted_a", "deleted_b"]].min(axis=1) < MAX_DELETED
    return ((edges["iou"] > MIN_IOU) & (recovered > MIN_RECOVERED) & steady).to_numpy()


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `resegmentation.parquet`: `a`, `b`, `MEASURED`, `calls`, a row for each undecided contact; NaN: no flood.

    Args:
        workers: processes that flood side by side where there is no launcher.

    Raises:
        FloodlineError: the region graph, the image or the model is missing or damaged.
        OutOfTime: the scheduler is about to end the job; what is done is kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), steps.do), partial(_lead, experiment), workers)


def undecided(contacts: pd.DataFrame, wanted: Resegmentation) -> pd.DataFrame:
    """The contacts that the image and the flood leave in doubt, those of the largest supervoxels first."""
    low, high = wanted.undecided
    smaller = contacts[["voxels_a", "voxels_b"]].min(axis=1)
    doubt = score(contacts)
    chosen = (doubt >= low) & (doubt <= high) & (smaller >= wanted.min_voxels)
    return contacts[chosen].iloc[np.argsort(-smaller[chosen].to_numpy(), kind="stable")]


def _wanted(experiment: Experiment) -> Resegmentation:
    wanted = experiment.config.agglomeration.resegmentation
    if wanted is None:
        raise FloodlineError("agglomeration.resegmentation is null: configure it to flood undecided contacts again.")
    return wanted


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    output = experiment.agglomeration / "resegmentation.parquet"
    output.unlink(missing_ok=True)
    contacts = read_table(experiment.agglomeration / "contacts.parquet")
    edges = undecided(contacts, _wanted(experiment))
    logger.info("%d of %d contacts are undecided", len(edges), len(contacts))
    places = zip(*(edges[name].tolist() for name in ("a", "b", "x", "y", "z")), strict=True)
    makes = {f"{a}-{b}": partial(_resegment, a, b, (x, y, z)) for a, b, x, y, z in places}
    with Steps(experiment.unfinished("resegmentation"), _parameters(experiment), hand_out) as todo:
        rows = [[float(one[name]) for name in (*MEASURED, "calls")] for one in todo.do("contacts", makes)]
        measured = pd.DataFrame(rows, columns=[*MEASURED, "calls"], dtype=np.float64)
        table = pd.concat([edges[["a", "b"]].reset_index(drop=True), measured.astype({"calls": np.int64})], axis=1)
        write_table(output, table.sort_values(["a", "b"]).reset_index(drop=True))


def _parameters(experiment: Experiment) -> str:
    """Hash of all that decides the result of a contact."""
    config = experiment.config
    shift_mask = config.inference.shift_mask
    return hash_of(
        {
            "supervoxels": hash_of_file(experiment.beside("supervoxels") / "pieces.parquet"),
            "resegmentation": _wanted(experiment).model_dump(mode="json", exclude={"undecided", "min_voxels"}),
            "flood": config.inference.flood.model_dump(mode="json"),
            "network": config.network.without_weights(),
            "weights": hash_of_file(experiment.model / "weights.npz"),
            "runtime": config.inference.runtime,
            "precision": arithmetic_of(experiment),
            "normalisation": experiment.normalisation(),
            "reference": config.inference.reference_histogram,
            "masks": [mask.model_dump(mode="json") for mask in masks_for(config, "floods")],
            "shift_mask": shift_mask and shift_mask.model_dump(mode="json"),
        }
    )


class _Worker:
    """What a process keeps from one contact to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)
        self.supervoxels, self.image = (Layer.open(self.experiment.layer(name)) for name in ("supervoxels", "image"))
        self.voxel_size_nm_xyz = read_json(self.experiment.manifest("image"))["voxel_size_nm_xyz"]

    @cached_property
    def network(self) -> Predict:
        return network_of(self.experiment)


def _resegment(a: int, b: int, point_xyz: Triple, worker: _Worker) -> Arrays:
    """What the floods of a contact measure."""
    experiment = worker.experiment
    wanted = _wanted(experiment)
    around = Box(point_xyz, triple(p + 1 for p in point_xyz))
    cube = around.grown(wanted.radius_xyz).intersection(worker.supervoxels.box)
    analysis = around.grown(_analysis_radius(experiment, wanted)).intersection(cube)
    restriction = restriction_of(experiment, cube)
    image, mean, stddev = as_the_network_sees(experiment, worker.image.read(cube), restriction.closed)
    place = Cube(
        base=worker.supervoxels.read(cube),
        image=image,
        mean=mean,
        stddev=stddev,
        restriction=restriction,
        point_zyx=around.slices_zyx(cube.start_xyz),
        analysis=analysis.slices_zyx(cube.start_xyz),
        spacing=spacing_zyx(worker.voxel_size_nm_xyz),
    )
    return {name: np.array(value) for name, value in measure(place, a, b, experiment, wanted, worker.network).items()}


def _analysis_radius(experiment: Experiment, wanted: Resegmentation) -> Triple:
    """As configured, or so far that a field of view around any voxel of the analysis box lies in the cube."""
    margin = (size // 2 for size in experiment.config.network.fov_xyz)
    return wanted.analysis_radius_xyz or triple(r - m for r, m in zip(wanted.radius_xyz, margin, strict=True))


@dataclass(frozen=True)
class Cube:
    """The surroundings of a decision point; arrays are z, y, x."""

    base: np.ndarray
    """Supervoxels."""
    image: np.ndarray
    """As the network sees it; normalised with `mean` and `stddev`."""
    mean: float
    stddev: float
    restriction: Restriction
    point_zyx: tuple[slice, slice, slice]
    """The decision point, a box of one voxel."""
    analysis: tuple[slice, slice, slice]
    spacing: tuple[float, float, float]
    """Size of a voxel along z, y, x in units of its shortest side."""


@dataclass(frozen=True)
class _Flooded:
    """The flood from one object: its logits, NaN where it never was, and what it took."""

    logits: np.ndarray
    deleted: int
    calls: int


def measure(
    cube: Cube, a: int, b: int, experiment: Experiment, wanted: Resegmentation, predict: Predict
) -> dict[str, float]:
    """`MEASURED` and `calls` of two supervoxels; NaN for what needs a flood that was not made."""
    numbers, _ = compact(np.where((cube.base == a) | (cube.base == b), np.uint64(0), cube.base))
    objects = {"a": cube.base == a, "b": cube.base == b}
    found: dict[str, float] = dict.fromkeys(MEASURED, np.nan) | {"calls": 0.0}
    masks = {}
    for side, mine in objects.items():
        if not mine[cube.analysis].any():
            return found
        flooded, recovered = _flood_again(cube, mine, numbers, experiment, wanted, predict)
        found["calls"] += flooded.calls
        mask = np.nan_to_num(flooded.logits[cube.analysis], nan=-np.inf) >= 0
        masks[side] = mask
        for other, theirs in objects.items():
            inside = theirs[cube.analysis]
            found[f"{side}_recovers_{other}"] = _ratio((mask & inside).sum(), inside.sum())
        found[f"deleted_{side}"] = _ratio(flooded.deleted, mask.sum())
        found[f"depth_{side}"] = float(edt.edt(mask, anisotropy=cube.spacing, black_border=False).max(initial=0))
        if recovered < wanted.recovery:
            return found
    found["iou"] = _ratio((masks["a"] & masks["b"]).sum(), (masks["a"] | masks["b"]).sum())
    return found


def _flood_again(
    cube: Cube, mine: np.ndarray, others: np.ndarray, experiment: Experiment, wanted: Resegmentation, predict: Predict
) -> tuple[_Flooded, float]:
    """Flood one object again, from the deepest places in it, until enough of it is recovered in the analysis box."""
    config = experiment.config
    depth = edt.edt(mine, anisotropy=cube.spacing, black_border=False)
    margin = [size // 2 for size in config.network.fov_xyz]
    _leave_faces(depth, margin)
    centre = [part.start for part in cube.point_zyx]
    depth[_around(centre, wanted.contact_exclusion_xyz)] = 0
    flooded, recovered = _Flooded(np.full(mine.shape, np.nan, np.float32), 0, 0), 0.0
    calls = 0
    for _ in range(wanted.attempts):
        start = triple(int(p) for p in np.unravel_index(int(depth.argmax()), depth.shape))
        if depth[start] == 0:
            break
        depth[_around(start, wanted.attempt_exclusion_xyz)] = 0
        options, fov_xyz = config.inference.flood, config.network.fov_xyz
        canvas = Canvas(cube.image, cube.mean, cube.stddev, fov_xyz, options, cube.restriction)
        canvas.keep(others)
        flooded = _flood_from(start, canvas, cube.analysis, experiment, predict)
        calls += flooded.calls
        reached = np.nan_to_num(flooded.logits, nan=-np.inf) >= canvas.segment
        recovered = _ratio((reached & mine)[cube.analysis].sum(), mine[cube.analysis].sum())
        if recovered >= wanted.recovery:
            break
    return _Flooded(flooded.logits, flooded.deleted, calls), recovered


def _flood_from(
    start: Triple, canvas: Canvas, analysis: tuple[slice, slice, slice], experiment: Experiment, predict: Predict
) -> _Flooded:
    config = experiment.config
    floods = Floods(canvas, config.inference.flood, config.network.deltas_xyz)
    flood = ObjectFlood(Frontier(start, floods.deltas, deque([start])), low=start, high=start)
    canvas.seed[start] = canvas.init
    deleted = 0
    asking = floods.fill(flood)
    try:
        image, seed = next(asking)
        while True:
            logits = predict(image[None], seed[None])[0]
            position = canvas.nearest_fitting(flood.frontier.queue[0])
            if canvas.disco >= 0 and all(
                part.start <= p < part.stop for p, part in zip(position, analysis, strict=True)
            ):
                deleted += int(((seed >= CERTAIN) & (logits < 0)).sum())
            image, seed = asking.send(logits)
    except StopIteration:
        return _Flooded(canvas.seed, deleted, flood.calls)


def _leave_faces(depth: np.ndarray, margin_xyz: list[int]) -> None:
    """No flood starts where its first field of view would leave the cube."""
    inner = tuple(slice(m, size - m) for m, size in zip(margin_xyz[::-1], depth.shape, strict=True))
    kept = depth[inner].copy()
    depth[:] = 0
    depth[inner] = kept


def _around(centre_zyx: list[int] | Triple, radius_xyz: Triple) -> tuple[slice, slice, slice]:
    z, y, x = (slice(max(c - r, 0), c + r + 1) for c, r in zip(centre_zyx, to_zyx(radius_xyz), strict=True))
    return z, y, x


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
