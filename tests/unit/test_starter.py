"""`floodline info` says what a volume's file says; `floodline new` begins a configuration that runs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import published
import pytest
import tifffile
import yaml
from hypothesis import given
from hypothesis import strategies as st

from floodline import config, starter
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.ingest import image as ingest_image
from floodline.ingest import labels as ingest_labels
from floodline.manifest import read_json, write_json
from floodline.volumes.sources import open_source

SHAPE_ZYX = (6, 20, 30)
IMAGE = np.random.default_rng(0).integers(0, 255, SHAPE_ZYX, dtype=np.uint8)
LABELS = (IMAGE > 99).astype(np.uint32)


def slices(folder: Path) -> str:
    folder.mkdir()
    for z, slice_ in enumerate(IMAGE):
        tifffile.imwrite(folder / f"{z:03}.tif", slice_, resolution=(72, 72))
    return str(folder)


def pages(path: Path, **how) -> str:
    tifffile.imwrite(path, IMAGE, **how)
    return str(path)


def imagej(path: Path) -> str:
    """6 x 4 x 40 nm."""
    about = {"spacing": 0.04, "unit": "um", "axes": "ZYX"}
    return pages(path, imagej=True, resolution=(1 / 0.006, 1 / 0.004), metadata=about)


def ome(path: Path) -> str:
    """6 x 4 x 40 nm."""
    sizes = {"PhysicalSizeX": 6, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.004, "PhysicalSizeZ": 0.04}
    return pages(path, ome=True, metadata={"axes": "ZYX", **sizes})


def hdf5(path: Path, **attributes) -> str:
    with h5py.File(path, "w") as file:
        file.create_dataset("volumes/raw", data=IMAGE, chunks=(2, 10, 15)).attrs.update(attributes)
        file["flat"] = IMAGE[0]
    return str(path)


def layer(path: Path) -> str:
    published.layer(path, IMAGE, (6.0, 4.0, 40.0), 16)
    return str(path)


@pytest.mark.parametrize(
    ("make", "name", "kind", "voxel_size", "chunks"),
    [
        (slices, "stack", "stack", None, (30, 20, 1)),
        (pages, "pages.tif", "stack", None, (30, 20, 1)),
        (imagej, "ij.tif", "stack", (6, 4, 40), (30, 20, 1)),
        (ome, "o.ome.tif", "stack", (6, 4, 40), (30, 20, 1)),
        (hdf5, "plain.h5", "hdf5", None, (15, 10, 2)),
        (lambda path: hdf5(path, resolution=[40, 4, 6]), "cremi.hdf", "hdf5", (6, 4, 40), (15, 10, 2)),
        (lambda path: hdf5(path, element_size_um=[0.04, 0.004, 0.006]), "u.h5", "hdf5", (6, 4, 40), (15, 10, 2)),
        (layer, "layer", "precomputed", (6, 4, 40), (16, 16, 16)),
    ],
)
def test_a_volume_is_recognised_with_what_it_says_of_itself(tmp_path, make, name, kind, voxel_size, chunks):
    found = starter.find_one(make(tmp_path / name))
    assert found.source.kind == kind
    assert found.volume.box.size_xyz == (30, 20, 6)
    assert found.volume.voxel_size_nm_xyz == (None if voxel_size is None else pytest.approx(voxel_size))
    assert found.volume.stored.chunk_size_xyz == chunks
    block = yaml.safe_load(starter.block(found))["image"]
    same = open_source(config.Image.model_validate({"source": block["source"]}).source, seed=0)
    np.testing.assert_array_equal(same.read(same.box), IMAGE)
    if voxel_size:
        assert block["voxel_size_nm_xyz"] == list(voxel_size)


def test_what_is_printed_has_the_facts(tmp_path):
    rows = dict(line.split(maxsplit=1) for line in starter.describe(layer(tmp_path / "layer")).splitlines()[:2])
    printed = starter.describe(layer(tmp_path / "layer"))
    assert rows == {"volume": str(tmp_path / "layer"), "kind": "precomputed"}
    for line in (
        "size        30 x 20 x 6 voxels (x, y, z), 3.6 kB",
        "box         x 100..130 y -20..0 z 7..13",
        "type        uint8",
        "voxel size  6 x 4 x 40 nm",
        "chunks      16 x 16 x 16",
        "compression raw",
        "extent      0.18 x 0.08 x 0.24 µm",
    ):
        assert line in printed.splitlines()


def test_of_an_hdf5_file_every_volume_is_said_and_one_can_be_named(tmp_path):
    name = hdf5(tmp_path / "two.h5")
    with h5py.File(name, "a") as file:
        file["volumes/labels"] = LABELS
    printed = starter.describe(name)
    assert f"{name}:volumes/raw" in printed
    assert f"{name}:volumes/labels" in printed
    assert yaml.safe_load(starter.describe(f"{name}:volumes/labels").split("\n\n")[1])["labels"]["source"] == {
        "kind": "hdf5", "path": name, "dataset": "volumes/labels",
    }  # fmt: skip
    with pytest.raises(
        FloodlineError, match=r"several volumes: name one, .*two.h5:volumes/labels, .*two.h5:volumes/raw"
    ):
        starter.find_one(name)


def test_of_an_experiment_its_layers_are_said(tmp_path):
    made = published.experiment(tmp_path / "exp")
    published.add(made, "image", IMAGE)
    printed = starter.describe(str(made.folder))
    assert str(made.layer("image")) in printed
    assert "neurons" not in printed


@pytest.mark.parametrize("name", ["nothing", "nothing.tif", "nothing.h5", "nothing.h5:volumes/raw"])
def test_what_is_not_there_is_one_sentence(tmp_path, name):
    with pytest.raises(FloodlineError, match=r"does not exist|holds no"):
        starter.describe(str(tmp_path / name))


# --- floodline new ---------------------------------------------------------------------------------------------------


def begin(tmp_path: Path, **how) -> config.Config:
    how = {"image": imagej(tmp_path / "image.tif"), "labels": None, "weights": None, "voxel_size_nm_xyz": None} | how
    return config.load(starter.new(tmp_path / "mine", **how))


def labelled(tmp_path: Path) -> str:
    path = tmp_path / "labels.h5"
    with h5py.File(path, "w") as file:
        file["main"] = LABELS
    return str(path)


def test_a_new_configuration_ingests_the_volumes(tmp_path):
    begun = begin(tmp_path, labels=labelled(tmp_path))
    assert begun.name == "mine"
    folder = tmp_path / "results" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump(begun))
    experiment = Experiment(folder)
    ingest_image.run(experiment)
    ingest_labels.run(experiment)
    about = read_json(experiment.manifest("labels"))
    assert about["box_xyz"] == [[0, 0, 0], [30, 20, 6]]
    assert about["voxel_size_nm_xyz"] == [6, 4, 40]


def test_what_is_scored_was_not_trained_on(tmp_path):
    begun = begin(tmp_path, labels=labelled(tmp_path))
    trained, held_out = Box.of(begun.sites.box_xyz), Box.of(begun.evaluation.boxes[0].box_xyz)
    assert trained.intersection(held_out).is_empty
    assert trained.voxels + held_out.voxels == LABELS.size
    assert begun.evaluation.boxes[0].name == "held_out"
    # Cut across the longest axis.
    assert (trained.size_xyz, held_out.size_xyz) == ((23, 20, 6), (7, 20, 6))


@pytest.mark.parametrize(
    ("nm", "fov"), [((8, 8, 8), (33, 33, 33)), ((9, 9, 20), (33, 33, 17)), ((4, 4, 40), (33, 33, 9))]
)
def test_the_field_of_view_suits_the_voxels(tmp_path, nm, fov):
    image = pages(tmp_path / "plain.tif")
    assert begin(tmp_path, image=image, labels=labelled(tmp_path), voxel_size_nm_xyz=nm).network.fov_xyz == fov


@given(st.tuples(*[st.floats(1, 100)] * 3))
def test_every_voxel_size_gives_a_network_that_is_allowed(nm):
    (text,) = (line for line in starter._of_network(None, nm) if line.startswith("network"))
    config.Network.model_validate(yaml.safe_load(text)["network"])


def test_weights_bring_their_network_and_need_no_labels(tmp_path):
    network = {
        "depth": 3,
        "features": 4,
        "fov_xyz": [9, 9, 5],
        "deltas_xyz": [2, 2, 1],
        "weights": None,
        "licence": None,
    }
    write_json(tmp_path / "model" / "card.json", {"network": network})
    begun = begin(tmp_path, weights=str(tmp_path / "model"))
    assert begun.network.model_dump(mode="json") == network | {"weights": str(tmp_path / "model")}
    assert begun.training is None
    assert begun.labels is None


def test_labels_of_a_part_lie_where_they_say(tmp_path):
    path = str(tmp_path / "part")
    published.layer(Path(path), LABELS[:, :10, :20], (8.0, 8.0, 8.0), 16)
    whole = str(tmp_path / "whole")
    published.layer(Path(whole), IMAGE, (8.0, 8.0, 8.0), 16)
    begun = begin(tmp_path, image=whole, labels=path)
    assert Box.of(begun.labels.box_xyz) == Box((100, -20, 7), (120, -10, 13))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({}, "without labels no network can be trained"),
        ({"labels": "here", "image": "plain"}, "does not say how large its voxels are: give --voxel-size"),
        ({"labels": "here", "image": "labels"}, "holds uint32: an image is of 8 or 16 bits"),
        ({"labels": "large"}, "the labels fill x 0..30 y 0..20 z 0..12, but the image only"),
    ],
)
def test_what_is_not_known_is_asked_for_and_nothing_is_written(tmp_path, how, sentence):
    large = tmp_path / "large.h5"
    with h5py.File(large, "w") as file:
        file["main"] = np.concatenate([LABELS, LABELS])
    names = {"here": labelled(tmp_path), "large": str(large)}
    images = {"plain": pages(tmp_path / "plain.tif"), "labels": names["here"]}
    given = {key: (names if key == "labels" else images)[value] for key, value in how.items()}
    with pytest.raises(FloodlineError, match=sentence):
        begin(tmp_path, **given)
    assert not (tmp_path / "mine").exists()


def test_a_configuration_that_is_there_is_kept(tmp_path):
    begin(tmp_path, labels=labelled(tmp_path))
    before = (tmp_path / "mine/config.yaml").read_bytes()
    with pytest.raises(FloodlineError, match="is there already"):
        begin(tmp_path, labels=labelled(tmp_path))
    assert (tmp_path / "mine/config.yaml").read_bytes() == before
