"""Grey values on their way in: each step is what it says, and a block never shows."""

from __future__ import annotations

import json
from math import ceil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.exposure import equalize_adapthist

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks
from floodline.ingest import clahe
from floodline.ingest import image as ingest_image
from floodline.ingest.normalise import Recipe, applied, counts_by_section
from floodline.manifest import read_json
from floodline.publishing import inputs
from floodline.volumes.layer import Layer


def normalised(array: np.ndarray, **wanted: object) -> np.ndarray:
    """An array (z, y, x) through the tables of a normalisation without CLAHE."""
    steps = config.Normalisation(**wanted)
    levels = np.iinfo(array.dtype).max + 1
    counts = counts_by_section(array, levels, steps.fill)
    recipe = Recipe(steps, array.dtype, counts.sum(axis=0, dtype=np.int64))
    tables = [recipe.table(section) for section in counts]
    return array if tables[0] is None else applied(np.stack(tables), array)


small_images = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=12))


# --- tables ----------------------------------------------------------------------------------------------------------


@given(small_images)
def test_inverting_twice_gives_the_image(array):
    once = normalised(array, invert=True)
    assert np.array_equal(once, 255 - array)
    assert np.array_equal(normalised(once, invert=True), array)


@given(st.integers(0, 2**32 - 1), st.floats(0, 20), st.floats(80, 100))
def test_eight_bits_hold_what_lies_between_the_percentiles(seed, low, high):
    array = np.random.default_rng(seed).normal(20_000, 3_000, (3, 20, 20)).clip(0, 65535).astype(np.uint16)
    result = normalised(array, to_8_bits={"low": low, "high": high})
    assert result.dtype == np.uint8
    # As numpy's inverted_cdf, but that a share which is equal to the percentile but for rounding reaches it.
    bottom, top = (np.sort(array, axis=None)[max(0, ceil(array.size * p / 100 - 1e-6) - 1)] for p in (low, high))
    expected = np.rint((array.clip(bottom, top) - float(bottom)) * (255 / (float(top) - float(bottom))))
    assert np.array_equal(result, expected)


def test_sections_get_the_distribution_of_the_volume_and_keep_the_order_of_their_values():
    rng = np.random.default_rng(0)
    tissue = rng.normal(0, 1, (6, 60, 60))
    array = np.stack([t * sd + mean for t, sd, mean in zip(tissue, range(10, 40, 5), range(80, 200, 20), strict=True)])
    array = array.clip(0, 255).astype(np.uint8)
    result = normalised(array, match={})
    for before, after in zip(array, result, strict=True):
        order = np.argsort(before.ravel(), kind="stable")
        assert (np.diff(after.ravel()[order].astype(int)) >= 0).all()
    assert np.ptp([section.mean() for section in array]) > 90
    assert np.ptp([section.mean() for section in result]) < 3
    assert result.mean() == pytest.approx(array.mean(), abs=2)


def test_a_volume_gets_a_reference_s_distribution(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.normal(90, 10, (4, 50, 50)).clip(0, 255).astype(np.uint8)
    array[2] //= 2
    reference = rng.normal(140, 40, 100_000).clip(0, 255).astype(np.uint8)
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(np.bincount(reference, minlength=256).tolist()))
    result = normalised(array, match={"by": "volume", "reference": str(path)})
    assert (result.mean(), result.std()) == (pytest.approx(140, abs=3), pytest.approx(40, abs=3))
    assert result[2].mean() < result[1].mean() - 40, "sections stay as different as they were"


def test_an_empty_section_does_not_become_white():
    array = np.random.default_rng(0).integers(0, 255, (3, 9, 9), dtype=np.uint8)
    array[1] = 0
    assert (normalised(array, match={})[1] == 0).all()


@given(small_images, st.integers(0, 255))
def test_fill_counts_nowhere_and_stays(array, fill):
    steps = {"fill": fill, "invert": True, "match": {}}
    other = array.copy()
    if (array == fill).all():
        return
    result = normalised(array, **steps)
    assert (result[array == fill] == fill).all()
    # More fill changes nothing elsewhere.
    more = np.concatenate([other, np.full_like(other, fill)], axis=2)
    assert np.array_equal(normalised(more, **steps)[:, :, : array.shape[2]], result)


@pytest.mark.parametrize(
    ("dtype", "values", "wanted", "sentence"),
    [
        ("uint8", [1, 2], {"to_8_bits": {}}, "has 8 already"),
        ("uint16", [7, 7], {"to_8_bits": {}}, "are both 7: nothing is left between them"),
        ("uint16", [7, 7], {"to_8_bits": {}, "fill": 7}, "every voxel of the image is fill"),
        ("uint8", [1, 2], {"match": {"reference": "nowhere.npy"}}, "nowhere.npy does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(dtype, values, wanted, sentence):
    with pytest.raises(FloodlineError, match=sentence):
        normalised(np.array(values, dtype).reshape(1, 1, 2), **wanted)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="low 50 must be below high 50"):
        config.Percentiles(low=50, high=50)
    with pytest.raises(ValueError, match="needs a reference"):
        config.Matching(by="volume")


# --- CLAHE -----------------------------------------------------------------------------------------------------------


def equalised(array: np.ndarray, block_xyz: tuple[int, int, int], wanted: config.Clahe, fill: int | None) -> np.ndarray:
    whole = Box.of_array(array.shape, (5, -7, 3))
    result = np.empty_like(array)
    for block in blocks(whole, block_xyz):
        allowed = clahe.reads(block, whole, wanted)

        def read(box: Box, allowed: Box = allowed) -> np.ndarray:
            assert allowed.contains(box)
            assert whole.contains(box)
            return array[box.slices_zyx(whole.start_xyz)]

        result[block.slices_zyx(whole.start_xyz)] = clahe.equalised(read, block, whole, wanted, fill)
    return result


@settings(max_examples=40)
@given(st.data())
def test_blocks_give_the_slice_without_seams(data):
    shape = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16]))
    array = (rng.normal(0.5, 0.2, shape).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    fill = data.draw(st.sampled_from([None, 0]))
    if fill is not None:
        array[:, : shape[1] // 3] = fill
    wanted = config.Clahe(
        kernel_size_xy=data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20))),
        clip_limit=data.draw(st.sampled_from([0.01, 0.1, 1.0])),
    )
    block_xyz = data.draw(st.tuples(st.integers(1, 45), st.integers(1, 45), st.integers(1, 3)))
    whole = equalised(array, (1000, 1000, 1000), wanted, fill)
    assert np.array_equal(equalised(array, block_xyz, wanted, fill), whole)
    if fill is not None:
        assert np.array_equal(whole == fill, array == fill) or (whole[array == fill] == fill).all()


def test_a_block_reads_no_farther_than_the_regions_around_it():
    whole, block = Box.of_array((4, 5000, 5000)), Box((2048, 1024, 0), (2304, 1152, 4))
    around = clahe.reads(block, whole, config.Clahe())
    assert all(a - 2 * 64 <= b for a, b in zip(block.start_xyz[:2], around.start_xyz[:2], strict=True))
    assert all(b <= a + 2 * 64 for a, b in zip(block.stop_xyz[:2], around.stop_xyz[:2], strict=True))
    assert around.size_xyz[2] == 4


def test_it_is_scikit_image_s_but_for_the_last_stretch():
    """Of a slice that has all grey values, 0 and 255 included; the limit is never reached."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 96)[None, :] * np.ones((80, 1))
    slice_ = (ramp + rng.normal(0, 20, ramp.shape)).clip(0, 255).astype(np.uint8)
    wanted = config.Clahe(kernel_size_xy=(24, 20), clip_limit=1.0)
    ours = equalised(slice_[None], (1000, 1000, 1), wanted, None)[0].astype(float)
    theirs = equalize_adapthist(slice_, (20, 24), 1.0)
    stretched = (ours - ours.min()) / (ours.max() - ours.min())
    assert np.abs(stretched - theirs).max() < 0.02


# --- the stage -------------------------------------------------------------------------------------------------------


def experiment(folder, array: np.ndarray, **normalise: object) -> Experiment:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "v.h5", "w") as file:
        file["v"] = array
    values = {
        "name": "test",
        "image": {
            "source": {"kind": "hdf5", "path": str(folder / "v.h5"), "dataset": "v"},
            "voxel_size_nm_xyz": [8, 8, 8],
            "normalise": normalise,
        },
        "storage": {"chunk_size_xyz": [16, 16, 8]},
        "network": {"weights": "unused"},
    }
    (folder / "config.yaml").write_text(config.dump(config.parse(values)))
    return Experiment(folder)


def test_all_steps_together_are_the_same_bytes_however_many_work(tmp_path, monkeypatch):
    """... and however the volume is cut."""
    monkeypatch.setattr("floodline.ingest.blocks.FEWEST_VOXELS", 6000)
    array = np.random.default_rng(0).normal(9000, 900, (20, 50, 60)).clip(0, 65535).astype(np.uint16)
    array[:, :20, :30] = 0
    steps = {"fill": 0, "invert": True, "to_8_bits": {}, "match": {}, "clahe": {"kernel_size_xy": [16, 16]}}
    one = experiment(tmp_path / "one", array, **steps)
    ingest_image.run(one)
    monkeypatch.setattr("floodline.ingest.blocks.FEWEST_VOXELS", 2**22)
    two = experiment(tmp_path / "two", array, **steps)
    ingest_image.run(two, workers=2)

    def files(exp: Experiment) -> dict[str, bytes]:
        return {
            str(path.relative_to(exp.folder)): path.read_bytes()
            for path in sorted(exp.layer("image").rglob("*"))
            if path.is_file() and path.name not in ("provenance", "checksums.block")
        }

    assert files(one) == files(two)
    assert len(files(one)) > 20

    voxels = Layer.open(one.layer("image")).read(one.image_box)
    expected = normalised(array, **{key: value for key, value in steps.items() if key != "clahe"})
    wanted = config.Clahe(kernel_size_xy=(16, 16))
    whole = one.image_box
    expected = clahe.equalised(lambda box: expected[box.slices_zyx()], whole, whole, wanted, 0)
    assert np.array_equal(voxels, expected)
    manifest = read_json(one.manifest("image"))
    tissue = voxels[voxels != 0]
    assert (manifest["mean"], manifest["stddev"]) == (pytest.approx(tissue.mean()), pytest.approx(tissue.std()))
    assert np.load(one.layer("image") / "histogram.npy").sum() == tissue.size
    steps_shown = read_json(one.layer("image") / "previews" / "previews.json")["steps"]
    assert steps_shown == ["source", "inverted", "8 bits", "matched", "CLAHE"]


def test_the_report_shows_each_step(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (4, 20, 20), dtype=np.uint8)
    exp = experiment(tmp_path, array, invert=True, clahe={})
    ingest_image.run(exp)
    html = inputs.sections(exp)
    assert [name for name in ("Source", "Inverted", "8 bits", "Matched", "CLAHE") if f">{name}<" in html] == [
        "Source",
        "Inverted",
        "CLAHE",
    ]
    assert html.count("data:image/png") == 3
    plain = experiment(tmp_path / "plain", array)
    ingest_image.run(plain)
    assert inputs.sections(plain) == ""
