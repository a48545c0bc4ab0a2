"""The whole chain with the image, the labels and every layer in S3, and an export there."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import stores
import yaml
from running import ROOT, Workflow
from stores import BUCKET

from floodline.config import ChunkedSource
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.publishing.viewer import Server
from floodline.volumes import phantom
from floodline.volumes.layer import Kind, Layer
from floodline.volumes.sources import open_source

SIZE_XYZ = (72, 64, 56)
EXPORT = f"s3://{BUCKET}/exports/neurons.ome.zarr"
LAYERS = ("image", "labels", "supervoxels", "flood_probability", "candidates", "neurons")


def source(name: str, array: np.ndarray, kind: Kind) -> dict[str, str]:
    """A layer in S3 to begin with."""
    path, box = f"s3://{BUCKET}/input/{name}", Box.sized((0, 0, 0), SIZE_XYZ)
    layer = Layer.create(
        path, box=box, dtype=array.dtype.name, voxel_size_nm_xyz=(8, 8, 8), chunk_size_xyz=(32,) * 3, kind=kind
    )
    for part in blocks(box, (32,) * 3):
        layer.write(part, array[part.slices_zyx()])
    return {"kind": "precomputed", "path": path}


@pytest.fixture(scope="module")
def in_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workflow]:
    """The tiny experiment with everything in S3, run to its end."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "weed").mkdir()
    with stores.seaweedfs(folder / "weed") as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in stores.credentials(endpoint).items():
            environment.setenv(name, value)
        values = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
        shape = SIZE_XYZ[::-1]
        values["image"] = {"source": source("image", phantom.image(shape, 3), "image")}
        values["labels"] = {"source": source("labels", phantom.labels(shape, 3), "segmentation")}
        values["storage"]["layers"] = f"s3://{BUCKET}/results"
        values["exports"] = [{"name": "there", "kind": "ome_zarr", "path": EXPORT}]
        (folder / "s3.yaml").write_text(yaml.safe_dump(values))
        workflow = Workflow(folder / "run", folder / "s3.yaml")
        workflow()
        yield workflow


def experiment(workflow: Workflow) -> Experiment:
    return Experiment(workflow.folder / "results/tiny")


@pytest.mark.slow
def test_the_whole_chain_runs_with_every_layer_in_s3(in_s3):
    made = experiment(in_s3)
    for name in LAYERS:
        assert made.layer(name) == f"s3://{BUCKET}/results/tiny/{name}"
        layer = Layer.open(made.layer(name))
        assert layer.box.size_xyz == SIZE_XYZ
        assert layer.read(layer.box).any(), name
        assert not (made.folder / name / "info").exists()
        assert not list((made.folder / name).rglob("0-32_0-32_0-32"))
    assert (made.folder / "report.html").stat().st_size > 0
    neurons, export = Layer.open(made.layer("neurons")), open_source(ChunkedSource(kind="zarr", path=EXPORT), 0)
    assert np.array_equal(export.read(export.box), neurons.read(neurons.box))
    assert "Nothing to be done" in in_s3()


@pytest.mark.slow
def test_the_results_are_those_of_layers_on_disk(in_s3, tiny):
    here, there = experiment(tiny), experiment(in_s3)
    for name in LAYERS:
        a, b = Layer.open(here.layer(name)), Layer.open(there.layer(name))
        assert np.array_equal(a.read(a.box), b.read(b.box)), name
    assert json.loads(here.metrics.read_text()) == json.loads(there.metrics.read_text())


@pytest.mark.slow
def test_the_viewer_hands_on_what_lies_in_the_store(in_s3):
    with stores.serving(Server(experiment(in_s3), "127.0.0.1", 0)) as server:

        def get(path: str, **headers: str) -> bytes:
            request = urllib.request.Request(f"{server.url}data/{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=60) as reply:
                return bytes(reply.read())

        info = json.loads(get("neurons/info"))
        assert {"mesh", "skeletons"} <= info.keys()
        assert get("neurons/info", Range="bytes=0-9") == get("neurons/info")[:10]
        assert get(f"neurons/{info['scales'][0]['key']}/0-32_0-32_0-32")
        for outside in ("neurons/nothing", "neurons/../../../input/image/info"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(outside)
