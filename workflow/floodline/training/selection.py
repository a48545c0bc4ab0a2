"""The choice of a checkpoint by what is wanted in the end: a short flood of a box that training has not seen."""

from __future__ import annotations

import logging
from math import isnan
from typing import Any

import numpy as np

from floodline import allocation
from floodline.config import PeaksSeeds, Selection
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn.canvas import Canvas
from floodline.ffn.contrast import as_the_network_sees
from floodline.ffn.flood import Floods, drive
from floodline.ffn.network import InferenceNetwork, Weights
from floodline.ffn.precision import of_inference
from floodline.ffn.seeds import inside, peaks
from floodline.geometry import Box
from floodline.manifest import hash_of, read_json, write_json
from floodline.parallel import Ranks
from floodline.segmentation.contingency import tabulate
from floodline.segmentation.scores import CONVENTIONS, coverage, score
from floodline.training.checkpoints import Candidates
from floodline.volumes.layer import Layer

logger = logging.getLogger("floodline")

Record = dict[str, Any]


def check(experiment: Experiment, selection: Selection) -> None:
    """Make sure, before hours of training, that the box can be flooded and scored.

    Raises:
        FloodlineError: it reaches outside of image or labels, has no labels, is smaller than the field of view, or is
            trained on.
    """
    box = Box.of(selection.box_xyz)
    for name in ("image", "labels"):
        covered = Box.of(read_json(experiment.manifest(name))["box_xyz"])
        if not covered.contains(box):
            raise FloodlineError(f"training.selection.box_xyz is {box}: it must lie in the {name}, {covered}.")
    if all(one.intersection(box).is_empty for one in experiment.labelled_boxes):
        raise FloodlineError(f"training.selection.box_xyz is {box}, where nothing is labelled: it could not be scored.")
    fov_xyz = experiment.config.network.fov_xyz
    if any(size < fov for size, fov in zip(box.size_xyz, fov_xyz, strict=True)):
        raise FloodlineError(f"training.selection.box_xyz is {box}: it must hold network.fov_xyz {list(fov_xyz)}.")
    sites = experiment.config.sites
    trained = Box.of(sites.box_xyz or read_json(experiment.manifest("labels"))["box_xyz"])
    held_out = any(Box.of(corners).contains(box) for corners in sites.held_out_xyz)
    if not held_out and not trained.intersection(box).is_empty:
        raise FloodlineError(
            f"training.selection.box_xyz is {box}, which is trained on: choose a part of sites.held_out_xyz, or one "
            "outside of sites.box_xyz."
        )


def choose(
    experiment: Experiment, selection: Selection, candidates: Candidates, ranks: Ranks
) -> tuple[Weights, list[Record]]:
    """The weights of the best of the candidates; the ranks share the work.

    Returns:
        The weights, and a record for each checkpoint: its length, seconds of training, and scores; `chosen` in one.

    Raises:
        OutOfTime: the scheduler is about to end the job; floods that ended are not repeated.
    """
    lengths = candidates.latest()
    late = False
    for fovs in lengths[ranks.rank :: ranks.size]:
        try:
            _score(experiment, selection, candidates, fovs)
        except allocation.OutOfTime:
            late = True
            break
    if ranks.sum(np.array([late], np.float32))[0]:
        raise allocation.OutOfTime
    records = [read_json(_path(candidates, fovs))["record"] for fovs in lengths]
    # Of equal ones the last, but rather none of them than what a fine-tuning began with.
    best = min(range(len(records)), key=lambda i: (*_rank(records[i]), lengths[i] > 0, -lengths[i]))
    if records[best]["adapted_rand_error"] is None or not any(record.get("coverage") for record in records):
        logger.warning("no checkpoint floods anything in training.selection.box_xyz: the flood cannot choose one")
    kept = candidates.read(lengths[best])
    if kept is None:
        raise FloodlineError(f"{candidates.path(lengths[best])} is damaged: delete it and train again.")
    del kept["seconds"]
    return kept, [{**record, "chosen": i == best} for i, record in enumerate(records)]


def _rank(record: Record) -> tuple[float, float]:
    """Best first: by the adapted Rand error, then by the variation of information; undefined scores come last."""
    error = record["adapted_rand_error"]
    return (2.0, 0.0) if error is None else (error, record["voi_split"] + record["voi_merge"])


def _path(candidates: Candidates, fovs: int) -> Any:
    return candidates.path(fovs).with_suffix(".json")


def _score(experiment: Experiment, selection: Selection, candidates: Candidates, fovs: int) -> None:
    """Flood the box with one checkpoint's weights and write its record, unless it is there."""
    inference = experiment.config.inference
    precision = of_inference(inference)
    made_by = hash_of(
        [candidates.parameters, selection.model_dump(mode="json"), inference.model_dump(mode="json"), precision]
    )
    path = _path(candidates, fovs)
    if path.is_file() and read_json(path)["made_by"] == made_by:
        return
    kept = candidates.read(fovs)
    record: Record = {"fovs": fovs, "seconds": None, "adapted_rand_error": None}
    if kept is not None:
        seconds = float(kept.pop("seconds"))
        segmentation, calls = flood_box(
            experiment, InferenceNetwork(kept, experiment.config.network, precision), selection
        )
        table = tabulate(Layer.open(experiment.layer("labels")).read(Box.of(selection.box_xyz)), segmentation)
        scores = score(CONVENTIONS[selection.convention](table))
        names = ("adapted_rand_error", "voi_split", "voi_merge", "precision", "recall")
        values = {name: getattr(scores, name) for name in names}
        record = {
            "fovs": fovs,
            "seconds": seconds,
            "network_calls": calls,
            "convention": selection.convention,
            "coverage": coverage(table),
            **{name: None if isnan(value) else value for name, value in values.items()},
        }
        logger.info("checkpoint of %d fields of view: adapted Rand error %s", fovs, record["adapted_rand_error"])
    write_json(path, {"made_by": made_by, "record": record})


def flood_box(experiment: Experiment, network: InferenceNetwork, selection: Selection) -> tuple[np.ndarray, int]:
    """Flood the box as one sub-volume, with the image as inference sees it.

    Returns:
        Objects (z, y, x), 0 where there is none, and the number of network calls.

    Raises:
        OutOfTime: the scheduler is about to end the job.
    """
    options, shape = experiment.config.inference.flood, experiment.config.network
    stored = Layer.open(experiment.layer("image")).read(Box.of(selection.box_xyz))
    image, mean, stddev = as_the_network_sees(experiment, stored)
    canvas = Canvas(image, mean, stddev, shape.fov_xyz, options)
    largest_first = PeaksSeeds(policy="peaks").is_largest_first(options.policy)
    seeds = inside(peaks(image, mean, stddev, largest_first=largest_first), image.shape, shape.fov_xyz)
    floods = Floods(canvas, options, shape.deltas_xyz, seeds)

    def in_time(patch: np.ndarray, seed: np.ndarray) -> np.ndarray:
        if allocation.is_ending():
            raise allocation.OutOfTime
        return network(patch, seed)

    drive([floods.flood_all()], in_time)
    return canvas.objects(), floods.counts["network_calls"]
