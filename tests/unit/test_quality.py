"""Quality control: sections of a real volume, damaged in known ways, are found, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from test_ingest import experiment

from floodline import config
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.ingest import image as ingest_image
from floodline.manifest import read_json
from floodline.publishing import inputs
from floodline.quality import findings, measure
from floodline.quality import run as quality
from floodline.volumes.masks import masked


def table(volume: np.ndarray, fill: int | None = None) -> pd.DataFrame:
    rows = pd.DataFrame(list(measure.measure(volume, None, fill))).reindex(columns=quality.MEASURED)
    z = np.arange(len(volume))
    return rows.assign(x0=0, y0=0, z0=z, x1=volume.shape[2], y1=volume.shape[1], z1=z + 1)


def found(volume: np.ndarray, fill: int | None = None) -> set[tuple[str, int]]:
    told = findings.find(table(volume, fill), config.Quality())
    return set(zip(told["kind"], told["z0"], strict=True))


@pytest.fixture(scope="module")
def stack(fib25_image) -> np.ndarray:
    """Sixty sections, for speed."""
    return fib25_image[100:160].copy()


def noise(shape: tuple[int, ...], top: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(np.uint8)


def stretched(section: np.ndarray, factor: float) -> np.ndarray:
    grey = section.astype(float)
    return ((grey - grey.mean()) * factor + grey.mean()).clip(0, 255).astype(np.uint8)


DAMAGES: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "absent: all 0": ("missing", lambda section, _: np.zeros_like(section)),
    "absent: all grey": ("missing", lambda section, _: np.full_like(section, 131)),
    "black with noise": ("black", lambda section, _: noise(section.shape, 6)),
    "repeated": ("repeated", lambda _, before: before),
    "repeated, with noise": ("repeated", lambda _, before: (before + noise(before.shape, 3)).astype(np.uint8)),
    "blurred a little": ("blurred", lambda section, _: ndimage.gaussian_filter(section, 0.8)),
    "blurred": ("blurred", lambda section, _: ndimage.gaussian_filter(section, 2.5)),
    "shifted by 3 along x": ("shifted", lambda section, _: np.roll(section, 3, 1)),
    "shifted by 5 along y": ("shifted", lambda section, _: np.roll(section, -5, 0)),
    "shifted by 30 and 20": ("shifted", lambda section, _: np.roll(section, (30, -20), (0, 1))),
    "flat": ("low_contrast", lambda section, _: stretched(section, 0.45)),
    "overexposed": ("saturated", lambda section, _: (section.astype(float) * 1.9).clip(0, 255).astype(np.uint8)),
    "underexposed": ("saturated", lambda section, _: (section.astype(float) * 1.2 - 100).clip(0, 255).astype(np.uint8)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_section_is_found_and_no_other(stack, name):
    kind, damage = DAMAGES[name]
    for z in (1, 23, 58):
        damaged = stack.copy()
        damaged[z] = damage(stack[z], stack[z - 1])
        # Around the damage all sections are measured anew; far away nothing has changed.
        assert found(damaged[max(0, z - 12) : z + 13]) == {(kind, z - max(0, z - 12))}, z


def test_the_first_section_can_be_damaged_too(stack):
    for name in ("absent: all 0", "blurred", "shifted by 5 along y", "flat"):
        kind, damage = DAMAGES[name]
        damaged = stack[:20].copy()
        damaged[0] = damage(stack[0], stack[0])
        assert found(damaged) == {(kind, 0)}, name


def test_several_damages_are_told_apart(stack):
    damaged = stack.copy()
    names = ["absent: all 0", "blurred", "shifted by 5 along y", "repeated", "flat", "overexposed", "black with noise"]
    expected = set()
    for z, name in zip(range(5, 60, 8), names, strict=True):
        kind, damage = DAMAGES[name]
        damaged[z] = damage(stack[z], stack[z - 1])
        expected.add((kind, z))
    assert found(damaged) == expected


@pytest.mark.parametrize("z", [7, 30, 52])
def test_absent_sections_are_a_jump(stack, z):
    assert found(np.delete(stack, z, axis=0)) == {("jump", z)}


def test_a_stack_that_is_displaced_for_good_is_found_once(stack):
    damaged = stack.copy()
    damaged[30:] = np.roll(damaged[30:], 6, axis=2)
    assert found(damaged) == {("shifted", 30)}


def test_the_untouched_fib25_stack_has_no_findings(fib25_image):
    assert found(fib25_image) == set()


def test_slow_changes_and_fill_are_no_findings(stack):
    fading = np.stack([stretched(section, 1 - i / 150) * 0.9 + i for i, section in enumerate(stack)]).astype(np.uint8)
    assert found(fading) == set()
    with_fill = stack.copy()
    with_fill[:, :, :60] = 0
    with_fill[20:30, :70] = 0
    assert found(with_fill, fill=0) == set()
    assert {kind for kind, _ in found(with_fill)} == {"saturated"}


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 100))
def test_the_shift_between_two_sections_is_exact(y, x, seed):
    ground = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(120, 120)), 2).astype(np.float32)
    a, b = ground[20:100, 20:100], ground[20 - y : 100 - y, 20 - x : 100 - x]
    assert measure.best_shift(a, b) == (y, x)


# --- the stage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examined(fib25_image, tmp_path_factory) -> Experiment:
    """A stack of which a part of one section is black and another section is blurred, in tiles, by two workers."""
    folder = tmp_path_factory.mktemp("examined")
    array = fib25_image[:40, :200, :].copy()
    array[11, 100:, :125] = noise((100, 125), 5)
    array[33] = ndimage.gaussian_filter(array[33], 2)
    with h5py.File(folder / "v.h5", "w") as file:
        file["v"] = array
    exp = experiment(folder, {"source": {"kind": "hdf5", "path": str(folder / "v.h5"), "dataset": "v"}})
    text = config.parse(
        {
            **exp.config.model_dump(mode="json"),
            "quality": {"tile_xy": [125, 100]},
            "masks": [{"kind": "quality"}],
            "storage": {"chunk_size_xyz": [64, 64, 64]},
        }
    )
    (folder / "config.yaml").write_text(config.dump(text))
    exp = Experiment(folder)
    ingest_image.run(exp)
    quality.run(exp, workers=2)
    return exp


def test_findings_are_boxes_of_tiles(examined):
    told = pd.read_parquet(examined.quality / "findings.parquet")
    boxes = [tuple(row) for row in told[["kind", "x0", "y0", "z0", "x1", "y1", "z1"]].itertuples(index=False)]
    assert boxes[0] == ("black", 0, 100, 11, 125, 200, 12)
    assert boxes[1:] == [("blurred", x, y, 33, x + 125, y + 100, 34) for y in (0, 100) for x in (0, 125)]
    manifest = read_json(examined.quality / "manifest.json")
    assert manifest["findings"] == [{"kind": "black", "sections": [11]}, {"kind": "blurred", "sections": [33]}]
    assert (manifest["sections"], manifest["tiles"]) == (40, 4)


def test_findings_become_a_mask(examined):
    closed = masked(examined, "floods", Box((100, 90, 10), (140, 110, 13)))
    expected = np.zeros((3, 20, 40), bool)
    expected[1, 10:, :25] = True
    assert np.array_equal(closed, expected)


def test_profiles_are_mean_and_deviation_along_each_axis(examined):
    profiles = pd.read_parquet(examined.quality / "profiles.parquet")
    with h5py.File(examined.config.image.source.path) as file:
        array = file["v"][()].astype(float)
    for axis, name in enumerate("zyx"):
        own = profiles[profiles["axis"] == name]
        others = tuple(other for other in range(3) if other != axis)
        assert np.allclose(own["mean"], array.mean(others))
        assert np.allclose(own["stddev"], array.std(others))


def test_the_tables_do_not_depend_on_the_workers(examined):
    names = ("sections.parquet", "findings.parquet", "profiles.parquet", "manifest.json")
    before = {name: (examined.quality / name).read_bytes() for name in names}
    quality.run(examined, workers=1)
    assert {name: (examined.quality / name).read_bytes() for name in names} == before


def test_the_report_shows_the_findings(examined):
    html = inputs.sections(examined)
    assert "there are findings in 2." in html
    assert html.count("data:image/png") == 1 + 3
    assert html.count("data:image/svg+xml") == 3
    assert "blurred at z = 33" in html
    assert "1 of 4" in html
