"""A step of many workers, event by event, with drawn computing times: a check of the formula in `scaling`.

Nothing of the formula is used here but its parameters: each worker draws the time that it computes, each message goes
around the ring hop by hop, and a worker goes on when it has received the last part of the last message. No worker waits
for all others at once, so that a slow one holds up its neighbours first.
"""

from __future__ import annotations

import numpy as np

from floodline.studies.scaling import Model


def step_times(model: Model, workers: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Duration of each of a number of steps, seconds (steps,), ring without hierarchy, one rank a node.

    A step's duration is the time between the ends of two steps, of the worker that ends last.
    """
    mean = model.own * (1 + model.interference * (workers > 1))
    free = np.zeros(workers)  # when each worker begins its next step
    ends = [0.0]
    for _ in range(steps):
        computing = np.maximum(rng.normal(mean, model.spread * mean, workers), 0)
        network = np.zeros(workers)  # when each worker's line is free
        for message in range(model.messages):
            # The gradients of a message are there when its share of the backward pass, two thirds of all, is done.
            share = 1 / 3 + 2 / 3 * (message + 1) / model.messages if model.overlapped else 1.0
            network = _around_the_ring(np.maximum(network, free + share * computing), model, workers)
        free = np.maximum(network, free + computing)
        ends.append(float(free.max()))
    return np.diff(ends)


def _around_the_ring(ready: np.ndarray, model: Model, workers: int) -> np.ndarray:
    """When each worker has all of one message's sums, given when each has its own part ready.

    In each of 2 (n - 1) rounds a worker sends a part to the next one, after it has received the one before.
    """
    if workers == 1:
        return ready
    hop = model.latency + model.gradient_bytes / model.messages / workers / model.bandwidth
    for _ in range(2 * (workers - 1)):
        ready = np.maximum(ready, np.roll(ready, 1)) + hop
    return ready
