"""Which objects were found, by size."""

from __future__ import annotations

import numpy as np

from floodline.segmentation.contingency import Table

MATCH = 0.5
"""An object is found if a segment overlaps it by more than this intersection over union; there is at most one."""


def detect(table: Table) -> list[dict[str, int | float | None]]:
    """Neurons found and segments that are one, by powers of ten of their size in labelled voxels.

    Args:
        table: contingency table, truth first; voxels without a label do not count.

    Returns:
        For each power of ten that occurs: `voxels_from`, `voxels_below`, `neurons`, `neurons_found`, `segments`,
        `segments_matched`.
    """
    table = table.where(table.a != 0)
    neurons, neuron_row = np.unique(table.a, return_inverse=True)
    segments, segment_row = np.unique(table.b, return_inverse=True)
    neuron_sizes = np.bincount(neuron_row, weights=table.count)
    segment_sizes = np.bincount(segment_row, weights=table.count)
    union = neuron_sizes[neuron_row] + segment_sizes[segment_row] - table.count
    match = (table.b != 0) & (table.count > MATCH * union)
    found = np.isin(neurons, table.a[match])
    matched = np.isin(segments, table.b[match])
    real = segments != 0
    neuron_power, segment_power = (_power_of_ten(sizes) for sizes in (neuron_sizes, segment_sizes))
    return [
        {
            "voxels_from": 10**power,
            "voxels_below": 10 ** (power + 1),
            "neurons": int((neuron_power == power).sum()),
            "neurons_found": int(found[neuron_power == power].sum()),
            "segments": int(real[segment_power == power].sum()),
            "segments_matched": int(matched[segment_power == power].sum()),
        }
        for power in sorted({*neuron_power.tolist(), *segment_power[real].tolist()})
    ]


def _power_of_ten(sizes: np.ndarray) -> np.ndarray:
    """The number of digits less one: exact where the logarithm rounds."""
    return np.array([len(str(int(size))) - 1 for size in sizes], int)
