"""One of several ranks: 50 steps on a batch of its own, compared with one rank that has all batches.

It prints the hash of its state, and on the first rank the largest difference to the weights of the one rank, and how
far these have moved.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np

from floodline.config import Network, Training
from floodline.ffn.network import initial_weights
from floodline.parallel import Ranks, training_ranks
from floodline.training.batches import Batch
from floodline.training.trainer import Trainer

STEPS, BATCH = 50, 2
NETWORK = Network(depth=2, features=4, fov_xyz=(7, 7, 7), deltas_xyz=(2, 2, 2), weights="unused")


def batch(step: int, rank: int) -> list[np.ndarray]:
    rng = np.random.default_rng([step, rank])
    image, seed = (rng.normal(size=(BATCH, 7, 7, 7)).astype(np.float32) for _ in range(2))
    return [image, seed, np.where(image > 0, 0.95, 0.05).astype(np.float32)]


def main() -> None:
    ranks = training_ranks()
    assert ranks.size > 1
    training = Training(precision="float32", optimiser={"kind": sys.argv[1]}, clip=0.01, average_decay=0.9)
    # Only the first rank's start counts.
    first = initial_weights(NETWORK, np.random.default_rng(ranks.rank))
    together = Trainer(first, NETWORK, training, ranks)
    for step in range(STEPS):
        together.step(Batch(*batch(step, ranks.rank)), 0.01)
    values = together.values()
    digest = hashlib.blake2b(b"".join(values[name].tobytes() for name in sorted(values))).hexdigest()
    report = f"state {digest}"
    if ranks.rank == 0:
        alone = Trainer(first, NETWORK, training, Ranks())
        for step in range(STEPS):
            parts = [batch(step, rank) for rank in range(ranks.size)]
            alone.step(Batch(*map(np.concatenate, zip(*parts, strict=True))), 0.01)
        ours, theirs, start = (
            np.concatenate([w[name].ravel() for name in first]) for w in (together.weights(), alone.weights(), first)
        )
        report += f"\ndifference {np.abs(ours - theirs).max()}\nmoved {np.abs(theirs - start).max()}"
    print(report, flush=True)


if __name__ == "__main__":
    main()
