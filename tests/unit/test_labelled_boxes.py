"""Labels of several boxes: one volume, ids told apart, and sites only where the network sees nothing but labels."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodline import config as configuration
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.ingest import image, labels
from floodline.labels import partitions
from floodline.manifest import read_json, write_text
from floodline.volumes.arrays import ArrayVolume, Storage
from floodline.volumes.boxes import IDS_OF_A_BOX, BoxesVolume
from floodline.volumes.layer import Layer

SIZE = 40
PLACES = [Box((2, 3, 4), (22, 30, 37)), Box((22, 0, 10), (40, 25, 40))]  # they touch


def labels_of(place: Box, seed: int) -> np.ndarray:
    """Blobs, and places without a label."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 5, [-(-size // 6) for size in place.shape_zyx])
    return np.kron(coarse, np.ones((6, 6, 6), np.int64))[tuple(slice(size) for size in place.shape_zyx)]


def volume(array: np.ndarray) -> ArrayVolume:
    return ArrayVolume(array, "labels", Storage((1, 1, 1), "none"))


@given(st.tuples(*[st.integers(2, 38)] * 3), st.tuples(*[st.integers(1, 30)] * 3), st.booleans())
def test_any_box_is_read_as_if_the_boxes_had_been_painted_into_one_array(start, size, counted_anew):
    whole = np.zeros((SIZE, SIZE, SIZE), np.uint64)
    for number, place in enumerate(PLACES):
        ids = labels_of(place, number)
        whole[place.slices_zyx()] = np.where(ids > 0, ids + number * counted_anew * 10**12, 0)
    joined = BoxesVolume([(volume(labels_of(place, i)), place) for i, place in enumerate(PLACES)], counted_anew)
    assert joined.box == Box((2, 0, 4), (40, 30, 40))
    box = Box.sized(start, size).intersection(joined.box)
    if not box.is_empty:
        np.testing.assert_array_equal(joined.read(box), whole[box.slices_zyx()])


def write_sources(folder: Path, places: list[Box], dtype: str = "int32") -> list[dict]:
    sources = []
    for number, place in enumerate(places):
        path = folder / f"box{number}.h5"
        with h5py.File(path, "w") as file:
            file["v"] = labels_of(place, number).astype(dtype)
        sources.append({"source": {"kind": "hdf5", "path": str(path), "dataset": "v"}, "box_xyz": place.corners})
    return sources


def experiment(folder: Path, name: str, wanted: dict) -> Experiment:
    if not (folder / "image.h5").exists():
        with h5py.File(folder / "image.h5", "w") as file:
            file["v"] = np.random.default_rng(0).integers(0, 255, (SIZE,) * 3, np.uint8)
    values = {
        "name": name,
        "image": {
            "source": {"kind": "hdf5", "path": str(folder / "image.h5"), "dataset": "v"},
            "voxel_size_nm_xyz": [8, 8, 8],
        },
        "labels": wanted,
        "network": {"depth": 2, "features": 4, "fov_xyz": [9, 9, 9], "deltas_xyz": [2, 2, 2], "weights": "none"},
        "sites": {"min_size": 1, "lom_radius_xyz": [4, 4, 4]},
        "storage": {"chunk_size_xyz": [16, 16, 16], "mips": 0},
    }
    write_text(folder / name / "config.yaml", configuration.dump(configuration.parse(values)))
    made = Experiment(folder / name)
    image.run(made)
    labels.run(made)
    partitions.run(made)
    return made


def partitions_of(made: Experiment) -> tuple[Box, np.ndarray, np.ndarray]:
    """The box that the partitions cover, the partitions, and the boxes in which sites can lie."""
    with h5py.File(made.partitions) as file:
        dataset = file["partitions"]
        return Box.of_array(dataset.shape, dataset.attrs["start_xyz"]), dataset[:], dataset.attrs["bounding_boxes"]


def test_partitions_are_those_of_each_box_taken_alone(tmp_path):
    sources = write_sources(tmp_path, PLACES)
    both = experiment(tmp_path, "both", {"source": {"kind": "boxes", "boxes": sources}})
    box, found, bounds = partitions_of(both)
    expected = np.full(found.shape, partitions.EXCLUDED, np.uint8)
    for number, one in enumerate(sources):
        alone = experiment(tmp_path, f"alone{number}", one)
        place, values, bound = partitions_of(alone)
        expected[place.slices_zyx(box.start_xyz)] = values
        np.testing.assert_array_equal(bounds[number : number + 1], bound)
    np.testing.assert_array_equal(found, expected)
    assert (found != partitions.EXCLUDED).any()
    assert read_json(both.manifest("labels"))["boxes_xyz"] == [place.corners for place in PLACES]


@pytest.mark.parametrize("ids", ["of_each_box", "shared"])
def test_ids_of_different_boxes_are_told_apart_unless_they_are_shared(tmp_path, ids):
    sources = write_sources(tmp_path, PLACES)
    made = experiment(tmp_path, "both", {"source": {"kind": "boxes", "boxes": sources, "ids": ids}})
    layer = Layer.open(made.layer("labels"))
    found = set(np.unique(layer.read(layer.box)).tolist())
    assert found == {0, 1, 2, 3, 4} | ({10**12 + i for i in range(1, 5)} if ids == "of_each_box" else set())
    assert read_json(made.manifest("labels"))["objects"] == len(found) - 1


def test_each_box_is_cleaned_as_if_it_were_alone(tmp_path):
    sources = write_sources(tmp_path, PLACES)
    clean = {"disconnected": "split", "min_voxels": 300, "fill_holes": True, "erode_xyz": [1, 1, 1]}
    both = experiment(tmp_path, "both", {"source": {"kind": "boxes", "boxes": sources[:1]}, "clean": clean})
    alone = experiment(tmp_path, "alone", {**sources[0], "clean": clean})
    one, other = (Layer.open(made.layer("labels")) for made in (both, alone))
    np.testing.assert_array_equal(one.read(PLACES[0]), other.read(PLACES[0]))
    assert read_json(both.manifest("labels"))["cleaning"] == read_json(alone.manifest("labels"))["cleaning"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ids": "shared", "clean": {"disconnected": "largest"}}, "objects that boxes share are in pieces"),
        ({"body_table": {"path": "t.csv"}}, "needs source.ids: shared"),
        ({"box_xyz": [[0, 0, 0], [1, 1, 1]]}, "box_xyz belongs to labels in one box"),
        ({"phantom": True}, "boxes.0.source: a phantom brings the labels of all of its volume"),
        ({"places": [PLACES[0], PLACES[0]]}, "boxes.0 and boxes.1 overlap"),
        ({"places": [Box((0, 0, 0), (0, 4, 4))]}, "boxes.0.box_xyz [[0, 0, 0], [0, 4, 4]] is empty"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(change, sentence):
    boxes = [
        {"source": {"kind": "hdf5", "path": "v.h5", "dataset": "v"}, "box_xyz": place.corners}
        for place in change.pop("places", PLACES)
    ]
    if change.pop("phantom", False):
        boxes[0]["source"] = {"kind": "phantom"}
    source = {"kind": "boxes", "boxes": boxes, "ids": change.pop("ids", "of_each_box")}
    values = {"name": "t", "image": {"source": {"kind": "phantom"}}, "labels": {"source": source, **change}}
    with pytest.raises(FloodlineError) as error:
        configuration.parse(values)
    assert sentence in str(error.value)


def test_a_source_that_does_not_fill_its_box_is_named(tmp_path):
    sources = write_sources(tmp_path, PLACES)
    sources[1]["box_xyz"] = [[22, 0, 10], [40, 25, 39]]
    sizes = r"labels\.source\.boxes\.1 has size \[18, 25, 30\] .* its box_xyz \[18, 25, 29\]"
    with pytest.raises(FloodlineError, match=sizes):
        experiment(tmp_path, "wrong", {"source": {"kind": "boxes", "boxes": sources}})


def test_ids_that_cannot_be_told_apart_are_named():
    large = np.full((4, 4, 4), IDS_OF_A_BOX)
    with pytest.raises(FloodlineError, match=r"labels\.source\.boxes\.0 holds the id 1000000000000"):
        BoxesVolume([(volume(large), Box((0, 0, 0), (4, 4, 4)))], True).read(Box((0, 0, 0), (4, 4, 4)))
