"""Ingest: layers keep the source's voxels and coordinates; bad input leaves nothing that passes for whole."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.ingest import image as ingest_image
from floodline.ingest import labels as ingest_labels
from floodline.manifest import read_json
from floodline.volumes.histograms import mean_and_stddev
from floodline.volumes.layer import Layer

SHAPE_ZYX = (13, 17, 21)
BOX = Box((0, 0, 0), (21, 17, 13))


def voxels(dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, SHAPE_ZYX, dtype=dtype, endpoint=True)


def hdf5_source(folder: Path, array: np.ndarray, name: str = "volume") -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["stack"] = array
    return {"kind": "hdf5", "path": str(folder / f"{name}.h5"), "dataset": "stack"}


def experiment(folder: Path, image: dict[str, Any], labels: dict[str, Any] | None = None) -> Experiment:
    # Most formats do not say it.
    says = image["source"]["kind"] in ("precomputed", "phantom")
    values = {
        "name": "test",
        "image": image if says else {"voxel_size_nm_xyz": [8, 8, 8]} | image,
        "labels": labels,
        "storage": {"chunk_size_xyz": [8, 8, 4]},
        "network": {"weights": "unused"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config.dump(config.parse(values)))
    return Experiment(folder)


def layer(exp: Experiment, name: str) -> np.ndarray:
    opened = Layer.open(exp.layer(name))
    return opened.read(opened.box)


@st.composite
def overlapping_boxes(draw: st.DrawFn) -> tuple[Box, Box]:
    """Two boxes inside the volume that share a voxel."""
    shared = [draw(st.integers(0, size - 1)) for size in BOX.size_xyz]
    corners = [
        [
            [draw(st.integers(0, p)) for p in shared],
            [draw(st.integers(p + 1, size)) for p, size in zip(shared, BOX.size_xyz, strict=True)],
        ]
        for _ in range(2)
    ]
    return Box.of(corners[0]), Box.of(corners[1])


# --- the image -------------------------------------------------------------------------------------------------------


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=overlapping_boxes(), dtype=st.sampled_from(["uint8", "uint16"]), seed=st.integers(0, 100))
def test_a_crop_keeps_voxels_coordinates_and_statistics(tmp_path, boxes, dtype, seed):
    crop = boxes[0]
    assume(crop.voxels > 1)
    array = voxels(dtype, seed)
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, array), "crop_xyz": crop.corners})
    ingest_image.run(exp)

    cropped = array[crop.slices_zyx()]
    manifest = read_json(exp.manifest("image"))
    assert Layer.open(exp.layer("image")).box == exp.image_box == crop
    assert np.array_equal(layer(exp, "image"), cropped)
    assert manifest["dtype"] == dtype
    assert manifest["mean"] == pytest.approx(cropped.mean(), rel=1e-12)
    assert manifest["stddev"] == pytest.approx(cropped.std(), rel=1e-9)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_mean_and_stddev_are_those_of_the_values(values):
    mean, stddev = mean_and_stddev(np.bincount(values, minlength=65536))
    assert mean == pytest.approx(np.mean(values))
    assert stddev == pytest.approx(np.std(values), abs=1e-9)


def test_a_precomputed_source_keeps_its_offset_and_voxel_size(tmp_path):
    box = BOX.shifted((100, -20, 7))
    source = Layer.create(
        tmp_path / "source",
        box=box,
        dtype="uint8",
        voxel_size_nm_xyz=(4, 4, 40),
        chunk_size_xyz=BOX.size_xyz,
        kind="image",
    )
    source.write(box, voxels())
    crop = Box((105, -20, 9), (115, -10, 15))
    image = {"source": {"kind": "precomputed", "path": str(source.path)}, "crop_xyz": crop.corners}
    exp = experiment(tmp_path / "exp", image)
    ingest_image.run(exp)
    assert exp.image_box == crop
    assert read_json(exp.manifest("image"))["voxel_size_nm_xyz"] == [4.0, 4.0, 40.0]
    assert np.array_equal(layer(exp, "image"), voxels()[crop.slices_zyx(box.start_xyz)])

    wrong = experiment(tmp_path / "wrong", image | {"voxel_size_nm_xyz": [4, 4, 41]})
    with pytest.raises(
        FloodlineError, match=r"says that its voxels are \[4\.0, 4\.0, 40\.0\] nm, but .* \[4\.0, 4\.0, 41"
    ):
        ingest_image.run(wrong)
    assert not wrong.manifest("image").exists()


def test_a_voxel_size_that_nobody_says_is_asked_for(tmp_path):
    exp = experiment(tmp_path / "exp", {"source": hdf5_source(tmp_path, voxels()), "voxel_size_nm_xyz": None})
    with pytest.raises(FloodlineError, match=r"does not say how large its voxels are: give image\.voxel_size_nm_xyz"):
        ingest_image.run(exp)


def test_signed_voxels_of_an_image_are_raised_to_unsigned_ones(tmp_path):
    array = voxels("uint16").astype(np.int32) - 32768
    exp = experiment(tmp_path / "exp", {"source": hdf5_source(tmp_path, array.astype(np.int16))})
    ingest_image.run(exp)
    assert np.array_equal(layer(exp, "image"), voxels("uint16"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_clahe_evens_out_the_contrast_of_each_slice(tmp_path, dtype):
    """Bands along x of different brightness and contrast; the region is as wide as the slice and as high as a band."""
    rng = np.random.default_rng(0)
    bands = [rng.normal(mean, sd, (16, 64)) for mean, sd in ((0.3, 0.02), (0.7, 0.1), (0.4, 0.05), (0.6, 0.01))]
    slice_ = np.vstack(bands).clip(0, 1) * np.iinfo(dtype).max
    array = np.stack([slice_, slice_ // 2, slice_]).astype(dtype)
    clahe = {"kernel_size_xy": [64, 16], "clip_limit": 1.0}
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, array), "normalise": {"clahe": clahe}})
    ingest_image.run(exp)
    result = layer(exp, "image")
    assert result.dtype == dtype
    middles = [result[0, row : row + 4] / np.iinfo(dtype).max for row in (6, 22, 38, 54)]
    assert np.ptp([band.mean() for band in middles]) < 0.15
    assert min(band.std() for band in middles) > 0.2
    assert np.array_equal(result[0], result[2])
    assert abs(result[0].mean() / result[1].mean() - 1) < 0.05


def test_clahe_of_a_black_slice_leaves_it_flat(tmp_path):
    array = voxels()
    array[4] = 0
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, array), "normalise": {"clahe": {}}})
    ingest_image.run(exp)
    assert np.ptp(layer(exp, "image")[4]) == 0


def test_a_crop_outside_says_what_the_volume_is(tmp_path):
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, voxels()), "crop_xyz": [[0, 0, 0], [21, 18, 13]]})
    with pytest.raises(FloodlineError, match=r"crop_xyz x 0\.\.21 y 0\.\.18 .* outside .* y 0\.\.17 z 0\.\.13"):
        ingest_image.run(exp)


def test_an_empty_crop_is_refused(tmp_path):
    with pytest.raises(FloodlineError, match=r"crop_xyz .* is empty"):
        experiment(tmp_path, {"source": hdf5_source(tmp_path, voxels()), "crop_xyz": [[0, 0, 5], [21, 17, 5]]})


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_an_image_of_another_type_is_refused(tmp_path, dtype):
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, voxels().astype(dtype))})
    with pytest.raises(FloodlineError, match=f"image source holds {dtype}: convert it to uint8 or uint16"):
        ingest_image.run(exp)


def test_a_constant_image_is_refused(tmp_path):
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, np.full(SHAPE_ZYX, 7, np.uint8))})
    with pytest.raises(FloodlineError, match=r"every voxel of the image .* is 7"):
        ingest_image.run(exp)
    assert not exp.manifest("image").exists()


def test_damaged_input_leaves_no_manifest_of_an_earlier_run(tmp_path):
    slices = tmp_path / "slices"
    slices.mkdir()
    big = np.random.default_rng(0).integers(0, 255, (9, 80, 80), dtype=np.uint8)
    for z, slice_ in enumerate(big):
        Image.fromarray(slice_).save(slices / f"{z}.png")
    exp = experiment(tmp_path / "exp", {"source": {"kind": "stack", "path": str(slices)}})
    ingest_image.run(exp)
    assert exp.manifest("image").exists()

    damaged = slices / "7.png"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises(FloodlineError, match=r"7\.png cannot be read"):
        ingest_image.run(exp)
    assert not exp.manifest("image").exists()

    damaged.unlink()
    (slices / "8.png").unlink()
    ingest_image.run(exp)
    assert np.array_equal(layer(exp, "image"), big[:7])


def test_a_missing_source_leaves_no_manifest_of_an_earlier_run(tmp_path):
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, voxels())})
    ingest_image.run(exp)
    (tmp_path / "volume.h5").unlink()
    with pytest.raises(FloodlineError, match=r"volume\.h5 does not exist"):
        ingest_image.run(exp)
    assert not exp.manifest("image").exists()


# --- the labels ------------------------------------------------------------------------------------------------------


def with_labels(folder: Path, array: np.ndarray, image: dict[str, Any] | None = None, **labels: Any) -> Experiment:
    """An experiment whose image is the usual one and whose labels come from `array`."""
    source = {"source": hdf5_source(folder, voxels(), "image")} | (image or {})
    return experiment(folder, source, {"source": hdf5_source(folder, array, "labels")} | labels)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=overlapping_boxes(), dtype=st.sampled_from(["uint8", "int32", "uint64"]))
def test_labels_lie_where_the_configuration_puts_them(tmp_path, boxes, dtype):
    place, crop = boxes
    box = place.intersection(crop)
    array = np.random.default_rng(0).integers(0, 120, place.shape_zyx).astype(dtype)
    exp = with_labels(tmp_path, array, image={"crop_xyz": crop.corners}, box_xyz=place.corners)
    ingest_labels.run(exp)

    expected = array[box.slices_zyx(place.start_xyz)]
    manifest = read_json(exp.manifest("labels"))
    opened = Layer.open(exp.layer("labels"))
    assert (opened.box, opened.dtype) == (box, np.uint64)
    assert np.array_equal(layer(exp, "labels"), expected)
    assert Box.of(manifest["box_xyz"]) == box
    assert manifest["objects"] == len(set(expected.ravel()) - {0})
    assert manifest["labelled_voxels"] == np.sum(expected > 0)


def test_large_labels_survive(tmp_path):
    array = voxels("uint64")
    exp = with_labels(tmp_path, array)
    ingest_labels.run(exp)
    assert array.max() > 2**63
    assert np.array_equal(layer(exp, "labels"), array)


def test_supervoxels_become_bodies(tmp_path):
    supervoxels = np.random.default_rng(0).integers(0, 9, SHAPE_ZYX)
    rows = [(1, 10), (2, 10), (3, 2**60), (4, 0), (5, 5), (6, 1), (7, 1), (8, 8)]
    table = hdf5_source(tmp_path, np.array(rows), "table")
    exp = with_labels(tmp_path, supervoxels, body_table={"path": table["path"], "dataset": "stack"})
    ingest_labels.run(exp)
    bodies = np.array([0, 10, 10, 2**60, 0, 5, 1, 1, 8], np.uint64)
    assert np.array_equal(layer(exp, "labels"), bodies[supervoxels])
    assert read_json(exp.manifest("labels"))["objects"] == 5


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_supervoxels_may_be_of_other_programs(tmp_path, kind):
    """... with more columns than are needed, and ids beyond what floating point holds."""
    table = pd.DataFrame({"supervoxel": [1, 2**60 + 1, 3], "neuron": [10, 2**60 + 3, 10], "score": [0.5, 0.1, 0.2]})
    path = tmp_path / f"mapping.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    supervoxels = np.random.default_rng(0).choice([0, 1, 2**60 + 1, 3], SHAPE_ZYX)
    exp = with_labels(tmp_path, supervoxels, body_table={"path": str(path)})
    ingest_labels.run(exp)
    expected = np.select([supervoxels == 0, supervoxels == 2**60 + 1], [0, 2**60 + 3], 10)
    assert np.array_equal(layer(exp, "labels"), expected.astype(np.uint64))
    path.write_bytes(b"\x00\x01")
    with pytest.raises(FloodlineError, match=rf"mapping\.{kind} (cannot be read|is no body table)"):
        ingest_labels.run(exp)


def test_a_supervoxel_without_a_body_is_named(tmp_path):
    supervoxels = np.ones(SHAPE_ZYX, int)
    supervoxels[9, 3, 3] = 77
    supervoxels[9, 3, 4] = 78
    table = hdf5_source(tmp_path, np.array([(1, 10)]), "table")
    exp = with_labels(tmp_path, supervoxels, body_table={"path": table["path"], "dataset": "stack"})
    with pytest.raises(FloodlineError, match=r"supervoxel 77 \(2 in all\) has no row"):
        ingest_labels.run(exp)
    assert not exp.manifest("labels").exists()


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (np.array([(1, 10), (2, 10), (1, 11)]), "gives the supervoxel 1 more than one body"),
        (np.array([1, 2, 3]), "is no body table"),
        (np.array([(1.5, 2.0)]), "is no body table"),
        (np.array([(1, -1)]), "negative number -1"),
    ],
)
def test_an_impossible_body_table_is_refused(tmp_path, rows, sentence):
    table = hdf5_source(tmp_path, rows, "table")
    exp = with_labels(
        tmp_path, np.ones(SHAPE_ZYX, int), body_table={"path": table["path"], "dataset": table["dataset"]}
    )
    with pytest.raises(FloodlineError, match=sentence):
        ingest_labels.run(exp)


def test_labels_of_another_shape_than_the_image_are_refused(tmp_path):
    exp = with_labels(tmp_path, np.ones((13, 17, 20), int))
    with pytest.raises(FloodlineError, match=r"labels have size \[20, 17, 13\] .* the image has \[21, 17, 13\]"):
        ingest_labels.run(exp)
    assert not exp.manifest("labels").exists()


def test_labels_of_another_shape_than_their_box_are_refused(tmp_path):
    exp = with_labels(tmp_path, np.ones(SHAPE_ZYX, int), box_xyz=[[0, 0, 0], [21, 17, 12]])
    with pytest.raises(FloodlineError, match=r"labels have size \[21, 17, 13\] .* labels\.box_xyz has \[21, 17, 12\]"):
        ingest_labels.run(exp)


def test_labels_outside_the_image_are_refused(tmp_path):
    exp = with_labels(tmp_path, np.ones(SHAPE_ZYX, int), box_xyz=[[1, 0, 0], [22, 17, 13]])
    with pytest.raises(FloodlineError, match=r"labels\.box_xyz x 1\.\.22 .* outside the image source"):
        ingest_labels.run(exp)


def test_labels_outside_the_crop_are_refused(tmp_path):
    exp = with_labels(
        tmp_path,
        np.ones((3, 17, 21), int),
        image={"crop_xyz": [[0, 0, 5], [21, 17, 13]]},
        box_xyz=[[0, 0, 0], [21, 17, 3]],
    )
    with pytest.raises(FloodlineError, match=r"cover x 0\.\.21 y 0\.\.17 z 0\.\.3, and nothing of image\.crop_xyz"):
        ingest_labels.run(exp)


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path):
    with pytest.raises(FloodlineError, match="labels source holds float64"):
        ingest_labels.run(with_labels(tmp_path, np.ones(SHAPE_ZYX)))
    with pytest.raises(FloodlineError, match="negative number -3"):
        ingest_labels.run(with_labels(tmp_path, np.full(SHAPE_ZYX, -3)))


def test_no_labels_is_said(tmp_path):
    exp = experiment(tmp_path, {"source": hdf5_source(tmp_path, voxels())})
    with pytest.raises(FloodlineError, match="no labels"):
        ingest_labels.run(exp)


def test_precomputed_labels_lie_where_their_layer_says(tmp_path):
    box = Box((3, 4, 5), (13, 9, 12))
    source = Layer.create(
        tmp_path / "source",
        box=box,
        dtype="uint64",
        voxel_size_nm_xyz=(8, 8, 8),
        chunk_size_xyz=box.size_xyz,
        kind="segmentation",
    )
    array = np.random.default_rng(0).integers(0, 9, box.shape_zyx).astype(np.uint64)
    source.write(box, array)
    image = {"source": hdf5_source(tmp_path, voxels())}
    labels = {"source": {"kind": "precomputed", "path": str(source.path)}}
    exp = experiment(tmp_path / "exp", image, labels)
    ingest_labels.run(exp)
    assert Layer.open(exp.layer("labels")).box == box
    assert np.array_equal(layer(exp, "labels"), array)

    wrong = labels | {"box_xyz": [[3, 4, 6], [13, 9, 13]]}
    with pytest.raises(
        FloodlineError, match=r"says that it begins at \[3, 4, 5\] .* but labels.box_xyz at \[3, 4, 6\]"
    ):
        ingest_labels.run(experiment(tmp_path / "exp", image, wrong))

    exp = experiment(tmp_path / "exp", image | {"voxel_size_nm_xyz": [8, 8, 40]}, labels)
    with pytest.raises(FloodlineError, match=r"labels are \[8\.0, 8\.0, 8\.0\] nm, those of the image \[8\.0, 8"):
        ingest_labels.run(exp)


def test_a_phantom_is_one_volume_with_its_labels(tmp_path):
    source = {"kind": "phantom", "size_xyz": [24, 20, 16]}
    exp = experiment(tmp_path, {"source": source}, {"source": source})
    ingest_image.run(exp)
    ingest_labels.run(exp)
    assert layer(exp, "image").shape == layer(exp, "labels").shape == (16, 20, 24)
    assert read_json(exp.manifest("labels"))["objects"] > 0

    exp = experiment(tmp_path, {"source": source}, {"source": source | {"size_xyz": [24, 20, 17]}})
    with pytest.raises(FloodlineError, match=r"labels\.source and image\.source must be equal"):
        ingest_labels.run(exp)


def test_tiff_stack_and_its_labels(tmp_path):
    """A laboratory's usual pair: TIFF slices, and labels as pages of one TIFF."""
    (tmp_path / "slices").mkdir()
    for z, slice_ in enumerate(voxels("uint16")):
        tifffile.imwrite(tmp_path / "slices" / f"z{z}.tif", slice_)
    labels = voxels("uint16", 1)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    exp = experiment(
        tmp_path / "exp",
        {"source": {"kind": "stack", "path": str(tmp_path / "slices")}},
        {"source": {"kind": "stack", "path": str(tmp_path / "labels.tif")}},
    )
    ingest_image.run(exp)
    ingest_labels.run(exp)
    assert np.array_equal(layer(exp, "image"), voxels("uint16"))
    assert np.array_equal(layer(exp, "labels"), labels)


def test_fib25_with_its_bodies(fib25, fib25_image, tmp_path):
    crop = Box((100, 90, 80), (164, 154, 170))
    truth = str(fib25 / "groundtruth.h5")
    exp = experiment(
        tmp_path,
        {
            "source": {"kind": "stack", "path": str(fib25 / "grayscale_maps")},
            "voxel_size_nm_xyz": [10, 10, 10],
            "crop_xyz": crop.corners,
        },
        {
            "source": {"kind": "hdf5", "path": truth, "dataset": "stack"},
            "box_xyz": [[0, 0, 0], [250, 250, 150]],
            "body_table": {"path": truth},
        },
    )
    ingest_image.run(exp)
    ingest_labels.run(exp)
    assert np.array_equal(layer(exp, "image"), fib25_image[crop.slices_zyx()])
    with h5py.File(truth) as file:
        supervoxels = file["stack"][80:150, 90:154, 100:164]
        body_of = dict(file["transforms"][:].tolist())
    assert np.array_equal(layer(exp, "labels"), np.vectorize(body_of.get)(supervoxels))
    assert read_json(exp.manifest("labels"))["box_xyz"] == [[100, 90, 80], [164, 154, 150]]
