"""The whole chain with the image, the labels and every layer in S3, and an export there."""

from __future__ import annotations

import json
import urllib.request

import numpy as np
import pytest
import stores
import yaml
from running import ROOT, Workflow
from stores import BUCKET

from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.publishing.viewer import Server
from floodline.volumes import phantom
from floodline.volumes.layer import Kind, Layer

SIZE_XYZ = (72, 64, 56)
LAYERS = ("image", "labels", "supervoxels", "flood_probability", "neurons")


def source(name: str, array: np.ndarray, kind: Kind) -> dict[str, str]:
    """A layer in S3 to begin with."""
    path, box = f"s3://{BUCKET}/input/{name}", Box.sized((0, 0, 0), SIZE_XYZ)
    layer = Layer.create(
        path, box=box, dtype=array.dtype.name, voxel_size_nm_xyz=(8, 8, 8), chunk_size_xyz=(32,) * 3, kind=kind
    )
    for part in blocks(box, (32,) * 3):
        layer.write(part, array[part.slices_zyx()])
    return {"kind": "precomputed", "path": path}


@pytest.mark.slow
def test_the_whole_chain_in_s3(tmp_path, monkeypatch, tiny):
    with stores.seaweedfs(tmp_path / "weed") as endpoint:
        for name, value in stores.credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        values = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
        shape = SIZE_XYZ[::-1]
        values["image"] = {"source": source("image", phantom.image(shape, 3), "image")}
        values["labels"] = {"source": source("labels", phantom.labels(shape, 3), "segmentation")}
        values["storage"]["layers"] = f"s3://{BUCKET}/results"
        values["exports"] = [{"name": "there", "kind": "ome_zarr", "path": f"s3://{BUCKET}/exports/neurons.ome.zarr"}]
        (tmp_path / "s3.yaml").write_text(yaml.safe_dump(values))
        workflow = Workflow(tmp_path / "run", tmp_path / "s3.yaml")
        workflow()
        assert "Nothing to be done" in workflow()

        # The same as with everything on disk, and nothing of it on disk.
        here, there = Experiment(tiny.folder / "results/tiny"), Experiment(workflow.folder / "results/tiny")
        for name in LAYERS:
            assert there.layer(name) == f"s3://{BUCKET}/results/tiny/{name}"
            a, b = Layer.open(here.layer(name)), Layer.open(there.layer(name))
            assert np.array_equal(a.read(a.box), b.read(b.box)), name
            local = {path.suffix for path in (there.folder / name).iterdir()}
            assert local <= {".json", ".parquet"}, name
        assert json.loads(here.metrics.read_text()) == json.loads(there.metrics.read_text())
        export = json.loads((there.folder / "exports/there.json").read_text())
        assert export["voxels_read_back"] > 0
        viewed(there)


def viewed(experiment: Experiment) -> None:
    """`floodline view` hands on what lies in the store, ranges too."""
    with stores.serving(Server(experiment, "127.0.0.1", 0)) as server:

        def get(path: str, **headers: str) -> bytes:
            request = urllib.request.Request(f"{server.url}data/{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.read()

        info = json.loads(get("neurons/info"))
        assert {"mesh", "skeletons"} <= info.keys()
        assert get("neurons/info", Range="bytes=0-9") == get("neurons/info")[:10]
        chunk = f"{info['scales'][0]['key']}/0-32_0-32_0-32"
        assert len(get(f"neurons/{chunk}")) > 0
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("neurons/nothing")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("neurons/../../../input/image/info")
