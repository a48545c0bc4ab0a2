"""Sites inside the held-out boxes, balanced as those of training: for scores while the network learns."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np

from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.labels.balance import balanced_sites
from floodline.labels.partitions import (
    BLOCK_XYZ,
    EXCLUDED,
    Definition,
    mask_reader,
    partition,
    removed_labels,
    sizes_of,
)
from floodline.steps import Arrays, Steps
from floodline.volumes.layer import Layer

logger = logging.getLogger("floodline")

PER_PARTITION = 1000
"""Sites of each partition at most: more than any score needs."""


def sites(experiment: Experiment, todo: Steps[Experiment]) -> np.ndarray:
    """Sites (n, 3), x, y, z in the coordinates of the source, shuffled; none where nothing is held out.

    They are found as those of training are, masks and exclusion regions included. A site's surroundings, in which the
    fraction is taken, may reach out of its box, but not out of the labels.
    """
    wanted = experiment.config.sites
    found = [np.zeros((0, 3), np.int64)]
    for number, corners in enumerate(wanted.held_out_xyz):
        labels = Layer.open(experiment.layer("labels")).box
        box = Box.of(corners).intersection(labels)
        if box.is_empty:
            logger.warning("the held-out box %s lies outside of the labels: no scores there", Box.of(corners))
            continue
        around = box.grown(experiment.config.lom_radius_xyz).intersection(labels)
        cut = blocks(around, BLOCK_XYZ)
        sizes = todo.do(f"sizes in held-out box {number}", {block.name: partial(_sizes, block) for block in cut})
        inside = {one.name: one for one in (block.intersection(box) for block in cut) if not one.is_empty}
        sites_xyz, _ = balanced_sites(
            todo,
            f"sites of held-out box {number}",
            inside,
            partial(_partitions_of, around, removed_labels(sizes, wanted)),
            PER_PARTITION,
            experiment.rng(f"held-out sites {number}"),
        )
        if len(sites_xyz) == 0:
            logger.warning(
                "no site of the held-out box %s has its surroundings inside the labels: no scores there", box
            )
        found.append(sites_xyz)
    return experiment.rng("held-out sites").permutation(np.concatenate(found))


def _sizes(block: Box, experiment: Experiment) -> Arrays:
    return sizes_of(Layer.open(experiment.layer("labels")).read(block))


def _partitions_of(around: Box, removed: np.ndarray, experiment: Experiment, block: Box) -> np.ndarray:
    """Partitions of a block of a held-out box, which `around` surrounds; removed labels are no sites."""
    config = experiment.config
    definition = Definition(
        thresholds=config.sites.thresholds,
        radius_xyz=config.lom_radius_xyz,
        removed=removed,
        balls_xyzr=config.sites.exclusion_xyzr,
        labelled=experiment.labelled_boxes,
        mask=mask_reader(experiment),
    )
    partitions, is_removed = partition(Layer.open(experiment.layer("labels")).read, around, definition, block)
    partitions[is_removed] = EXCLUDED
    return partitions
