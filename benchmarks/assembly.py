"""Assembly of very many sub-volumes, measured: from what the overlaps say to supervoxels.

    .venv/bin/python benchmarks/assembly.py [--subvolumes 100000] [--pieces 100]

Every sub-volume has as many pieces as asked for, under ids of its own, and shares some with each of its neighbours
along x, y and z, as neurites that go on do; some overlaps contradict each other. Printed are seconds and the largest
memory of the process, step by step. What an overlap says is made up at random: comparing voxels is the ranks' work.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from floodline.assembly.grid import Grid, Overlap
from floodline.assembly.joining import Contacts, Pieces, join
from floodline.assembly.matching import Match, Objects
from floodline.geometry import Box, tile
from floodline.segmentation.pairs import Wishes

Result = TypeVar("Result")

SIZE, OVERLAP = 256, 32
CONTINUED = 0.15
"""Share of the pieces that go on into a neighbour."""
BRUSHED = 0.1
"""Share that touches a piece of it without being joined."""
CONTESTED = 0.01


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subvolumes", type=int, default=100_000)
    parser.add_argument("--pieces", type=int, default=100, help="objects of a sub-volume")
    arguments = parser.parse_args()
    side = round(arguments.subvolumes ** (1 / 3))
    size = side * (SIZE - OVERLAP) + OVERLAP
    rng = np.random.default_rng(1)
    print(f"{side}^3 = {side**3} sub-volumes of {SIZE}^3 voxels, {arguments.pieces} pieces each")
    print("step                                   seconds   CPU seconds   memory, GiB")
    grid = step("sub-volumes and their overlaps", lambda: lay_out(size))
    objects = step(
        "objects of all sub-volumes (made here)", lambda: make_objects(len(grid.boxes), arguments.pieces, rng)
    )
    pieces = step("pieces", lambda: Pieces.of(objects))
    matches = step("overlaps (made here)", lambda: [(at, say(at, objects, rng)) for at in grid.overlaps])
    contacts = step("contacts of pieces", lambda: Contacts.of(matches, pieces))
    print(f"{len(pieces.id)} pieces, {len(contacts.pairs)} contacts, {int(contacts.joined.sum())} joins")
    for through_neighbour in ("always", "unless_contradicted", "never"):
        joining = step(f"supervoxels, {through_neighbour}", lambda how=through_neighbour: join(pieces, contacts, how))
        print(f"  {joining.supervoxel.max()} supervoxels, {joining.counts['joins_left_out']} joins left out")
    pairs = np.sort(rng.choice(len(pieces.id), (1000, 2), replace=False), axis=1)
    wishes = Wishes(pairs[:500], pairs[500:])
    step("supervoxels, with 1000 pairs", lambda: join(pieces, contacts, "unless_contradicted", wishes))


def step(name: str, work: Callable[[], Result]) -> Result:
    """Do something, and print what it took."""
    wall, cpu = time.monotonic(), time.process_time()
    result = work()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:40s}{wall:8.1f}{cpu:14.1f}{memory:14.1f}", flush=True)
    return result


def lay_out(size: int) -> Grid:
    """The grid, its overlaps found."""
    grid = Grid(tile(Box((0, 0, 0), (size,) * 3), (SIZE,) * 3, (OVERLAP,) * 3))
    assert grid.overlaps
    return grid


def make_objects(subvolumes: int, pieces: int, rng: np.random.Generator) -> list[Objects]:
    """Objects with ids that have gaps, and sizes."""
    ids = np.cumsum(rng.integers(1, 4, (subvolumes, pieces)), axis=1)
    sizes = rng.integers(1000, 10**6, (subvolumes, pieces))
    return [Objects(*of_one) for of_one in zip(ids, sizes, strict=True)]


def say(at: Overlap, objects: list[Objects], rng: np.random.Generator) -> Match:
    """What an overlap might say: random pairs of pieces, few of them contradictory."""
    lower, upper = objects[at.lower].ids, objects[at.upper].ids
    joins, touches = (int(len(lower) * share) for share in (CONTINUED, BRUSHED))
    count = joins + touches
    pairs = np.stack([lower[rng.permutation(len(lower))[:count]], upper[rng.permutation(len(upper))[:count]]], axis=1)
    return Match(
        pairs=pairs,
        voxels=rng.integers(1, 10**5, count),
        sizes=rng.integers(10**5, 10**6, (count, 2)),
        joined=np.arange(count) < joins,
        contested=(lower[rng.random(len(lower)) < CONTESTED], upper[:0]),
    )


if __name__ == "__main__":
    main()
