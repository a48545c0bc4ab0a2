"""Sites inside the held-out boxes, balanced as those of training: for scores while the network learns."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np

from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.labels.balance import balanced_sites
from floodline.labels.partitions import BLOCK_XYZ, EXCLUDED, Definition, mask_reader, partition, removed_labels
from floodline.segmentation.sizes import label_sizes
from floodline.volumes.layer import Layer

logger = logging.getLogger("floodline")

PER_PARTITION = 1000
"""Sites of each partition at most: more than any score needs."""


def sites(experiment: Experiment) -> np.ndarray:
    """Sites (n, 3), x, y, z in the coordinates of the source, shuffled; none where nothing is held out.

    They are found as those of training are, masks and exclusion regions included. A site's surroundings, in which the
    fraction is taken, may reach out of its box, but not out of the labels.
    """
    wanted, radius_xyz = experiment.config.sites, experiment.config.lom_radius_xyz
    found = [np.zeros((0, 3), np.int64)]
    layer = Layer.open(experiment.layer("labels")) if wanted.held_out_xyz else None
    for number, corners in enumerate(wanted.held_out_xyz):
        assert layer is not None
        box = Box.of(corners).intersection(layer.box)
        if box.is_empty:
            logger.warning("the held-out box %s lies outside of the labels: no scores there", Box.of(corners))
            continue
        around = box.grown(radius_xyz).intersection(layer.box)
        cut = blocks(around, BLOCK_XYZ)
        sizes = (label_sizes([layer.read(block)]) for block in cut)
        removed = removed_labels(({"ids": ids, "sizes": voxels} for ids, voxels in sizes), wanted)
        definition = Definition(
            thresholds=wanted.thresholds,
            radius_xyz=radius_xyz,
            removed=removed,
            balls_xyzr=wanted.exclusion_xyzr,
            labelled=experiment.labelled_boxes,
            mask=mask_reader(experiment),
        )
        partitions = np.full(box.shape_zyx, EXCLUDED, np.uint8)
        for block in cut:
            common = block.intersection(box)
            if not common.is_empty:
                values, is_removed = partition(layer.read, around, definition, block)
                values[is_removed] = EXCLUDED
                partitions[common.slices_zyx(box.start_xyz)] = values[common.slices_zyx(block.start_xyz)]
        slabs = partial(iter, partitions[:, None])
        centers_xyz, _ = balanced_sites(slabs, PER_PARTITION, experiment.rng(f"held-out sites {number}"))
        if len(centers_xyz) == 0:
            logger.warning(
                "no site of the held-out box %s has its surroundings inside the labels: no scores there", box
            )
        found.append(centers_xyz + np.array(box.start_xyz))
    return experiment.rng("held-out sites").permutation(np.concatenate(found))
