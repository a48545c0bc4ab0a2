"""From measurements to findings: each section against what is usual around it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from floodline import config

BESIDE = 3
"""Sections on either side that say where a section should lie."""

FEWEST = 4
"""Sections that are needed to say what is usual."""

COLUMNS = ["kind", "x0", "y0", "z0", "x1", "y1", "z1", "value", "usual"]


def find(sections: pd.DataFrame, wanted: config.Quality) -> pd.DataFrame:
    """Findings of all tiles.

    Args:
        sections: a row for each section of each tile: its box (x0 ... z1) and what `measure` says of it.

    Returns:
        the columns COLUMNS, ordered by z; `value` is what was measured, `usual` what it was compared with.
    """
    found = []
    for _, tile in sections.groupby(["y0", "x0"], sort=True):
        found += _of_tile(tile.sort_values("z0").reset_index(drop=True), wanted)
    table = pd.DataFrame(found, columns=COLUMNS)
    return table.sort_values(["z0", "y0", "x0", "kind"], kind="stable").reset_index(drop=True)


def _of_tile(tile: pd.DataFrame, wanted: config.Quality) -> list[list[object]]:
    def column(name: str) -> np.ndarray:
        return tile[name].to_numpy(np.float64)

    mean, stddev, sharpness = column("mean"), column("stddev"), column("sharpness")
    nothing = ~(stddev > 0)
    usual_mean = usual(mean, ~nothing, wanted.window)
    black = ~nothing & (mean < wanted.black * usual_mean)
    shows = ~nothing & ~black
    flagged = {"missing": (nothing, mean, usual_mean), "black": (black, mean, usual_mean)}

    usual_stddev = usual(stddev, shows, wanted.window)
    flat = shows & ((stddev < wanted.low_contrast * usual_stddev) | (stddev < wanted.min_stddev))
    flagged["low_contrast"] = (flat, stddev, np.maximum(usual_stddev, wanted.min_stddev))
    clipped = np.maximum(column("at_bottom"), column("at_top"))
    saturated = shows & (clipped >= wanted.saturated)
    flagged["saturated"] = (saturated, clipped, usual(clipped, shows, wanted.window))
    usual_sharpness = usual(sharpness, shows & ~saturated, wanted.window)
    blurred = shows & ~saturated & (sharpness < wanted.blurred * usual_sharpness)
    flagged["blurred"] = (blurred, sharpness, usual_sharpness)

    # Between a section and the one before it; what a blurred or saturated section shares is not what others do.
    both = shows & np.roll(shows, 1) & np.isfinite(column("aligned"))
    both[:1] = False
    odd = blurred | saturated | flat
    apart = 1 - column("aligned")
    clear = both & ~odd & ~np.roll(odd, 1)
    usual_apart = usual(apart, clear, wanted.window)
    repeated = both & (apart < wanted.repeated * usual_apart)
    flagged["repeated"] = (repeated, apart, usual_apart)
    shifts = np.where(clear[:, None], tile[["shift_x", "shift_y"]].to_numpy(np.float64), 0)
    shifted, how_far = _shifted(np.cumsum(np.nan_to_num(shifts), axis=0), wanted.shifted_voxels)
    flagged["shifted"] = (shifted & shows, how_far, np.zeros(len(tile)))
    # The section after a repeated one is two sections from what it is compared with, and that is no finding of its own.
    jump = clear & ~np.roll(repeated, 1) & (apart > wanted.jump * usual_apart)
    flagged["jump"] = (jump, apart, usual_apart)

    boxes = tile[["x0", "y0", "z0", "x1", "y1", "z1"]].astype(int).to_numpy().tolist()
    return [
        [kind, *boxes[i], float(value[i]), float(normal[i])]
        for kind, (where, value, normal) in flagged.items()
        for i in np.flatnonzero(where).tolist()
    ]


def usual(values: np.ndarray, counted: np.ndarray, window: int) -> np.ndarray:
    """The median of the counted values in a window around each place; of all of them where the window holds few.

    NaN where there are few at all, so that nothing is found by comparison with it.
    """
    good = pd.Series(np.where(counted, values, np.nan))
    local = good.rolling(window, center=True, min_periods=FEWEST).median()
    overall = good.median() if good.count() >= FEWEST else np.nan
    return local.fillna(overall).to_numpy()


def _shifted(places: np.ndarray, voxels: int) -> tuple[np.ndarray, np.ndarray]:
    """Sections that lie elsewhere than those before and after them, and the first of those that lie elsewhere for good.

    Args:
        places: (sections, 2) where each lies, from the shifts between neighbours.

    Returns:
        which, and how far from those before.
    """
    count = len(places)
    before = np.array([np.median(places[max(0, i - BESIDE) : i], axis=0) if i else places[0] for i in range(count)])
    after = np.array(
        [np.median(places[i + 1 : i + 1 + BESIDE], axis=0) if i < count - 1 else places[i] for i in range(count)]
    )

    def far(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs(a - b).max(axis=1) >= voxels

    alone = far(places, before) & far(places, after)
    # The first section has none before it, and the last none after.
    alone[:1], alone[-1:] = far(places, after)[:1], far(places, before)[-1:]
    for_good = np.zeros(count, bool)
    good = np.flatnonzero(~alone)
    for_good[good[1:]] = far(places[good[1:]], places[good[:-1]])
    return alone | for_good, np.abs(places - before).max(axis=1)
