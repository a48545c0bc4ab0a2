"""A model of the time of a training step on n workers, fitted to measured speeds.

A step ends when its slowest worker has computed and the gradients are reduced:

    compute(n) = own * (1 + interference) * (1 + spread * slowest(n))        own alone for n = 1
    reduce(n)  = messages * hops(n) * latency + 2 (n - 1) / n * bytes / bandwidth
    step(n)    = compute(n) + what of reduce(n) the backward pass does not hide + input(n)

- `own`: the time that one worker alone computes; `interference`: how much longer it takes while the process also
  listens to others (threads of MPI and Horovod that wait on the cores that compute).
- `slowest(n)`: the mean of the largest of n draws from a normal distribution, in standard deviations; `spread`: the
  standard deviation of a worker's computing time, relative to its mean.
- `hops(n)`: 2 (n - 1) in a ring, 2 log2(n) in a tree (Thakur, Rabenseifner, Gropp 2005); in a hierarchy of groups, the
  ring inside of a group and the ring of the groups. `latency` is the time of a hop, and of everything else that grows
  with it, such as a coordinator that hears every worker: speeds alone cannot tell these apart.
- `input(n)`: reading `input_bytes` a worker and step from a file system with so much bandwidth for all, as far as it is
  not hidden behind the computation (prefetching).

Efficiency is n-fold speed: own / step(n), for the same work a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2
from typing import Any, Literal

import numpy as np
from scipy.integrate import trapezoid
from scipy.optimize import least_squares
from scipy.stats import norm

from floodline.errors import FloodlineError

PUBLISHED = {
    1: 0.72, 2: 1.24, 4: 2.54, 8: 4.84, 16: 9.37, 32: 18.5, 64: 36.2, 128: 71.1, 256: 147.0, 512: 279.0, 1024: 521.0,
}  # fmt: skip
"""Fields of view a second by nodes of Theta, read off the figure of Dong et al. (2019), arXiv:1905.06236; its error is
one to two per cent. At 2,048 nodes the abstract says about 68 % efficiency; no fit sees that."""
PUBLISHED_AT_2048 = 0.68

PARAMETERS, TENSORS = 638_433, 50
"""Of the published network (depth 12): gradients, and the tensors that they come in."""


@dataclass(frozen=True)
class Model:
    """The parameters above. Times in seconds, sizes in bytes, bandwidths in bytes a second.

    Attributes:
        fovs: fields of view of a worker's step.
        overlapped: whether messages are sent while the backward pass, two thirds of the computation, still runs; the
            last message can start only when it has ended.
        group: workers of a group of the hierarchy.
        ranks: workers on each node; they share its cores, and reduce among themselves at no cost.
    """

    own: float
    fovs: int = 4
    interference: float = 0.0
    spread: float = 0.0
    latency: float = 0.0
    bandwidth: float = 8e9
    messages: int = TENSORS
    gradient_bytes: float = 4.0 * PARAMETERS
    algorithm: Literal["ring", "tree", "hierarchy"] = "ring"
    group: int = 32
    ranks: int = 1
    overlapped: bool = False
    input_bytes: float = 0.0
    file_bandwidth: float = 1e11

    def compute(self, nodes: int) -> float:
        """Until the slowest worker has computed."""
        workers = nodes * self.ranks
        return self.own * (1 + self.interference * (workers > 1)) * (1 + self.spread * slowest(workers))

    def reduce(self, nodes: int) -> float:
        """Of all gradients, whether hidden or not."""
        return self.messages * self._message(nodes)

    def _message(self, nodes: int) -> float:
        moved = 2 * (nodes - 1) / nodes * self.gradient_bytes / self.messages
        return self.hops(nodes) * self.latency + moved / self.bandwidth

    def hops(self, nodes: int) -> float:
        """Messages that follow one another."""
        if self.algorithm == "tree":
            return 2 * log2(nodes)
        if self.algorithm == "hierarchy" and nodes > self.group:
            return 2 * (self.group - 1) + 2 * (nodes / self.group - 1)
        return 2.0 * (nodes - 1)

    def exposed(self, nodes: int) -> float:
        """Of the reduction, what the backward pass does not hide."""
        if not self.overlapped:
            return self.reduce(nodes)
        one = self._message(nodes)
        return max(one, self.reduce(nodes) - 2 / 3 * self.compute(nodes) * (1 - 1 / self.messages))

    def input(self, nodes: int) -> float:
        """Waiting for data that prefetching does not hide."""
        return max(0.0, nodes * self.ranks * self.input_bytes / self.file_bandwidth - self.compute(nodes))

    def step(self, nodes: int) -> float:
        """Time of a step."""
        return self.compute(nodes) + self.exposed(nodes) + self.input(nodes)

    def rate(self, nodes: int) -> float:
        """Fields of view a second, all together."""
        return nodes * self.fovs / self.step(nodes)

    def efficiency(self, nodes: int) -> float:
        """Speed relative to so many nodes that did not need to talk."""
        return self.own / self.step(nodes)

    def losses(self, nodes: int) -> dict[str, float]:
        """Where the rest of the efficiency goes, in the same unit: the parts of a step's time."""
        step = self.step(nodes)
        talking = self.own * self.interference * (nodes * self.ranks > 1)
        exposed, hops = self.exposed(nodes), self.messages * self.hops(nodes) * self.latency
        parts = {
            "listening while computing": talking,
            "waiting for the slowest": self.compute(nodes) - self.own - talking,
            "latency, growing with the workers": min(
                self.exposed(nodes), self.messages * self.hops(nodes) * self.latency
            ),
            "bytes of the gradients": max(0.0, exposed - hops),
            "input": self.input(nodes),
        }
        return {name: part / step for name, part in parts.items()}


def slowest(workers: int) -> float:
    """Mean of the largest of n draws from the standard normal distribution."""
    if workers == 1:
        return 0.0
    # The mean of a number below 9 is 9 less the integral of its distribution up to there.
    x = np.linspace(-9, 9, 20_001)
    return float(9 - trapezoid(norm.cdf(x) ** workers, x))


def fit(speeds: Mapping[int, float], fovs: int, **known: float) -> Model:
    """The model whose interference, spread and latency reproduce measured speeds, by least squares of their logarithms.

    Args:
        speeds: fields of view a second by number of workers; one worker must be among them.
        fovs: fields of view of a worker's step.
        known: other parameters of the model.

    Raises:
        FloodlineError: one worker, or three other numbers of them, are missing.
    """
    if 1 not in speeds or len(speeds) < 4:
        raise FloodlineError("a fit needs the speed of one worker and of at least three other numbers of workers.")
    start = Model(own=fovs / speeds[1], fovs=fovs, **known)  # type: ignore[arg-type]
    several = [workers for workers in speeds if workers > 1]
    # Latency in units of the step, so that all three are of one size.
    unit = start.own / (2 * start.messages * max(several))

    def model(values: Any) -> Model:
        return replace(start, interference=values[0], spread=values[1], latency=values[2] * unit)

    def errors(values: np.ndarray) -> list[float]:
        return [float(np.log(model(values).rate(workers) / speeds[workers])) for workers in several]

    return model(least_squares(errors, [0.1, 0.05, 0.1], bounds=(0, np.inf)).x.tolist())


def what_if(model: Model) -> dict[str, Model]:
    """The same machine, otherwise used."""
    return {
        "as measured": model,
        "overlapped with the backward pass": replace(model, overlapped=True),
        "fused into one message": replace(model, messages=1),
        "fused into four, overlapped": replace(model, messages=min(4, model.messages), overlapped=True),
        "bfloat16 gradients": replace(model, gradient_bytes=model.gradient_bytes / 2),
        "tree": replace(model, algorithm="tree"),
        f"hierarchy, groups of {model.group}": replace(model, algorithm="hierarchy"),
        "4 ranks a node": replace(model, ranks=4),
        "4 times the local batch": replace(model, own=4 * model.own, fovs=4 * model.fovs),
        "no interference": replace(model, interference=0.0),
        "fused, no interference": replace(model, messages=1, interference=0.0),
    }
