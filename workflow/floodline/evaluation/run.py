"""Scores of every segmentation against the labels, box by box."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import product
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from floodline import config, pool, steps
from floodline.errors import FloodlineError
from floodline.evaluation import bootstrap, detection, run_length, scan, skeletons, worst
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.manifest import hash_of, read_json, write_json
from floodline.segmentation.scores import CONVENTIONS, coverage, score
from floodline.steps import Arrays, Steps
from floodline.volumes.layer import Layer
from floodline.volumes.sources import Volume, open_source


def run(experiment: Experiment, workers: int = 1) -> None:
    """Write `evaluation/metrics.json` and `evaluation/worst.json`; both are empty lists without labels.

    `metrics.json` has a record for each segmentation, box and convention. What does not depend on a convention, the
    scores along skeletons (`skeletons`) and the objects found by size (`detection`), stands in the record of
    `all_labelled`. Scores that are undefined, as those over no voxels, are null.

    Args:
        workers: processes that compare side by side where there is no launcher.

    Raises:
        FloodlineError: a box reaches outside the labels or a segmentation, or holds no label; or a layer is missing.
        OutOfTime: the scheduler is about to end the job; what is done is kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), steps.do), partial(_lead, experiment), workers)


class _Worker:
    """What a process keeps from one block to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)

    @cached_property
    def truth(self) -> Truth:
        return Truth.of(self.experiment)

    @cached_property
    def segmentations(self) -> dict[str, Volume]:
        return segmentations(self.experiment)


def _lead(experiment: Experiment, hand_out: pool.HandOut) -> None:
    experiment.metrics.unlink(missing_ok=True)
    records, mistakes = [], []
    if experiment.config.labels is not None:
        truth = Truth.of(experiment)
        boxes = scored_boxes(experiment, truth.layer.box)
        volumes = segmentations(experiment)
        for (name, volume), (box_name, box) in product(volumes.items(), boxes.items()):
            if not volume.box.contains(box):
                raise FloodlineError(f"evaluation.boxes: {box_name} is {box}, but {name} covers only {volume.box}.")
        with Steps(experiment.unfinished("evaluation"), _parameters(experiment), hand_out) as todo:
            for (name, volume), (box_name, box) in product(volumes.items(), boxes.items()):
                makes = {block.name: partial(_scan, name, block) for block in blocks(box, scan.BLOCK_XYZ)}
                found = scan.gather(box, truth.skeletons.cut(box), todo.do(f"{name} in {box_name}", makes))
                what = {"segmentation": name, "box_name": box_name, "box_xyz": box.corners}
                new_records, new_mistakes = compare(experiment, truth, volume, found, what)
                records += new_records
                mistakes += new_mistakes
    write_json(experiment.metrics.with_name("worst.json"), mistakes)
    write_json(experiment.metrics, records)


def _scan(name: str, block: Box, worker: _Worker) -> Arrays:
    return scan.scan_block(worker.truth.layer.read, worker.segmentations[name].read, block, worker.truth.skeletons)


def _parameters(experiment: Experiment) -> str:
    """Hash of all that decides what is found in a block; layers are known by when they were written."""
    written = [experiment.manifest(name) for name in ("labels", "supervoxels", "neurons")]
    return hash_of(
        {
            "evaluation": experiment.config.evaluation.model_dump(mode="json"),
            "layers": {path.parent.name: path.stat().st_mtime_ns for path in written if path.is_file()},
            "blocks": [scan.BLOCK_XYZ, scan.TILE_XYZ],
        }
    )


@dataclass(frozen=True)
class Truth:
    """The labels."""

    layer: Layer
    voxel_size_nm_xyz: skeletons.Size
    skeletons: skeletons.Skeletons
    """None at all where they are not wanted."""

    @classmethod
    def of(cls, experiment: Experiment) -> Truth:
        """Open the labels, and make their skeletons if that was not done before."""
        path = experiment.manifest("labels")
        x, y, z = read_json(path)["voxel_size_nm_xyz"]
        layer, lines = Layer.open(experiment.layer("labels")), skeletons.NONE
        if experiment.config.evaluation.skeletons:
            store = experiment.metrics.with_name("truth_skeletons.block")
            # The manifest is written whenever the labels are.
            lines = skeletons.kept(store, layer.read, layer.box, (x, y, z), path.stat().st_mtime_ns)
        return cls(layer, (x, y, z), lines)


def scored_boxes(experiment: Experiment, labels: Box) -> dict[str, Box]:
    """The boxes that are scored, by name: as configured, else all that is labelled, as `all`.

    Raises:
        FloodlineError: a box reaches outside the labels.
    """
    boxes = {named.name: Box.of(named.box_xyz) for named in experiment.config.evaluation.boxes} or {"all": labels}
    for name, box in boxes.items():
        if not labels.contains(box):
            raise FloodlineError(f"evaluation.boxes: {name} is {box}, but the labels cover only {labels}.")
    return boxes


def segmentations(experiment: Experiment) -> dict[str, Volume]:
    """What is scored, by name: the experiment's own segmentations, then those that the configuration adds."""
    own: dict[str, Volume] = {name: Layer.open(experiment.layer(name)) for name in ("supervoxels", "neurons")}
    return own | {
        named.name: open_source(named.source, experiment.config.seed, "labels")
        for named in experiment.config.evaluation.segmentations
    }


def compare(
    experiment: Experiment, truth: Truth, segmentation: Volume, found: scan.Scan, what: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records for metrics.json, one a convention, and for worst.json, of one segmentation in one box."""
    box_name, box = what["box_name"], Box.of(what["box_xyz"])
    wanted = experiment.config.evaluation
    lines = truth.skeletons.cut(box)

    # Every segmentation and convention gets the same draws, so that their intervals can be compared.
    purpose = f"bootstrap {box_name}"
    records = [
        {**what, "convention": convention, **_scores(found, convention, wanted, experiment.rng(purpose))}
        for convention in CONVENTIONS
    ]
    records[-1]["detection"] = detection.detect(found.table)
    if wanted.skeletons:
        along = run_length.score_skeletons(
            lines, found.node_segments, truth.voxel_size_nm_xyz, wanted.merge_threshold_nodes
        )
        records[-1]["skeletons"] = {"merge_threshold_nodes": wanted.merge_threshold_nodes, **_nulls(along)}

    mistakes = worst.find(found.table, wanted.worst)
    places = worst.locate(mistakes, found, truth.layer.read, segmentation.read, box, truth.voxel_size_nm_xyz)
    where = {"segmentation": what["segmentation"], "box_name": box_name}
    return records, [{**where, **record} for record in worst.records(mistakes, places)]


def _scores(found: scan.Scan, convention: str, wanted: config.Evaluation, rng: np.random.Generator) -> dict[str, Any]:
    choose = CONVENTIONS[convention]
    tables = [choose(table) for table in found.tables if table.a.any()]
    return {
        "coverage": coverage(found.table),
        **_nulls(asdict(score(choose(found.table)))),
        "intervals": bootstrap.intervals(tables, wanted.bootstrap_samples, rng),
    }


def _nulls(scores: dict[str, Any]) -> dict[str, Any]:
    """NaN is no JSON."""
    return {key: None if isnan(value) else value for key, value in scores.items()}
