"""Training sites: balanced over the partitions, inside the margin, and in a format that TensorFlow reads."""

from __future__ import annotations

import gzip

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn import sites
from floodline.geometry import Box, blocks
from floodline.labels import coordinates
from floodline.labels.balance import count, draw, locate
from floodline.manifest import write_json

START_XYZ = (1000, -7, 30)
MARGIN_XYZ = (2, 1, 0)

volumes = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.sampled_from([0, 1, 5, 254, 255])
)


def rng(seed=0):
    return np.random.default_rng(seed)


def balanced(partitions, block_xyz, limit, rng):
    """Sites of an array that is passed block by block."""
    cut = blocks(Box.of_array(partitions.shape), block_xyz)
    parts = [partitions[block.slices_zyx()] for block in cut]
    drawn = draw(np.array([count(part) for part in parts]), limit, rng)
    sites_xyz = np.zeros((sum(len(here.rows) for here in drawn), 3), np.int64)
    for block, part, here in zip(cut, parts, drawn, strict=True):
        sites_xyz[here.rows] = locate(part, here.values, here.numbers) + np.array(block.start_xyz)
    return sites_xyz


@given(volumes, st.tuples(*[st.integers(1, 6)] * 3), st.none() | st.integers(1, 40))
def test_every_partition_gets_as_many_sites_each_voxel_as_often_as_any(partitions, block_xyz, limit):
    sites_xyz = balanced(partitions, block_xyz, limit, rng())
    values, counts = np.unique(partitions[partitions != 255], return_counts=True)
    if len(values) == 0:
        assert len(sites_xyz) == 0
        return
    wanted = counts.max() if limit is None else min(limit, counts.max())
    x, y, z = sites_xyz.T
    drawn = partitions[z, y, x]
    assert np.unique(drawn, return_counts=True)[0].tolist() == values.tolist()
    assert set(np.unique(drawn, return_counts=True)[1].tolist()) == {wanted}
    for value in values:
        _, repeats = np.unique(sites_xyz[drawn == value], axis=0, return_counts=True)
        assert repeats.max() - repeats.min() <= 1
        assert len(repeats) == min(wanted, counts[values == value][0])


@given(volumes, st.integers(1, 6))
def test_sites_do_not_depend_on_how_thick_the_blocks_are(partitions, thickness):
    whole = balanced(partitions, (6, 6, 6), 7, rng())
    assert np.array_equal(whole, balanced(partitions, (6, 6, thickness), 7, rng()))


def test_sites_are_shuffled_and_depend_on_the_seed():
    partitions = np.repeat(np.arange(4, dtype=np.uint8), 250).reshape(10, 10, 10)
    one, other = (balanced(partitions, (10, 10, 10), None, rng(seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)
    x, y, z = one[:250].T
    # A quarter of any part of the list comes from each partition.
    assert np.bincount(partitions[z, y, x]).min() > 40


# --- the format ------------------------------------------------------------------------------------------------------


def written(folder, centers_xyz, name="labels"):
    path = folder / "sites.tfrecord.gz"
    sites.write_coordinates(path, np.array(centers_xyz, np.int64), name)
    write_json(folder / "manifest.json", {"files": [path.name]})
    return path


def test_tensorflow_reads_what_is_written(tmp_path):
    import tensorflow as tf

    # One byte a coordinate up to 127; a name of more than 127 bytes needs longer lengths.
    for centers_xyz, name in [
        ([[0, 1, 127]], "a"),
        ([[0, 128, 16384], [3, 2, 1]], "labels"),
        ([[-1, 2**62, -(2**63)], [5, 6, 7]], "v" * 200),
    ]:
        path = written(tmp_path, centers_xyz, name)
        # TFRecordDataset checks the checksums of lengths and messages.
        records = tf.data.TFRecordDataset([str(path)], compression_type="GZIP")
        examples = [tf.train.Example.FromString(record.numpy()).features.feature for record in records]
        assert [list(example["center"].int64_list.value) for example in examples] == centers_xyz
        assert {example["label_volume_name"].bytes_list.value[0].decode() for example in examples} == {name}
        assert sites.read_coordinates(tmp_path).tolist() == centers_xyz


def test_many_sites_come_back_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(sites, "RECORDS_AT_ONCE", 1000)
    centers_xyz = rng().integers(0, 30_000, (3456, 3))
    written(tmp_path, centers_xyz)
    assert np.array_equal(sites.read_coordinates(tmp_path), centers_xyz)


def test_checksum_is_crc32c():
    """The check value of CRC-32C, as catalogues of checksums give it."""
    digits = np.frombuffer(b"123456789", np.uint8)[None]
    assert sites._crc32c(np.zeros(1, np.uint32), digits).tolist() == [0xE3069283]


def test_damaged_sites_are_one_sentence(tmp_path):
    path = written(tmp_path, [[1, 2, 3]] * 100)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[50] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(FloodlineError, match=r"cannot be read \([^{\[]*\): make them again"):
        sites.read_coordinates(tmp_path)


# --- the stage -------------------------------------------------------------------------------------------------------


def experiment_with(tmp_path, partitions, removed=None, **keys):
    """An experiment's folder that holds partitions; no label was removed unless said."""
    values = {
        "name": "tiny",
        "image": {"source": {"kind": "phantom"}},
        "labels": {"source": {"kind": "phantom"}},
        "training": {},
        "sites": {"lom_radius_xyz": MARGIN_XYZ, **keys},
    }
    (tmp_path / "config.yaml").write_text(config.dump(config.parse(values)))
    with h5py.File(tmp_path / "partitions.h5", "w") as file:
        dataset = file.create_dataset("partitions", data=partitions, chunks=(2, 4, 4))
        dataset.attrs["start_xyz"] = START_XYZ
        file["removed"] = np.zeros_like(partitions) if removed is None else removed
    return Experiment(tmp_path)


@pytest.fixture
def partitions():
    return rng().choice(np.array([0, 1, 2, 255], np.uint8), (7, 8, 9), p=[0.1, 0.5, 0.2, 0.2])


def test_the_stage_writes_balanced_sites_inside_the_margin(tmp_path, partitions):
    experiment = experiment_with(tmp_path, partitions)
    coordinates.run(experiment)
    sites_xyz = sites.read_coordinates(experiment.coordinates)
    x, y, z = (sites_xyz - START_XYZ).T
    assert x.min() == 2
    assert x.max() == 9 - 2 - 1
    assert y.min() == 1
    assert y.max() == 8 - 1 - 1
    assert z.min() == 0
    assert z.max() == 7 - 1
    inner = partitions[:, 1:-1, 2:-2]
    counts = np.bincount(partitions[z, y, x])
    assert counts.tolist() == [(inner == 1).sum()] * 3


def test_no_site_lies_on_a_removed_label(tmp_path, partitions):
    """There is an object, so it is no example of the space between objects."""
    removed = (partitions == 0) & (np.arange(9) < 5)
    coordinates.run(experiment_with(tmp_path, partitions, removed))
    x, y, z = (sites.read_coordinates(tmp_path / "coordinates") - START_XYZ).T
    assert not removed[z, y, x].any()
    of_background = partitions[z, y, x] == 0
    assert set(zip(z[of_background], y[of_background], x[of_background], strict=True)) == {
        (z, y, x) for z, y, x in np.argwhere((partitions == 0) & ~removed).tolist() if 1 <= y < 7 and 2 <= x < 7
    }


def test_the_same_configuration_gives_the_same_bytes(tmp_path, partitions):
    experiment = experiment_with(tmp_path, partitions, max_per_partition=20)
    contents = []
    for _ in range(2):
        coordinates.run(experiment)
        contents.append({path.name: path.read_bytes() for path in sorted(experiment.coordinates.iterdir())})
    assert contents[0] == contents[1]


def test_nothing_but_excluded_voxels_is_one_sentence_and_leaves_no_manifest(tmp_path, partitions):
    experiment = experiment_with(tmp_path, np.full_like(partitions, 255))
    write_json(experiment.coordinates / "manifest.json", {})
    with pytest.raises(FloodlineError, match="leaves no training site"):
        coordinates.run(experiment)
    assert not (experiment.coordinates / "manifest.json").exists()


def test_partitions_of_a_smaller_radius_are_one_sentence(tmp_path, partitions):
    with pytest.raises(FloodlineError, match=r"has no voxel \[2, 4, 0\] from its faces: make it anew"):
        coordinates.run(experiment_with(tmp_path, partitions, lom_radius_xyz=[2, 4, 0]))


@pytest.mark.parametrize(("content", "sentence"), [(None, "does not exist"), (b"no HDF5", "cannot be read")])
def test_missing_or_damaged_partitions_are_one_sentence(tmp_path, partitions, content, sentence):
    experiment = experiment_with(tmp_path, partitions)
    experiment.partitions.unlink()
    if content:
        experiment.partitions.write_bytes(content)
    with pytest.raises(FloodlineError, match=sentence):
        coordinates.run(experiment)
