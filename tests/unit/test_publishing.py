"""What is published agrees with the voxels: meshes, skeletons, contacts, and the viewer's state."""

from collections import Counter
from itertools import product
from math import exp as e_to
from math import pi, sqrt
from pathlib import Path

import networkx
import numpy as np
import pandas as pd
import published
import pytest
from cloudvolume import CloudVolume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neuroglancer.viewer_state import ViewerState
from published import START_XYZ, VOXEL_SIZE_NM_XYZ

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import read_json
from floodline.publishing import connectome, igneous, meshes, sites, skeletons, state

BALL, ROD, DUST = 7, 2**40 + 1, 9
RADIUS_NM, ROD_NM = 130.0, 520.0
SHAPE_ZYX = (48, 44, 72)
VOXEL_NM3 = float(np.prod(VOXEL_SIZE_NM_XYZ))


def objects() -> np.ndarray:
    """A ball, a rod along x beside it, and a speck."""
    x, y, z = published.nanometres(SHAPE_ZYX)
    array = np.zeros(SHAPE_ZYX, np.uint64)
    array[(x - 200) ** 2 + (y - 150) ** 2 + (z - 160) ** 2 < RADIUS_NM**2] = BALL
    array[((y - 150) ** 2 + (z - 380) ** 2 < 40**2) & (abs(x - 288) < ROD_NM / 2)] = ROD
    array[2:4, 40:42, 60:62] = DUST
    return array


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment with everything that is published; its layer is cut into several pieces by igneous."""
    publishing = {"mesh_error_nm": 4, "min_voxels": 100, "task_size_xyz": [64, 64, 64]}
    made = published.experiment(tmp_path_factory.mktemp("exp"), publishing=publishing)
    image = np.random.default_rng(0).integers(0, 255, SHAPE_ZYX, dtype=np.uint8)
    published.add(made, "image", image)
    published.add(made, "neurons", objects())
    meshes.run(made)
    skeletons.run(made)
    connectome.run(made)
    state.run(made)
    return made


# --- meshes and skeletons --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [BALL, ROD])
def test_a_mesh_is_closed_and_has_the_volume_of_its_voxels(exp, label):
    mesh = CloudVolume(f"file://{exp.layer('neurons')}", progress=False).mesh.get([label])[label]
    # A vertex on the border of two pieces is in both.
    vertices, number = np.unique(mesh.vertices.round(2), axis=0, return_inverse=True)
    faces = number.reshape(-1)[mesh.faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    edges = Counter((a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True))
    assert all(edges[b, a] == count for (a, b), count in edges.items())

    a, b, c = (vertices[faces[:, i]] for i in range(3))
    volume = abs((a * np.cross(b, c)).sum() / 6)
    array = objects()
    assert volume == pytest.approx((array == label).sum() * VOXEL_NM3, rel=0.05)
    middle_zyx = np.argwhere(array == label).mean(axis=0) + 0.5
    middle_nm = (middle_zyx[::-1] + START_XYZ) * VOXEL_SIZE_NM_XYZ
    assert np.abs((vertices.min(axis=0) + vertices.max(axis=0)) / 2 - middle_nm).max() < 12


def test_the_skeleton_of_a_rod_is_as_long_as_the_rod(exp):
    (rod,) = (skeleton for skeleton in skeletons.read(exp.layer("neurons")) if skeleton.id == ROD)
    # It goes from voxel to voxel, so that it zigzags, and its ends lie within a radius of the rod's.
    assert rod.cable_length() == pytest.approx(ROD_NM, rel=0.1)
    middle_yz = (150 + START_XYZ[1] * 8, 380 + START_XYZ[2] * 10)
    assert np.median(rod.vertices[:, 1:], axis=0) == pytest.approx(middle_yz, abs=10)
    assert np.median(rod.radii) == pytest.approx(40, abs=12)


@pytest.mark.parametrize("kind", ["mesh", "skeletons"])
def test_objects_below_the_limit_have_none_and_the_file_says_what_there_is(exp, kind):
    made = read_json(exp.layer("neurons") / f"{kind}.json")
    assert igneous.finished(exp.layer("neurons"), kind) == {BALL, ROD} - set(made["without"])
    assert made["neurons"] == 2 - len(made["without"])
    assert made["min_voxels"] == 100
    assert made["bytes"] > 0


def test_nothing_is_left_that_is_not_the_layers(exp):
    files = {path.name for path in exp.layer("neurons").iterdir()}
    scales = {"8.0_8.0_10.0", "16.0_16.0_20.0"}
    assert files == {"info", "manifest.json", "mips.json", "mesh", "mesh.json", "skeletons", "skeletons.json"} | scales
    assert not [path for path in exp.layer("neurons").rglob("*") if ":" in path.name or path.suffix == ".gz"]
    assert not [path for path in exp.folder.iterdir() if path.name.startswith(".")]
    assert not (exp.layer("neurons") / "8.0_8.0_10.0" / "stats").exists()


def test_a_failure_of_igneous_is_a_sentence_and_leaves_nothing(tmp_path):
    made = published.experiment(tmp_path, publishing={"min_voxels": 1})
    published.add(made, "neurons", objects())
    neurons = made.layer("neurons")
    (neurons / "mesh").mkdir()
    (neurons / "mesh" / "info").write_text("{}")
    (neurons / "mesh.json").write_text("{}")
    with pytest.raises(FloodlineError, match=r"`igneous .*mesh forge --colour.*` ended with status 2: .*--colour"):
        igneous.make(made, "mesh", forge=["mesh", "forge", "--colour"], merge=["mesh", "merge"])
    assert not (neurons / "mesh.json").exists()
    assert not (neurons / "mesh").exists()
    assert "mesh" not in read_json(neurons / "info")


def test_no_neurons_at_all_is_no_failure(tmp_path):
    made = published.experiment(tmp_path)
    published.add(made, "image", np.arange(20**3, dtype=np.uint8).reshape(20, 20, 20))
    published.add(made, "neurons", np.zeros((20, 20, 20), np.uint64))
    meshes.run(made)
    skeletons.run(made)
    connectome.run(made)
    state.run(made)
    assert read_json(made.layer("neurons") / "mesh.json")["neurons"] == 0
    assert pd.read_parquet(made.connectome / "neurons.parquet").empty
    assert pd.read_parquet(made.connectome / "contacts.parquet").empty
    assert "mesh" not in read_json(made.layer("neurons") / "info")


# --- sizes and contacts ----------------------------------------------------------------------------------------------


def measured(folder: Path, array: np.ndarray, gap_nm: float, blocks: int = 2, voxel_size=VOXEL_SIZE_NM_XYZ, chunk=32):
    return connectome.measure(published.layer(folder, array, voxel_size, chunk), gap_nm, blocks)


def weights(axis: int) -> list[tuple[tuple[int, int, int], np.ndarray]]:
    """Voxels around a face, as the documentation of floodline.publishing.areas has them: offsets and moments."""
    found = []
    for offset in product(range(-4, 5), repeat=3):
        away = np.array(offset, float)
        away[axis] -= 0.5
        if (away**2).sum() <= 3.1**2:
            found.append((offset, away * e_to(-(away**2).sum() / (2 * 1.2**2))))
    return found


def brute_force(array: np.ndarray, voxel_size_zyx: tuple[float, ...]) -> dict[tuple[int, int], float]:
    """Areas of contact of labels without gaps, face by face."""
    padded = np.pad(array, 4, mode="edge").astype(int)
    areas: dict[tuple[int, int], float] = {}
    for axis in range(3):
        for place in np.ndindex(array.shape):
            above = tuple(p + (i == axis) for i, p in enumerate(place))
            if above[axis] == array.shape[axis]:
                continue
            one, other = int(array[place]), int(array[above])
            if one == other or 0 in (one, other):
                continue
            normal = np.zeros(3)
            for offset, moment in weights(axis):
                label = padded[tuple(p + o + 4 for p, o in zip(place, offset, strict=True))]
                normal += moment * (int(label == other) - int(label == one))
            normal /= voxel_size_zyx
            size = np.linalg.norm(normal)
            cosine = abs(normal[axis]) / size if size else 1.0
            pair = (min(one, other), max(one, other))
            areas[pair] = areas.get(pair, 0) + cosine * np.prod(voxel_size_zyx) / voxel_size_zyx[axis]
    return areas


def test_areas_equal_those_of_brute_force(tmp_path):
    rng = np.random.default_rng(4)
    array = np.kron(rng.integers(0, 4, (3, 2, 3)), np.ones((3, 4, 3))).astype(np.uint64)
    array[rng.random(array.shape) < 0.1] = 3
    _, contacts = measured(tmp_path, array, gap_nm=0, blocks=1, chunk=4)
    found = {(row.a, row.b): row.area_nm2 for row in contacts.itertuples()}
    expected = brute_force(array, VOXEL_SIZE_NM_XYZ[::-1])
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-4)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), gap_nm=st.sampled_from([0, 25, 60]))
def test_what_is_measured_does_not_depend_on_the_blocks(tmp_path, seed, gap_nm):
    rng = np.random.default_rng(seed)
    array = np.kron(rng.integers(0, 6, (3, 3, 3)), np.ones((6, 7, 6))).astype(np.uint64)
    neurons, contacts = measured(tmp_path, array, gap_nm, blocks=100, chunk=8)
    for part in (1, 2):
        others = measured(tmp_path, array, gap_nm, blocks=part, chunk=8)
        pd.testing.assert_frame_equal(neurons, others[0])
        places = ["x", "y", "z", "sites_xyz"]
        pd.testing.assert_frame_equal(contacts.drop(columns=places), others[1].drop(columns=places))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(normal=st.tuples(*[st.integers(-3, 3)] * 3).filter(any), gap_voxels=st.sampled_from([0, 2, 4]))
def test_a_plane_of_any_tilt_has_its_area(tmp_path, normal, gap_voxels):
    """Two halves of a cube with a membrane between them. Its area is the cube's cross-section through the middle."""
    side, nm = 40, 8.0
    unit = np.array(normal) / np.linalg.norm(normal)
    x, y, z = published.nanometres((side,) * 3, (nm,) * 3)
    # Off the voxels' centres, so that none lies on the plane.
    away = unit[0] * x + unit[1] * y + unit[2] * z - unit.sum() * side * nm / 2 - 0.013
    array = np.where(away > gap_voxels * nm / 2, 5, np.where(away < -gap_voxels * nm / 2, 3, 0)).astype(np.uint64)
    _, contacts = measured(tmp_path, array, gap_nm=60, voxel_size=(nm,) * 3)
    # The volume of a thin slice of the cube, by its share of random points, over its thickness.
    points = (np.random.default_rng(0).random((400_000, 3)) - 0.5) * side * nm
    thickness = 16.0
    inside = (abs(points @ unit + 0.013) < thickness / 2).mean()
    expected = inside * (side * nm) ** 3 / thickness
    (row,) = contacts.itertuples()
    assert (row.a, row.b) == (3, 5)
    assert row.area_nm2 == pytest.approx(expected, rel=0.06)
    place = (np.array([row.x, row.y, row.z]) - START_XYZ + 0.5) * nm - side * nm / 2
    assert abs(place @ unit) < 2 * nm


def plates(gap_voxels: int, between: int = 0) -> np.ndarray:
    """Two labels that fill the volume but for a gap between them along x."""
    array = np.full((12, 16, 30), 3, np.uint64)
    array[:, :, 10:] = between
    array[:, :, 10 + gap_voxels :] = 5
    return array


def test_gaps_are_crossed_up_to_the_limit_and_no_further(tmp_path):
    """Six voxels of 8 nm leave 56 nm between the centres of the voxels on either side, seven 64 nm."""
    area = 16 * 8.0 * 12 * 10.0
    for gap_voxels in (0, 1, 4, 6):
        _, contacts = measured(tmp_path, plates(gap_voxels), gap_nm=60)
        assert contacts["area_nm2"].tolist() == pytest.approx([area]), gap_voxels
    _, contacts = measured(tmp_path, plates(7), gap_nm=60)
    assert contacts.empty


def test_a_contact_ends_where_the_neurons_do(tmp_path):
    """Growth alone would let two facing bars meet three voxels beyond each of their edges."""
    array = plates(4)
    array[:, :4] = array[:, 12:] = 0
    _, contacts = measured(tmp_path, array, gap_nm=60)
    assert 8 <= contacts["area_nm2"].item() / (8.0 * 12 * 10) <= 11


def staple(feet: int) -> np.ndarray:
    """A bar above a plate, on feet that reach down to it through the zeros: 8 voxels of x and 6 of y each."""
    array = np.zeros((30, 20, 40), np.uint64)
    array[:8] = 3
    array[20:28, 4:16] = 5
    for foot in range(feet):
        array[8:20, 7:13, 4 + 12 * foot : 12 + 12 * foot] = 5
    return array


@pytest.mark.parametrize("feet", [0, 1, 2, 3])
@pytest.mark.parametrize("chunk", [8, 32])
def test_contact_sites_are_the_separate_places_of_touch(tmp_path, feet, chunk):
    """The bar itself is 12 voxels of 10 nm above the plate: out of reach."""
    _, contacts = measured(tmp_path, staple(feet), gap_nm=0, chunk=chunk, blocks=1)
    assert len(contacts) == bool(feet)
    for row in contacts.itertuples():
        assert row.sites == feet == len(row.sites_xyz) == len(row.site_areas_nm2)
        assert sum(row.site_areas_nm2) == pytest.approx(row.area_nm2)
        assert sorted(row.site_areas_nm2, reverse=True) == list(row.site_areas_nm2)
        for area in row.site_areas_nm2:
            assert area == pytest.approx(8 * 8.0 * 6 * 8.0, rel=0.05)
        assert [row.x, row.y, row.z] == list(row.sites_xyz[0])
        found = sorted((np.array(place) - START_XYZ).tolist() for place in row.sites_xyz)
        for foot, (x, y, z) in enumerate(found):
            assert (4 + 12 * foot <= x < 12 + 12 * foot, 7 <= y < 13, z) == (True, True, 7)


@settings(max_examples=30)
@given(apart=st.integers(0, 14), at=st.integers(-20, 20), border=st.integers(1, 30))
def test_places_as_near_as_a_membrane_is_thick_are_one_site(apart, at, border):
    """Two patches of 5 x 5 faces, with so many voxels between them, anywhere on the grid and on the blocks."""
    cell = 4
    x, y = np.meshgrid([*range(5), *range(5 + apart, 10 + apart)], range(5))
    faces = pd.DataFrame({"a": 1, "b": 2, "area_nm2": 1.0, "x": x.ravel() + at, "y": y.ravel(), "z": 0})
    found = sites.Sites((cell,) * 3)
    for start, stop in ((-30, border), (border, 60)):
        inside = faces[(faces["x"] >= start) & (faces["x"] < stop)].reset_index(drop=True)
        found.add(inside, Box((start, -8, -8), (stop, 8, 8)))
    (row,) = found.contacts().itertuples()
    if apart < cell:
        assert row.sites == 1
    if apart >= 2 * cell:
        assert row.sites == 2
    assert row.area_nm2 == 50


def test_neurons_with_another_between_them_do_not_touch(tmp_path):
    _, contacts = measured(tmp_path, plates(3, between=4), gap_nm=60)
    assert list(zip(contacts["a"], contacts["b"], strict=True)) == [(3, 4), (4, 5)]


def test_neurons_have_their_voxels_boxes_and_surfaces(exp):
    neurons = pd.read_parquet(exp.connectome / "neurons.parquet").set_index("neuron")
    array = objects()
    assert sorted(neurons.index) == sorted([BALL, ROD, DUST])
    for label, row in neurons.iterrows():
        places = np.argwhere(array == label)[:, ::-1] + START_XYZ
        assert row["voxels"] == len(places)
        assert row["volume_um3"] == pytest.approx(len(places) * VOXEL_NM3 / 1e9)
        assert row[["x0", "y0", "z0"]].tolist() == places.min(axis=0).tolist()
        assert row[["x1", "y1", "z1"]].tolist() == (places.max(axis=0) + 1).tolist()
    assert neurons.loc[BALL, "surface_um2"] == pytest.approx(4 * pi * RADIUS_NM**2 / 1e6, rel=0.03)
    assert neurons.loc[ROD, "surface_um2"] == pytest.approx(2 * pi * 40 * (ROD_NM + 40) / 1e6, rel=0.08)
    assert neurons.loc[ROD, "cable_nm"] == pytest.approx(ROD_NM, abs=80)
    assert np.isnan(neurons.loc[DUST, "cable_nm"])


def test_the_graph_is_the_table(tmp_path):
    made = published.experiment(tmp_path)
    rng = np.random.default_rng(1)
    published.add(made, "neurons", np.kron(rng.integers(0, 9, (3, 3, 3)), np.ones((5, 5, 5))).astype(np.uint64))
    connectome.run(made)
    contacts = pd.read_parquet(made.connectome / "contacts.parquet")
    neurons = pd.read_parquet(made.connectome / "neurons.parquet").set_index("neuron")
    graph = networkx.read_graphml(made.connectome / "contacts.graphml", node_type=int)
    assert len(contacts) > 5
    assert (contacts["a"] < contacts["b"]).all()
    assert {(a, b): area for a, b, area in graph.edges(data="area_nm2")} == {
        (row.a, row.b): row.area_nm2 for row in contacts.itertuples()
    }
    assert dict(graph.nodes(data="voxels")) == neurons["voxels"].to_dict()
    assert dict(graph.degree()) == neurons["contacts"].to_dict()
    assert {(a, b): n for a, b, n in graph.edges(data="sites")} == {
        (row.a, row.b): row.sites for row in contacts.itertuples()
    }
    extent = sqrt(sum(size**2 for size in (15 * 8, 15 * 8, 15 * 10)))
    assert contacts["area_nm2"].max() < extent**2


# --- the viewer's state ----------------------------------------------------------------------------------------------


def test_the_viewer_opens_on_layers_that_exist(exp):
    written = read_json(exp.folder / "neuroglancer.json")
    view = ViewerState(written)
    assert [layer.name for layer in view.layers] == ["image", "neurons"]
    for layer in view.layers:
        (source,) = layer.layer.source
        folder = exp.folder / source.url.removeprefix(f"precomputed://{exp.config.publishing.data_url}/")
        info = read_json(folder / "info")
        assert info["type"] == layer.layer.type
        for kind in {"mesh", "skeletons"} & info.keys():
            assert (folder / info[kind] / "info").is_file()
    assert view.dimensions.to_json() == {"x": [8e-9, "m"], "y": [8e-9, "m"], "z": [1e-8, "m"]}
    assert view.position.tolist() == [136, 2, 31]
    # A segment without a mesh or a skeleton keeps the viewer waiting.
    both = igneous.finished(exp.layer("neurons"), "mesh") & igneous.finished(exp.layer("neurons"), "skeletons")
    assert both
    assert set(view.layers["neurons"].segments) == both


def test_the_state_names_the_layers_that_there_are(tmp_path):
    made = published.experiment(tmp_path)
    image = np.arange(20**3, dtype=np.uint8).reshape(20, 20, 20)
    published.add(made, "image", image)
    published.add(made, "labels", np.ones((20, 20, 20), np.uint64))
    layers = ViewerState(state.build(made, "https://example.org/exp")).layers
    assert [layer.name for layer in layers] == ["image", "truth"]
    assert layers["truth"].source[0].url == "precomputed://https://example.org/exp/labels"
