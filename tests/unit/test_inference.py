"""Inference of sub-volumes: what decides a block, what it keeps, and when it is made again."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import small_floods
import yaml
from floods import flood_with, make_experiment
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from floodline import allocation
from floodline import config as configuration
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn import precision, runtimes
from floodline.ffn.contrast import matched, normalisation_of, reference_of
from floodline.ffn.flood import Predict
from floodline.ffn.runtimes import arithmetic_of, inference_network
from floodline.geometry import Box
from floodline.inference import run, under_way
from floodline.inference.parameters import parameters_of
from floodline.manifest import read_block, read_json, write_json
from floodline.parallel import LAUNCHER_ENVIRONMENT
from floodline.progress import Meter
from floodline.volumes.layer import Layer


def blocks_of(experiment: Experiment) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(experiment.block(experiment.subvolumes[0]).parent.glob("*.block"))
    }


def change(experiment: Experiment, **inference: object) -> Experiment:
    """The same folder with other keys of `inference`, or other `masks`."""
    path = experiment.folder / "config.yaml"
    values = yaml.safe_load(path.read_text())
    if "masks" in inference:
        values["masks"] = inference.pop("masks")
    values["inference"].update(inference)
    path.write_text(configuration.dump(configuration.parse(values)))
    return Experiment(experiment.folder)


@pytest.fixture(scope="module")
def flooded(tmp_path_factory) -> tuple[Experiment, dict[str, bytes]]:
    """Two sub-volumes, flooded."""
    experiment = small_floods.make(tmp_path_factory.mktemp("flooded"), 2)
    run.run(experiment, 0, 1)
    run.finish(experiment)
    return experiment, blocks_of(experiment)


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_a_block_is_consistent(flooded):
    experiment, _ = flooded
    for entry in read_json(experiment.manifest("inference"))["blocks"]:
        block = read_block(experiment.inference / entry["file"])
        segmentation = block["segmentation"]
        ids, sizes = np.unique(segmentation[segmentation > 0], return_counts=True)
        assert len(ids) >= 2, "nothing is tested on one object"
        assert block["ids"].tolist() == block["origins"][:, 0].tolist() == ids.tolist()
        assert block["sizes"].tolist() == sizes.tolist()
        assert ((block["qprob"] > 0) == (segmentation > 0)).all()
        assert [segmentation[tuple(origin[1:])] for origin in block["origins"]] == ids.tolist()
        assert (block["overlaps"][:, 1] < block["overlaps"][:, 0]).all()
        counts = dict(zip(block["count_names"].tolist(), block["counts"].tolist(), strict=True))
        assert counts["network_calls"] >= block["calls"].sum() > 0
        assert (entry["segments"], entry["voxels_segmented"]) == (len(ids), (segmentation > 0).sum())
        assert entry["network_calls"] == counts["network_calls"]
        times = read_json((experiment.inference / entry["file"]).with_suffix(".times.json"))
        assert len(times["object_seconds"]) == len(ids)


def test_the_same_configuration_gives_the_same_bytes_with_any_number_of_shards(flooded, tmp_path):
    again = small_floods.make(tmp_path, 2, shards=2)
    run.run(again, 1, 1)
    with pytest.raises(FloodlineError, match="of 2 blocks 1 are missing, damaged or"):
        run.finish(again)
    run.run(again, 0, 1)
    run.finish(again)
    assert blocks_of(again) == flooded[1]


def test_the_shard_of_a_damaged_block_is_to_be_done_again(tmp_path):
    """Snakemake goes by the shards' markers."""
    experiment = small_floods.make(tmp_path, 3, shards=2)
    for shard in (0, 1):
        run.run(experiment, shard, 1)
    whole = blocks_of(experiment)
    path = experiment.block(experiment.subvolumes[1])
    path.write_bytes(path.read_bytes()[:-1])
    sentence = rf"of 3 blocks 1 are missing, damaged .* first of them is {path}: the same snakemake command, or"
    with pytest.raises(FloodlineError, match=sentence):
        run.finish(experiment)
    assert [experiment.shard(shard).exists() for shard in (0, 1)] == [True, False]
    run.run(experiment, 1, 1)
    run.finish(experiment)
    assert blocks_of(experiment) == whole


@pytest.mark.parametrize("batch", [2, 5])
def test_sub_volumes_that_share_calls_of_the_network_give_the_same_bytes(tmp_path, batch, monkeypatch):
    experiment = small_floods.make(tmp_path, 5)
    run.run(experiment, 0, 1)
    alone = blocks_of(experiment)
    for path in experiment.block(experiment.subvolumes[0]).parent.glob("*.block"):
        path.unlink()
    sizes = []

    def noting_sizes(*arguments: Any) -> Predict:
        plain = inference_network(*arguments)

        def predict(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
            sizes.append(len(image))
            return plain(image, seed)

        return predict

    monkeypatch.setattr(runtimes, "inference_network", noting_sizes)
    run.run(experiment, 0, 1, batch)
    assert max(sizes) == batch
    assert blocks_of(experiment) == alone


def test_every_worker_gets_a_task_however_many_sub_volumes_share_a_call(tmp_path):
    experiment = small_floods.make(tmp_path, 6)
    boxes, tasks = experiment.subvolumes, []

    def hand_out(given: list[run.Task], hear: Any) -> list[run.Done]:
        tasks.extend(part for part, _ in given)
        return [dict.fromkeys(part, 0) for part, _ in given]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.pool, "run", lambda crew, lead, workers: lead(hand_out))
        run.run(experiment, 0, workers=3, batch=2)
    assert [len(part) for part in tasks] == [2, 2, 2]
    assert sorted((box for part in tasks for box in part), key=str) == sorted(boxes, key=str)


@pytest.mark.parametrize(
    ("shard", "fov", "sentence"),
    [
        (2, 9, r"there is no shard 2: inference.shards is 2, and the first one is 0"),
        (0, 25, r"the image x 0\.\.24 .* is smaller than the field of view, network.fov_xyz \[25, 25, 25\]"),
    ],
)
def test_what_cannot_be_flooded_is_said(tmp_path, shard, fov, sentence):
    experiment = small_floods.make(tmp_path, 1, shards=2)
    path = experiment.folder / "config.yaml"
    values = yaml.safe_load(path.read_text())
    values["network"]["fov_xyz"] = [fov] * 3
    values["inference"]["subvolume_size_xyz"] = [30] * 3
    path.write_text(configuration.dump(configuration.parse(values)))
    with pytest.raises(FloodlineError, match=sentence):
        run.run(Experiment(experiment.folder), shard, 1)


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ({"policy": "points", "path": "none.csv"}, r"none\.csv does not exist: inference.seeds takes points from it"),
        ({"policy": "invert_origins", "experiment": "none"}, r"none/inference/manifest\.json is missing"),
        ({"policy": "invert_origins", "experiment": "other"}, "is not there: invert_origins needs an experiment with"),
    ],
)
def test_what_a_later_seed_policy_lacks_is_said_before_any_flood(tmp_path, monkeypatch, second, sentence):
    other = small_floods.make(tmp_path / "other")
    write_json(other.manifest("inference"), {"parameters": "p"})
    experiment = small_floods.make(tmp_path / "one", seeds=[{"policy": "peaks"}, second])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FloodlineError, match=sentence):
        run.run(experiment, 0, 1)
    assert not list(experiment.inference.glob("blocks/*"))


def test_ranks_flood_all_shards_and_one_of_them_writes_the_manifest(tmp_path):
    experiment = small_floods.make(tmp_path / "one", 4, shards=3)
    run.run(experiment, None, 1)
    run.finish(experiment)
    several = small_floods.make(tmp_path / "two", 4, shards=3)
    programs = Path(sys.executable).parent
    command = [programs / "mpirun", "-n", "2", programs / "floodline", "infer", several.folder]
    environment = {**os.environ, **LAUNCHER_ENVIRONMENT, "TF_NUM_INTRAOP_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.read_bytes() for path in map(several.block, several.subvolumes)] == [
        path.read_bytes() for path in map(experiment.block, experiment.subvolumes)
    ]
    assert len(read_json(several.manifest("inference"))["blocks"]) == 4


def test_when_the_job_s_time_is_over_every_sub_volume_under_way_is_kept(tmp_path, monkeypatch):
    experiment = small_floods.make(tmp_path, 3)
    run.run(experiment, 0, 1)
    whole = blocks_of(experiment)
    paths = [experiment.block(box) for box in experiment.subvolumes]
    for path in paths:
        path.unlink()
    calls_left = iter(range(20))
    monkeypatch.setattr(allocation, "is_ending", lambda: next(calls_left, None) is None)
    with pytest.raises(allocation.OutOfTime):
        run.run(experiment, 0, 1, 3)
    assert [path.with_suffix(".checkpoint").is_file() for path in paths] == [True] * 3
    monkeypatch.undo()
    run.run(experiment, 0, 1)
    assert blocks_of(experiment) == whole


def test_what_a_shard_needs_is_said_before_and_how_far_it_is_after(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    experiment = small_floods.make(tmp_path, 2)
    run.run(experiment, 0, 1, 2)
    said = [record.message for record in caplog.records]
    assert "shard 0: 2 sub-volumes of up to 1.38e+04 voxels; each worker needs 0.000415 GB for them" in said[0]
    masks = [{"kind": "border", "closed_to": ["seeds"]}, {"kind": "border", "closed_to": ["floods"]}]
    assert run.bytes_a_voxel(change(experiment, masks=masks)) == 12
    about = read_json(experiment.manifest("image"))
    write_json(experiment.manifest("image"), {**about, "dtype": "uint16"})
    assert run.bytes_a_voxel(experiment) == 11
    segmented = sum(block["sizes"].sum() for block in map(read_block, map(experiment.block, experiment.subvolumes)))
    assert re.fullmatch(
        rf"infer: 2 of 2 sub-volumes, .* left, {re.escape(f'{segmented:.3g}')} voxels covered, .* FOV/s", said[-1]
    )


def test_a_long_sub_volume_says_how_far_it_is_also_when_it_was_interrupted(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(run, "Meter", partial(Meter, seconds_between_lines=0))
    monkeypatch.setattr(under_way, "SECONDS", 0)
    experiment = small_floods.make(tmp_path)
    calls_left = iter(range(20))
    with monkeypatch.context() as little_time:
        little_time.setattr(allocation, "is_ending", lambda: next(calls_left, None) is None)
        with pytest.raises(allocation.OutOfTime):
            run.run(experiment, 0, 1)
    interrupted = [record.message for record in caplog.records if record.message.startswith("infer: ")]
    caplog.clear()
    run.run(experiment, 0, 1)
    resumed = [record.message for record in caplog.records if record.message.startswith("infer: ")]
    assert all(line.startswith("infer: 0 of 1 sub-volumes, ") for line in interrupted + resumed[:-2])
    covered = [float(re.search(r"([\d.e+]+) voxels covered", line)[1]) for line in interrupted + resumed]
    assert covered == sorted(covered) and covered[-1] > 0
    assert resumed[-1].startswith("infer: 1 of 1 sub-volumes, ") and ", 0 s left" in resumed[-1]


@pytest.mark.parametrize("key", ["fov_xyz", "deltas_xyz", "depth", "features"])
def test_the_network_decides_a_block(tmp_path, key):
    experiment = small_floods.make(tmp_path)
    before = parameters_of(experiment)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    values["network"][key] = {"fov_xyz": [11, 9, 9], "deltas_xyz": [1, 2, 2]}.get(key, 3)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    assert parameters_of(Experiment(tmp_path)) != before


@pytest.mark.parametrize("left", [None, b"{", b"[]", b"{}"])
def test_lost_times_cost_nothing_but_themselves(tmp_path, left):
    experiment = small_floods.make(tmp_path, 2)
    run.run(experiment, 0, 1)
    before, first = blocks_of(experiment), experiment.block(experiment.subvolumes[0])
    times = first.with_suffix(".times.json")
    times.unlink()
    if left is not None:
        times.write_bytes(left)
    run.run(experiment, 0, 1)
    run.finish(experiment)
    seconds = [block["seconds"] for block in read_json(experiment.manifest("inference"))["blocks"]]
    assert seconds[0] is None and seconds[1] > 0
    assert blocks_of(experiment) == before


def test_floods_before_there_is_a_network_are_one_sentence(tmp_path):
    experiment = small_floods.make(tmp_path)
    (experiment.model / "weights.npz").unlink()
    with pytest.raises(FloodlineError, match=r"holds no model: run `floodline train .*` first"):
        run.run(experiment, 0, 1)


def test_weights_of_another_network_are_said_before_anything_is_read(tmp_path):
    experiment = small_floods.make(tmp_path)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    values["network"]["depth"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    (Path(experiment.layer("image")) / "info").unlink()
    with pytest.raises(FloodlineError, match="depth"):
        run.run(Experiment(tmp_path), 0, 1)


def damaged(content: bytes, how: str) -> bytes:
    match how:
        case "cut short":
            return content[:-100]
        case "empty":
            return b""
        case "a byte flipped":
            middle = len(content) // 2
            return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        case _:
            return content.replace(b'"blake2b"', b'"blake2c"')


@pytest.mark.parametrize("how", ["cut short", "empty", "a byte flipped", "another header"])
def test_a_damaged_block_is_reported_and_made_again(flooded, caplog, how):
    experiment, whole = flooded
    first, second = (experiment.block(box) for box in experiment.subvolumes)
    first.write_bytes(damaged(first.read_bytes(), how))
    untouched = second.stat().st_mtime_ns
    with pytest.raises(FloodlineError, match=first.name):
        run.finish(experiment)
    assert not experiment.manifest("inference").is_file()
    caplog.clear()
    run.run(experiment, 0, 1)
    run.finish(experiment)
    assert [record.message for record in caplog.records if "damaged" in record.message] == [
        f"{first} is damaged and will be computed again"
    ]
    assert blocks_of(experiment) == whole
    assert second.stat().st_mtime_ns == untouched, "what is whole is not made again"


def test_a_damaged_checkpoint_is_reported_and_its_sub_volume_starts_again(flooded, caplog):
    experiment, whole = flooded
    block = experiment.block(experiment.subvolumes[0])
    block.unlink()
    block.with_suffix(".checkpoint").write_bytes(b"half a checkp")
    run.run(experiment, 0, 1)
    assert "its sub-volume starts again" in caplog.text
    assert blocks_of(experiment) == whole
    assert not block.with_suffix(".checkpoint").exists()


def test_a_block_of_other_parameters_is_not_taken(tmp_path):
    experiment = small_floods.make(tmp_path)
    box = experiment.subvolumes[0]
    run.run(experiment, 0, 1)
    whole = experiment.block(box).read_bytes()
    other = change(experiment, flood={**small_floods.FLOOD, "min_segment_size": 300})
    with pytest.raises(FloodlineError, match="other parameters"):
        run.finish(other)
    run.run(other, 0, 1)
    assert read_block(other.block(box))["sizes"].min() >= 300
    run.run(change(other, flood=small_floods.FLOOD), 0, 1)
    assert experiment.block(box).read_bytes() == whole


# --- parameters ------------------------------------------------------------------------------------------------------


def test_all_processors_flood_in_the_arithmetic_of_the_first(tmp_path, monkeypatch, caplog):
    """One that is quick at bfloat16 begins; one that is not goes on."""
    experiment = small_floods.make(tmp_path, precision="auto")
    monkeypatch.setattr(precision, "processor_features", lambda: {"avx512_bf16"})
    begun = parameters_of(experiment)
    assert arithmetic_of(experiment) == "bfloat16"
    monkeypatch.setattr(precision, "processor_features", set)
    assert parameters_of(experiment) == begun
    assert "floods are computed in bfloat16, as they were begun, and this processor is quick at float32" in caplog.text
    explicit = change(experiment, precision="float32")
    assert arithmetic_of(explicit) == "float32"
    assert parameters_of(explicit) != begun


@pytest.mark.parametrize(("key", "value"), [("licence", "CC0-1.0"), ("weights", "somewhere else")])
def test_where_the_weights_are_from_decides_no_block(tmp_path, key, value):
    experiment = small_floods.make(tmp_path)
    before = parameters_of(experiment)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    values["network"][key] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    assert parameters_of(Experiment(tmp_path)) == before


def test_everything_that_decides_the_result_is_in_the_hash_and_nothing_else(tmp_path):
    experiment = small_floods.make(tmp_path)
    points, mask = tmp_path / "points.csv", tmp_path / "mask.h5"
    points.write_text("x,y,z\n12,12,12\n")
    histogram = tmp_path / "histogram.json"
    histogram.write_text(json.dumps([1] * 256))
    with h5py.File(mask, "w") as file:
        file["data"] = np.zeros((24, 24, 24), np.uint8)
    source = {"kind": "hdf5", "path": str(mask), "dataset": "data"}
    plain = parameters_of(experiment)
    assert parameters_of(change(experiment, shards=7, checkpoint_seconds=1.0)) == plain
    changes: list[dict] = [
        {"precision": "bfloat16"},
        {"image_mean": 1.0},
        {"image_stddev": 2.0},
        {"flood": {"policy": "reference"}},
        {"runtime": "openvino"},
        {"flood": {"disco_seed_threshold": -1}},
        {"seeds": [{"policy": "peaks", "reversed": True}]},
        {"seeds": [{"policy": "points", "path": str(points)}]},
        {"masks": [{"kind": "volume", "source": source}]},
        {"masks": [{"kind": "volume", "source": source, "closed_to": ["seeds"]}]},
        {"shift_mask": {"dx": source, "dy": source}},
        {"initial_segmentation": source},
        {"reference_histogram": str(histogram)},
        {"consensus": "split"},
        {"consensus_order": "reversed_seeds"},
        {"consensus_min_size": 5},
    ]

    def all_hashes() -> list[str]:
        return [parameters_of(change(small_floods.make(tmp_path), **keys)) for keys in changes]

    before = all_hashes()
    assert len({plain, *before}) == len(changes) + 1
    points.write_text("x,y,z\n12,12,13\n")
    histogram.write_text(json.dumps([2] * 256))
    with h5py.File(mask, "a") as file:
        file["data"][0, 0, 0] = 1
    changed = [new != old for new, old in zip(all_hashes(), before, strict=True)]
    assert changed == [False] * 7 + [True] * 6 + [False] * 3, "the files' content decides, too"
    trained_again = change(experiment)
    weights = trained_again.model / "weights.npz"
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert parameters_of(small_floods.make(tmp_path / "other")) == plain
    assert parameters_of(trained_again) != plain


# --- an initial segmentation -----------------------------------------------------------------------------------------


def fill_bright(image: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """A network that takes the bright voxels for the object, and is surest in the middle of its view."""
    centre = np.array(image.shape[1:]).reshape(3, 1, 1, 1) // 2
    distance = np.abs(np.indices(image.shape[1:]) - centre).sum(axis=0).astype(np.float32)
    return np.where(image > 0, 5 - distance / 100, np.float32(-5))


def with_initial(folder: Path, initial: np.ndarray, **inference: object) -> Experiment:
    """A bright volume at x 5, y 6, z 7 with objects to keep; the source of these starts at 0."""
    image = np.full((12, 12, 30), 200, np.uint8)
    whole = np.zeros((19, 18, 35), np.uint64)
    whole[7:, 6:, 5:] = initial
    with h5py.File(folder / "initial.h5", "w") as file:
        file["ids"] = whole
    keys = {
        "subvolume_size_xyz": [30, 12, 12],
        "overlap_xyz": [0, 0, 0],
        "image_mean": 100,
        "flood": {"min_segment_size": 10},
        "seeds": [{"policy": "grid", "step": 3, "offsets": [2]}],
        "initial_segmentation": {"kind": "hdf5", "path": str(folder / "initial.h5"), "dataset": "ids"},
        **inference,
    }
    network = {"weights": "none", "fov_xyz": [5, 5, 5], "deltas_xyz": [2, 2, 2]}
    return make_experiment(folder, image, (1, 1, 1), (0, 0, 0), (5, 6, 7), inference=keys, network=network)


@pytest.mark.parametrize("consensus", [None, "split"])
def test_an_initial_segmentation_is_kept_and_the_rest_filled(tmp_path, consensus):
    initial = np.zeros((12, 12, 30), np.uint64)
    initial[:, :, :4] = 2**40 + 7
    initial[:, :, 20:] = 3
    initial[0, 0, 10:13] = 12  # fewer voxels than any flood may keep
    experiment = with_initial(tmp_path, initial, consensus=consensus, consensus_min_size=10)
    block = flood_with(fill_bright, experiment, experiment.subvolumes[0], "p").block()
    names = np.concatenate([[0], block["initial_ids"]])
    assert sorted(block["initial_ids"].tolist()) == [3, 12, 2**40 + 7]
    there = initial > 0
    np.testing.assert_array_equal(names[block["segmentation"][there]], initial[there])
    assert (block["qprob"][there] == 255).all()
    assert set(block["ids"].tolist()) == {1, 2, 3, 4}
    (origin,) = block["origins"].tolist()
    assert origin[0] == 4
    assert (block["segmentation"][2:-2, 2:-2, 4:20] == 4).all()
    assert set(block["overlaps"][:, 0].tolist()) == {4}


def test_an_initial_segmentation_that_does_not_cover_the_image_is_one_sentence(tmp_path):
    experiment = with_initial(tmp_path, np.zeros((12, 12, 30), np.uint64))
    with h5py.File(tmp_path / "initial.h5", "w") as file:
        file["ids"] = np.zeros((5, 5, 5), np.uint8)
    with pytest.raises(FloodlineError, match=r"inference.initial_segmentation covers .* does not hold all of x 5..35"):
        flood_with(fill_bright, experiment, experiment.subvolumes[0], "p")


def test_a_negative_label_of_an_initial_segmentation_is_one_sentence(tmp_path):
    experiment = with_initial(tmp_path, np.zeros((12, 12, 30), np.uint64))
    with h5py.File(tmp_path / "initial.h5", "w") as file:
        file["ids"] = np.full((19, 18, 35), -1, np.int32)
    with pytest.raises(FloodlineError, match="the labels hold the negative number -1"):
        flood_with(fill_bright, experiment, experiment.subvolumes[0], "p")


# --- contrast --------------------------------------------------------------------------------------------------------


IMAGES = arrays.arrays(np.uint8, (2, 4, 5), fill=st.nothing())


def cumulative(image: np.ndarray) -> np.ndarray:
    return np.bincount(image.ravel(), minlength=256).cumsum() / image.size


@given(IMAGES, IMAGES)
def test_matching_gives_every_slice_the_reference_s_grey_values_and_keeps_their_order(image, reference):
    result = matched(image, cumulative(reference))
    assert set(np.unique(result)) <= set(np.unique(reference))
    for before, after in zip(image, result, strict=True):
        order = np.argsort(before, axis=None, kind="stable")
        assert (np.diff(after.ravel()[order].astype(int)) >= 0).all()
        # No table of grey values can come closer: each value's share reaches the reference's, and one less would not.
        share, wanted = cumulative(before), cumulative(reference)
        for old, new in set(zip(before.ravel().tolist(), after.ravel().tolist(), strict=True)):
            assert wanted[new] >= share[old] - 1e-9
            assert new == 0 or wanted[new - 1] < share[old]


@given(arrays.arrays(np.uint8, (6, 7), fill=st.nothing()))
def test_matching_to_itself_changes_nothing(slice_):
    image = np.stack([slice_, slice_[::-1]])
    np.testing.assert_array_equal(matched(image, cumulative(slice_)), image)


@given(IMAGES, arrays.arrays(bool, (2, 4, 5)))
def test_masked_voxels_do_not_count(image, masked):
    reference = cumulative(np.arange(0, 256, 5, dtype=np.uint8))
    noise = np.where(masked, 255 - image, image)
    for z in range(2):
        result = matched(image[z : z + 1], reference, masked[z : z + 1])
        other = matched(noise[z : z + 1], reference, masked[z : z + 1])
        np.testing.assert_array_equal(result[~masked[z : z + 1]], other[~masked[z : z + 1]])


@pytest.mark.parametrize("kind", ["counts.json", "fractions.npy", "cumulative.npy"])
def test_a_reference_comes_as_counts_or_cumulative_and_sets_the_normalisation(tmp_path, kind):
    values = np.random.default_rng(0).integers(40, 90, 5000)
    counts = np.bincount(values, minlength=256)
    path = tmp_path / kind
    match kind:
        case "counts.json":
            path.write_text(json.dumps(counts.tolist()))
        case "fractions.npy":
            np.save(path, counts / counts.sum())
        case _:
            np.save(path, counts.cumsum() / counts.sum())
    experiment = small_floods.make(tmp_path, reference_histogram=str(path))
    reference = reference_of(experiment)
    np.testing.assert_allclose(reference, counts.cumsum() / counts.sum())
    assert normalisation_of(experiment, reference) == pytest.approx((values.mean(), values.std()))
    assert normalisation_of(change(experiment, image_mean=3, image_stddev=4), reference) == (3, 4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        ("[1, 2]", "256 numbers"),
        ("no", "cannot be read"),
        (json.dumps([-1] * 256), "negative"),
    ],
)
def test_a_reference_that_is_none_is_one_sentence(tmp_path, content, says):
    path = tmp_path / "histogram.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FloodlineError, match=says):
        reference_of(small_floods.make(tmp_path, reference_histogram=str(path)))


def test_floods_see_the_matched_image(tmp_path):
    """A volume whose contrast was changed is flooded like the original."""
    original = small_floods.make(tmp_path / "original")
    image = Layer.open(original.layer("image")).read(original.image_box)
    each = np.concatenate([image[z : z + 1].ravel() for z in range(len(image))])
    histogram = tmp_path / "histogram.npy"
    np.save(histogram, np.bincount(each, minlength=256))
    results = []
    for name, grey in (("a", image), ("b", (image // 2 + 60).astype(np.uint8))):
        experiment = small_floods.make(tmp_path / name, reference_histogram=str(histogram))
        layer = Layer.open(experiment.layer("image"))
        layer.write(Box.of_array(grey.shape), grey)
        seen = []

        def network(patch: np.ndarray, seed: np.ndarray, seen: list = seen) -> np.ndarray:
            seen.append(patch)
            return fill_bright(patch, seed)

        flood_with(network, experiment, experiment.subvolumes[0], "p")
        results.append(np.stack(seen[:1]))
    assert np.abs(results[0] - results[1]).max() * image.std() < 12, "half of the grey values are gone, not more"
