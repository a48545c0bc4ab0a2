"""An experiment with everything that a viewer shows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import published

from floodline.experiment import Experiment
from floodline.manifest import write_json
from floodline.publishing import meshes, skeletons
from floodline.volumes import phantom

SHAPE_ZYX = (64, 64, 64)
MERGER_XYZ = (130, 12, 30)
FLOODLINE = Path(sys.executable).with_name("floodline")


def experiment(folder: Path) -> Experiment:
    """Neurons that are the truth of a generated volume, cut into supervoxels at the middle of z."""
    made = published.experiment(folder, publishing={"min_voxels": 200})
    truth = phantom.labels(SHAPE_ZYX, 1)
    supervoxels = truth * 2 + (truth > 0) * (np.arange(SHAPE_ZYX[0]) >= 32)[:, None, None].astype(np.uint64)
    published.add(made, "image", phantom.image(SHAPE_ZYX, 1))
    for name, array in (("labels", truth), ("supervoxels", supervoxels), ("neurons", truth)):
        published.add(made, name, array)
    ids = np.unique(supervoxels[supervoxels > 0])
    pairs = [(a, a + 1) for a in ids.tolist() if a % 2 == 0 and a + 1 in ids]
    edges = pd.DataFrame(pairs, columns=["a", "b"]).assign(contact_area=40, x=132, y=12, z=39)
    made.agglomeration.mkdir()
    edges.assign(score=np.linspace(0.1, 0.9, len(edges))).to_parquet(made.agglomeration / "edges.parquet")
    mapping = pd.DataFrame({"supervoxel": ids, "neuron": ids // 2})
    mapping.to_parquet(made.agglomeration / "mapping.parquet")
    mistake = {"segmentation": "neurons", "box_name": "all", "voxels": 90, "neurons": [1, 2], "segments": [1]}
    places = {"merger": MERGER_XYZ, "split": (140, 20, 45)}
    write_json(
        made.metrics.with_name("worst.json"),
        [mistake | {"kind": kind, "position_xyz": list(place)} for kind, place in places.items()],
    )
    meshes.run(made)
    skeletons.run(made)
    return made
