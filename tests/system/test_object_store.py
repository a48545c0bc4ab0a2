"""Layers and arrays in object stores and on web servers, whole and failing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import published
import pytest
import stores
import tensorstore
import zarr
from stores import BUCKET, Misbehaving

from floodline import starter
from floodline.config import ChunkedSource, PrecomputedSource
from floodline.errors import FloodlineError
from floodline.geometry import Box
from floodline.manifest import read_json
from floodline.volumes import pyramid, remote
from floodline.volumes.layer import Layer
from floodline.volumes.sources import open_source

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 50, 70), dtype=np.uint8)
LABELS = (IMAGE > 99).astype(np.uint64) << np.uint64(40)
BOX = Box.of_array(IMAGE.shape, published.START_XYZ)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.seaweedfs(tmp_path_factory.mktemp("weed")) as endpoint:
        yield endpoint


def forget() -> None:
    """Libraries keep connections, with their credentials and time-outs."""
    from cloudfiles import interfaces

    interfaces.reset_connection_pools()
    remote.cloud_volume_class()
    remote._teach_patience()
    remote.context.cache_clear()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(remote, "ATTEMPTS", 4)
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 1.0)
    yield monkeypatch
    monkeypatch.undo()
    forget()


@pytest.fixture
def store(s3: str, environment: pytest.MonkeyPatch) -> str:
    """The S3 server, as everybody finds it."""
    for name, value in stores.credentials(s3).items():
        environment.setenv(name, value)
    forget()
    return s3


@pytest.fixture
def proxy(store: str, environment: pytest.MonkeyPatch) -> Iterator[Misbehaving]:
    """The same server behind a proxy that can misbehave."""
    with stores.serving(Misbehaving(store)) as server:
        environment.setenv("AWS_ENDPOINT_URL_S3", server.url)
        forget()
        yield server


def test_a_layer_and_its_pyramid_live_in_s3(store, tmp_path):
    for name, array in (("image", IMAGE), ("labels", LABELS)):
        url = f"s3://{BUCKET}/one/{name}"
        published.layer(url, array)
        pyramid.run(url, 1, tmp_path / "mips.json")
        whole = Layer.open(url)
        assert (whole.box, whole.dtype) == (BOX, array.dtype)
        part = Box.sized((105, -11, 20), (50, 30, 20))
        assert np.array_equal(whole.read(part), array[part.slices_zyx(BOX.start_xyz)])
        published.layer(tmp_path / name, array)
        pyramid.run(tmp_path / name, 1, tmp_path / "mips.json")
        here, there = Layer.open(tmp_path / name, 1), Layer.open(url, 1)
        assert np.array_equal(here.read(here.box), there.read(there.box))
        assert "voxel size  8 x 8 x 10 nm" in starter.describe(url)


def test_a_new_layer_leaves_nothing_of_the_old_one(store):
    url = f"s3://{BUCKET}/two/image"
    published.layer(url, IMAGE)
    published.layer(f"{url}2", IMAGE)
    layer = Layer.create(
        url, box=BOX, dtype="uint8", voxel_size_nm_xyz=(8, 8, 8), chunk_size_xyz=(32,) * 3, kind="image"
    )
    assert list(remote.cloud_files(url).list()) == ["info"]
    assert np.array_equal(Layer.open(f"{url}2").read(BOX), IMAGE)
    with pytest.raises(FloodlineError, match="lacks chunks"):
        layer.read(BOX)


@pytest.mark.parametrize("kind", ["zarr 2", "zarr 3", "n5"])
def test_arrays_in_s3_are_read(store, kind):
    url = f"s3://{BUCKET}/arrays/{kind.replace(' ', '')}"
    if kind == "n5":
        metadata = {
            "dimensions": IMAGE.shape[::-1], "blockSize": [32] * 3, "dataType": "uint8",
            "compression": {"type": "gzip"},
        }  # fmt: skip
        spec = {"driver": "n5", "kvstore": remote.kvstore(url), "metadata": metadata}
        tensorstore.open(spec, create=True, delete_existing=True).result().write(IMAGE.T).result()
    else:
        options = {"endpoint_url": store, "client_kwargs": {"region_name": "us-east-1"}}
        zarr.create_array(
            url, data=IMAGE, chunks=(32,) * 3, zarr_format=int(kind[-1]), storage_options=options, overwrite=True
        )
    found = starter.find_one(url)
    assert found.source == ChunkedSource.model_validate({"kind": kind.split()[0], "path": url})
    box = Box((10, 20, 5), (65, 50, 39))
    assert np.array_equal(found.volume.read(box), IMAGE[box.slices_zyx()])


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[str]:
    forget()
    with stores.serving(stores.web_server(tmp_path)) as server:
        yield stores.address_of(server)


def test_remote_precomputed_layers_are_read_over_http_packed_or_not(web, tmp_path):
    from cloudvolume import CloudVolume

    for name, compress in (("packed", "gzip"), ("plain", False)):
        CloudVolume.from_numpy(
            np.asfortranarray(LABELS.T), f"file://{tmp_path}/{name}", (8, 8, 10), (5, 6, 7), chunk_size=(32, 32, 32),
            layer_type="segmentation", encoding="compressed_segmentation", compress=compress, progress=False,
        )  # fmt: skip
        assert bool(list((tmp_path / name).rglob("*.gz"))) == (name == "packed")
        volume = open_source(PrecomputedSource(kind="precomputed", path=f"{web}/{name}"), 0)
        box = Box((10, 20, 8), (65, 50, 39))
        assert volume.voxel_size_nm_xyz == (8, 8, 10)
        assert np.array_equal(volume.read(box), LABELS[box.slices_zyx((5, 6, 7))])
        assert starter.find_one(f"precomputed://{web}/{name}").source.kind == "precomputed"


def test_sharded_precomputed_layers_are_read_over_http_by_ranges(web, tmp_path):
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1", "hash": "identity", "preshift_bits": 1, "minishard_bits": 1,
        "shard_bits": 2, "minishard_index_encoding": "gzip", "data_encoding": "gzip",
    }  # fmt: skip
    scale = {
        "size": IMAGE.shape[::-1], "encoding": "raw", "chunk_size": [16] * 3, "resolution": [8, 8, 10],
        "sharding": sharding,
    }  # fmt: skip
    spec = {
        "driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{tmp_path}/sharded"},
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1}, "scale_metadata": scale,
    }  # fmt: skip
    tensorstore.open(spec, create=True).result()[..., 0].write(IMAGE.T).result()
    assert list((tmp_path / "sharded").rglob("*.shard"))
    found = starter.find_one(f"{web}/sharded")
    box = Box((10, 20, 5), (65, 50, 39))
    assert np.array_equal(found.volume.read(box), IMAGE[box.slices_zyx()])
    assert "compression raw, sharded" in starter.describe(f"{web}/sharded")


def test_zarr_and_n5_are_read_over_http(web, tmp_path):
    zarr.create_array(tmp_path / "z", data=IMAGE, chunks=(32,) * 3)
    found = starter.find_one(f"{web}/z")
    assert found.source.kind == "zarr"
    assert np.array_equal(found.volume.read(found.volume.box), IMAGE)


def test_what_is_not_there_is_said(web, tmp_path):
    (tmp_path / "file.tif").write_bytes(b"")
    with pytest.raises(FloodlineError, match="nothing is not a precomputed layer"):
        open_source(PrecomputedSource(kind="precomputed", path=f"{web}/nothing"), 0)
    with pytest.raises(FloodlineError, match="holds neither a precomputed layer"):
        starter.describe(f"{web}/file.tif")


# --- servers that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_for_a_while_is_asked_again_after_growing_pauses(proxy, status, caplog):
    url = f"s3://{BUCKET}/patience/image"
    published.layer(url, IMAGE)
    proxy.fail(status, times=2)
    with caplog.at_level(logging.WARNING):
        layer = Layer.open(url)
    assert np.array_equal(layer.read(BOX), IMAGE)
    assert f"the server answers with HTTP status {status}: trying again in" in caplog.text


def test_pauses_grow_and_end(proxy):
    remote.cloud_volume_class()
    published.layer(f"s3://{BUCKET}/pauses/image", IMAGE)
    waits = remote.patience().wait
    for attempt in range(1, 5):
        pauses = [waits(_State(attempt)) for _ in range(50)]
        assert max(pauses) <= 2 ** (attempt - 1) * 0.2 * 1.01
        assert min(pauses) >= 2 ** (attempt - 1) * 0.1 * 0.99
    proxy.fail(503)
    with pytest.raises(FloodlineError, match=r"image cannot be read: the server answers with HTTP status 503\."):
        Layer.open(f"s3://{BUCKET}/pauses/image")
    assert len(proxy.asked) == remote.ATTEMPTS
    assert proxy.pauses() == sorted(proxy.pauses())


class _State:
    def __init__(self, attempt_number: int) -> None:
        self.attempt_number = attempt_number


def test_a_silent_server_is_given_up(proxy, environment):
    url = f"s3://{BUCKET}/silence/image"
    layer = published.layer(url, IMAGE)
    environment.setattr(remote, "ATTEMPTS", 2)
    forget()
    proxy.fail(0)
    with pytest.raises(FloodlineError, match=r"image cannot be read: the server is silent for too long\."):
        Layer.open(url)
    assert len(proxy.asked) == 2
    proxy.fail(0, times=2)
    with pytest.raises(FloodlineError, match=r"image cannot be written: the server is silent"):
        layer.write(Box.sized(BOX.start_xyz, (32, 32, 32)), IMAGE[:32, :32, :32])


def test_a_failed_write_is_tried_again_and_whole(proxy):
    url = f"s3://{BUCKET}/writing/image"
    layer = published.layer(url, np.zeros_like(IMAGE))
    proxy.fail(503, times=3)
    layer.write(BOX, IMAGE)
    assert np.array_equal(Layer.open(url).read(BOX), IMAGE)


def test_wrong_credentials_are_said_at_once(proxy, environment):
    environment.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    forget()
    proxy.asked = []
    sentence = r"cannot be read: the server refuses these credentials.* \((SignatureDoesNotMatch|HTTP status 403)\)\."
    with pytest.raises(FloodlineError, match=sentence):
        Layer.open(f"s3://{BUCKET}/one/image")
    assert len(proxy.asked) == 1
    with pytest.raises(FloodlineError, match=sentence):
        starter.describe(f"s3://{BUCKET}/one/image")
    with pytest.raises(FloodlineError, match=sentence.replace("read", "written")):
        published.layer(f"s3://{BUCKET}/new/image", IMAGE)


def test_no_credentials_are_said(store, environment):
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    environment.setenv("AWS_CONFIG_FILE", "/nonexistent")
    forget()
    with pytest.raises(FloodlineError, match="one/image cannot be reached: there are no credentials"):
        Layer.open(f"s3://{BUCKET}/one/image")


def test_a_missing_bucket_is_said(proxy):
    with pytest.raises(FloodlineError, match=r"no-such-bucket/image cannot be read: there is no such bucket"):
        Layer.open("s3://no-such-bucket/image")
    with pytest.raises(FloodlineError, match=r"no-such-bucket/image cannot be written: there is no such bucket"):
        published.layer("s3://no-such-bucket/image", IMAGE)


def test_a_server_that_is_not_there_is_said(store, environment):
    environment.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{stores.free_port()}")
    environment.setattr(remote, "ATTEMPTS", 2)
    forget()
    for read in (Layer.open, starter.describe):
        with pytest.raises(FloodlineError, match="cannot be read: the server does not answer"):
            read(f"s3://{BUCKET}/one/image")


@pytest.mark.parametrize(
    ("status", "sentence"), [(500, "the server answers with HTTP status 500"), (0, "silent"), (403, "refuses")]
)
def test_failing_web_servers_are_said(tmp_path, environment, status, sentence):
    published.layer(tmp_path / "layer", IMAGE)
    zarr.create_array(tmp_path / "z", data=IMAGE, chunks=(32,) * 3)
    environment.setattr(remote, "ATTEMPTS", 2)
    environment.setattr(remote, "LONGEST_PAUSE_SECONDS", 1.0)
    forget()
    with (
        stores.serving(stores.web_server(tmp_path)) as web,
        stores.serving(Misbehaving(stores.address_of(web))) as proxy,
    ):
        proxy.fail(status, times=1)
        if status != 403:
            layer = Layer.open(f"{proxy.url}/layer")
            assert np.array_equal(layer.read(BOX), IMAGE)
        proxy.fail(status)
        # CloudFiles takes 403 for a file that is not there.
        with pytest.raises(FloodlineError, match="no file 'info'" if status == 403 else sentence):
            Layer.open(f"{proxy.url}/layer")
        with pytest.raises(FloodlineError, match=sentence):
            open_source(ChunkedSource(kind="zarr", path=f"{proxy.url}/z"), 0)


# --- an experiment ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_meshes_and_skeletons_are_beside_the_voxels(store, tmp_path):
    from floodline.publishing import meshes, skeletons, state

    made = published.experiment(
        tmp_path / "exp", storage={"layers": f"s3://{BUCKET}/exp"}, publishing={"min_voxels": 50}
    )
    tubes = np.zeros((32, 32, 32), np.uint64)
    tubes[:, 4:12, 4:12], tubes[10:20, 14:28, :] = 5, 9
    published.add(made, "image", IMAGE[:32, :32, :32])
    published.add(made, "neurons", tubes)
    meshes.run(made)
    skeletons.run(made)
    assert made.layer("neurons") == f"s3://{BUCKET}/exp/test/neurons"
    info = remote.read_info(made.layer("neurons"))
    assert (info["mesh"], info["skeletons"]) == ("mesh", "skeletons")
    assert {s.id for s in skeletons.read(made.layer("neurons"))} == {5, 9}
    assert read_json(made.folder / "neurons/mesh.json")["neurons"] == 2
    assert sorted(path.name for path in (made.folder / "neurons").iterdir()) == [
        "manifest.json", "mesh.json", "mips.json", "skeletons.json",
    ]  # fmt: skip
    neurons = next(layer for layer in state.build(made, "x")["layers"] if layer["name"] == "neurons")
    assert set(neurons["segments"]) == {"5", "9"}
