"""The learning rate over the training, in fields of view seen by all workers: the same at any number of workers."""

from __future__ import annotations

from math import cos, pi, sqrt

from floodline.config import LearningRate


def peak(config: LearningRate, workers: int) -> float:
    """The rate after the warm-up."""
    scale = {"none": 1.0, "linear": float(workers), "sqrt": sqrt(workers)}[config.scaling]
    return config.base * scale


def rate(config: LearningRate, workers: int, fovs: int, total_fovs: int) -> float:
    """The rate of the step that ends at `fovs` of `total_fovs` fields of view."""
    top = peak(config, workers)
    if fovs < config.warmup_fovs:
        return top * fovs / config.warmup_fovs
    if config.decay == "constant":
        return top
    if config.decay == "steps":
        return top * config.drop_factor ** ((fovs - config.warmup_fovs) // config.drop_fovs)
    passed = (fovs - config.warmup_fovs) / max(1, total_fovs - config.warmup_fovs)
    return top * (1 + cos(pi * min(1.0, passed))) / 2
