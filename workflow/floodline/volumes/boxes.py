"""Labels of several boxes as one volume."""

from __future__ import annotations

import numpy as np

from floodline import config
from floodline.errors import FloodlineError
from floodline.geometry import Box
from floodline.volumes.agreement import check_start, same_size
from floodline.volumes.arrays import Storage, as_labels
from floodline.volumes.placement import Size
from floodline.volumes.sources import Volume, open_source

IDS_OF_A_BOX = 10**12
"""Ids of each box are below this, and its number is read from an id at a glance."""


def open_labels(source: config.Source | config.BoxesSource, seed: int) -> Volume:
    """Open the source of labels.

    Raises:
        FloodlineError: it is missing or is not what it is said to be.
    """
    if isinstance(source, config.BoxesSource):
        parts = [(open_source(one.source, seed, "labels"), Box.of(one.box_xyz)) for one in source.boxes]
        return BoxesVolume(parts, source.ids == "of_each_box")
    return open_source(source, seed, "labels")


class BoxesVolume:
    """Volumes of labels at their places, and 0 between them.

    Args:
        parts: each volume and its place; places have no voxel in common.
        counted_anew: whether the ids of each part mean something there only, and are to be told apart.

    Raises:
        FloodlineError: a part has not the shape of its place, says that it lies elsewhere, holds no labels, or has
            voxels of another size than the parts before it.
    """

    dtype = np.dtype(np.uint64)

    def __init__(self, parts: list[tuple[Volume, Box]], counted_anew: bool) -> None:
        self._parts, self._counted_anew = parts, counted_anew
        places = [place for _, place in parts]
        corners = np.array([place.corners for place in places])
        self.box = Box.of((tuple(corners[:, 0].min(0).tolist()), tuple(corners[:, 1].max(0).tolist())))
        self.stored = Storage(self.box.size_xyz, f"in {len(parts)} boxes")
        self.voxel_size_nm_xyz: Size | None = None
        for number, (volume, place) in enumerate(parts):
            name = f"labels.source.boxes.{number}"
            if volume.dtype.kind not in "iub":
                raise FloodlineError(f"{name} holds {volume.dtype}: labels are whole numbers.")
            if volume.box.size_xyz != place.size_xyz:
                raise FloodlineError(
                    f"{name} has size {list(volume.box.size_xyz)} (x, y, z), but its box_xyz {list(place.size_xyz)}."
                )
            check_start(volume, place, name, "its box_xyz")
            stated = volume.voxel_size_nm_xyz
            if stated and self.voxel_size_nm_xyz and not same_size(stated, self.voxel_size_nm_xyz):
                raise FloodlineError(f"the voxels of {name} have another size than those of the boxes before it.")
            self.voxel_size_nm_xyz = self.voxel_size_nm_xyz or stated

    def read(self, box: Box) -> np.ndarray:
        """The labels of a box, uint64, z, y, x.

        Raises:
            FloodlineError: a part is damaged, or its ids are too large to be told apart.
        """
        result = np.zeros(box.shape_zyx, np.uint64)
        for number, (volume, place) in enumerate(self._parts):
            common = place.intersection(box)
            if common.is_empty:
                continue
            offset = [a - b for a, b in zip(volume.box.start_xyz, place.start_xyz, strict=True)]
            labels = as_labels(volume.read(common.shifted(offset)))
            if self._counted_anew:
                if labels.max() >= IDS_OF_A_BOX:
                    raise FloodlineError(
                        f"labels.source.boxes.{number} holds the id {labels.max()}: with ids: of_each_box they must be "
                        f"below {IDS_OF_A_BOX}."
                    )
                labels[labels > 0] += np.uint64(number * IDS_OF_A_BOX)
            result[common.slices_zyx(box.start_xyz)] = labels
        return result
