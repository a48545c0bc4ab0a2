"""Scores of every segmentation against the labels, box by box."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.evaluation import bootstrap, detection, run_length, skeletons, worst
from floodline.evaluation.scan import Scan, scan
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import read_json, write_json
from floodline.segmentation.scores import CONVENTIONS, coverage, score
from floodline.volumes.layer import Layer
from floodline.volumes.sources import Volume, open_source


def run(experiment: Experiment) -> None:
    """Write `evaluation/metrics.json` and `evaluation/worst.json`; both are empty lists without labels.

    `metrics.json` has a record for each segmentation, box and convention. What does not depend on a convention, the
    scores along skeletons (`skeletons`) and the objects found by size (`detection`), stands in the record of
    `all_labelled`. Scores that are undefined, as those over no voxels, are null.

    Raises:
        FloodlineError: a box reaches outside the labels or a segmentation, or holds no label; or a layer is missing.
    """
    experiment.metrics.unlink(missing_ok=True)
    records, mistakes = [], []
    if experiment.config.labels is not None:
        truth = Truth.of(experiment)
        boxes = scored_boxes(experiment, truth.layer.box)
        for name, segmentation in segmentations(experiment).items():
            for box_name, box in boxes.items():
                what = {"segmentation": name, "box_name": box_name, "box_xyz": box.corners}
                new_records, new_mistakes = compare(experiment, truth, segmentation, what)
                records += new_records
                mistakes += new_mistakes
    write_json(experiment.metrics.with_name("worst.json"), mistakes)
    write_json(experiment.metrics, records)


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
    experiment: Experiment, truth: Truth, segmentation: Volume, what: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records for metrics.json, one a convention, and for worst.json, of one segmentation in one box.

    Raises:
        FloodlineError: the box reaches outside the segmentation, or holds no label.
    """
    name, box_name, box = what["segmentation"], what["box_name"], Box.of(what["box_xyz"])
    if not segmentation.box.contains(box):
        raise FloodlineError(f"evaluation.boxes: {box_name} is {box}, but {name} covers only {segmentation.box}.")
    wanted = experiment.config.evaluation
    lines = truth.skeletons.cut(box)
    found = scan(truth.layer.read, segmentation.read, box, lines, f"score {name} in {box_name}")

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
    where = {"segmentation": name, "box_name": box_name}
    return records, [{**where, **record} for record in worst.records(mistakes, places)]


def _scores(found: Scan, convention: str, wanted: config.Evaluation, rng: np.random.Generator) -> dict[str, Any]:
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
