"""One pass over a sub-volume: floods from the seeds of one policy after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from floodline.ffn.flood import Flooding, Floods

Policy = Callable[[np.ndarray], np.ndarray]
"""From what is segmented (z, y, x) to seeds (n, 3)."""


class Pass:
    """Floods whose seeds each policy finds when its turn comes, so that it sees what those before it segmented.

    Between two calls of the network all state is in `state`, the seeds included, from which `restore` goes on.
    """

    def __init__(self, floods: Floods, policies: Sequence[Policy]) -> None:
        self.floods = floods
        self.policies = policies
        self.turn = 0
        self.has_seeds = False
        self.seconds_before = 0.0
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent, that before an interruption included."""
        return self.seconds_before + time.monotonic() - self.began

    @property
    def share(self) -> float:
        """How far it is: the share of the policies' seeds that had their turn."""
        of_turn = self.floods.next_seed / max(1, len(self.floods.seeds)) if self.has_seeds else 0.0
        return (self.turn + of_turn) / len(self.policies)

    def flood_all(self) -> Flooding[None]:
        """Flood from the seeds of every policy."""
        floods = self.floods
        while self.turn < len(self.policies):
            if not self.has_seeds:
                # Between floods there is no prediction: the search gets its memory.
                floods.canvas.seed = np.empty((0, 0, 0), np.float32)
                floods.seeds, floods.next_seed = self.policies[self.turn](floods.canvas.segmentation), 0
                floods.canvas.clear()
                self.has_seeds = True
            yield from floods.flood_all()
            self.turn, self.has_seeds = self.turn + 1, False
        # No prediction is needed any more.
        floods.canvas.seed = np.empty((0, 0, 0), np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        own = {"turn": self.turn, "seeds": self.floods.seeds, "seconds": self.seconds}
        return self.floods.state() | {name: np.asarray(value) for name, value in own.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up the state of a pass over the same image with the same policies."""
        self.floods.restore(state)
        self.turn, self.floods.seeds = int(state["turn"]), state["seeds"]
        self.has_seeds = True
        self.seconds_before = float(state["seconds"])
