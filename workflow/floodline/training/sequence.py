"""The examples that a rank trains on, which go on from one job to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import chain, count

import numpy as np

from floodline.training.batches import Batches, Place, ahead
from floodline.training.movement import Geometry, Patch


class Examples:
    """The examples of every place of a rank's batch, as long as the fields of view keep their size.

    Args:
        draw: makes the n-th example of a place; called again it makes the same.
        began: fields of view that the training had seen when the first of these examples began.
        places: of this rank, counted over all ranks.
        geometry: of the examples.
        executor: makes examples ahead.
        finished: is given every example whose moves are used up.
        kept: `state` of earlier ones, from which these go on.
    """

    def __init__(
        self,
        draw: Callable[[int, int], Patch],
        began: int,
        places: Sequence[int],
        geometry: Geometry,
        executor: Executor,
        finished: Callable[[Patch], object],
        kept: Mapping[str, np.ndarray] | None,
    ) -> None:
        self.began = began
        self.places: list[Place] = []
        for index, place in enumerate(places):
            of_place = partial(draw, place)
            under_way: list[Patch] = []
            first = following = 0
            if kept is not None:
                first = int(kept[f"{index}.number"])
                under_way, following = [of_place(first)], first + 1
                under_way[0].restore({name: kept[f"{index}.{name}"] for name in under_way[0].state()})
            self.places.append(Place(chain(under_way, _from(of_place, following, executor)), finished, first))
        self.batches = Batches(self.places, geometry)

    def state(self) -> dict[str, np.ndarray]:
        """What is under way at every place."""
        state = {"began": np.array(self.began)}
        for index, place in enumerate(self.places):
            assert place.patch is not None  # there is no last example
            state |= {f"{index}.{name}": values for name, values in place.patch.state().items()}
            state[f"{index}.number"] = np.array(place.number)
        return state


def _from(draw: Callable[[int], Patch], first: int, executor: Executor) -> Iterator[Patch]:
    return ahead((partial(draw, number) for number in count(first)), executor)
