"""An experiment that floods in a second: a small generated volume, and a small random network that sees membranes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from floods import make_experiment

from floodline.experiment import Experiment
from floodline.ffn import weights
from floodline.ffn.network import initial_weights
from floodline.volumes import phantom

NETWORK = {"depth": 2, "features": 4, "fov_xyz": [9, 9, 9], "deltas_xyz": [2, 2, 2], "weights": "none"}
SIZE = 24
FLOOD = {"move_threshold": 0.5, "segment_threshold": 0.5, "min_segment_size": 30}


def make(folder: Path, subvolumes: int = 1, **inference: object) -> Experiment:
    """Sub-volumes of SIZE voxels a side along x, with a model whose weights are always the same."""
    one = phantom.image((SIZE, SIZE, SIZE), 3)
    image = np.concatenate([one[:, :, :: 1 - 2 * (number % 2)] for number in range(subvolumes)], axis=2)
    keys = {
        "subvolume_size_xyz": [SIZE] * 3,
        "overlap_xyz": [0, 0, 0],
        "precision": "float32",
        "flood": FLOOD,
        **inference,
    }
    experiment = make_experiment(folder, image, (1, 1, 1), (0, 0, 0), network=NETWORK, inference=keys)
    weights.save_model(experiment.model, random_weights(experiment), {})
    return experiment


def random_weights(experiment: Experiment) -> weights.Weights:
    """Random weights, and on top of them a path that takes bright voxels for inside and dark ones for membranes."""
    made = initial_weights(experiment.config.network, np.random.default_rng(1))
    for name in made:
        made[name] *= 0.5
    made["seed_update/conv0_a/weights"][1, 1, 1, 0, :2] += 1, -1
    made["seed_update/conv0_b/weights"][1, 1, 1, [0, 1], [0, 1]] += 1
    made["seed_update/conv_lom/weights"][0, 0, 0, :2, 0] += 4, -4
    made["seed_update/conv_lom/biases"] += 1
    return made
