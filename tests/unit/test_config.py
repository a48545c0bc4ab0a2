"""The configuration: strict, documented, and in step with its schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from floodline import config as configuration
from floodline import reference
from floodline.errors import FloodlineError

ROOT = Path(__file__).parents[2]
PHANTOM = {"kind": "phantom"}
LABELLED = {"labels": {"source": PHANTOM}}
SMALLEST = {"name": "x", "image": {"source": PHANTOM}, "network": {"weights": "w"}}


def sentence(**changes: object) -> str:
    with pytest.raises(FloodlineError) as caught:
        configuration.parse({**SMALLEST, **changes})
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_committed_schema_is_the_models_own():
    committed = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert committed == configuration.schema(), "make schema"


def test_the_committed_reference_is_the_models_own():
    assert (ROOT / "config/README.md").read_text() == reference.markdown() + "\n", "make schema"


def test_the_reference_has_every_key_of_every_block():
    text = reference.markdown()
    schema = configuration.schema()
    for model in [schema, *schema["$defs"].values()]:
        rows = [f"| `{key}` |" for key in model["properties"]]
        assert all(row in text for row in rows), rows


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    configuration.load(path)


def test_the_resolved_configuration_says_the_same_as_the_one_it_came_from():
    config = configuration.parse(SMALLEST)
    assert configuration.parse(yaml.safe_load(configuration.dump(config))) == config


def test_every_key_is_described():
    schema = configuration.schema()
    for model in [schema, *schema["$defs"].values()]:
        for key, value in model.get("properties", {}).items():
            block = schema["$defs"].get(value.get("$ref", "").removeprefix("#/$defs/"), {})
            assert value.get("description") or block.get("description") or {"const", "enum"} & value.keys(), key


def test_unknown_keys_are_named_with_the_nearest_right_one():
    assert "unknown key 'agglomeraton': did you mean 'agglomeration'?" in sentence(agglomeraton={})
    text = sentence(image={"source": {"kind": "phantom", "sise_xyz": [1, 1, 1]}})
    assert "unknown key 'image.source.sise_xyz': did you mean 'size_xyz'?" in text
    text = sentence(inference={"seeds": [{"policy": "peaks"}, {"policy": "grid", "steps": 3}]})
    assert "unknown key 'inference.seeds.1.steps': did you mean 'step'?" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"points": 3}, "unknown key 'points'"),
        ({"sites": {"box": 1}}, "unknown key 'sites.box': did you mean 'box_xyz'?"),
        ({"quality": {"black": 2}}, "key 'quality.black': input should be less than or equal to 1 (given: 2)."),
        ({"quality": 3}, "key 'quality': "),
        ({"evaluation": {"boxes": [{"name": 3}]}}, "key 'evaluation.boxes.0.name': "),
    ],
)
def test_a_key_is_named_in_full_even_if_a_union_has_a_kind_of_that_name(wrong, said):
    assert said in sentence(**wrong)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"network": {"weights": "w", "fov_xyz": [32, 33, 33]}}, "fov_xyz must be odd"),
        ({"network": {"weights": "w", "deltas_xyz": [17, 8, 8]}}, "must not exceed half of fov_xyz"),
        ({**LABELLED, "training": {"first_views": [{"fovs": 9, "fov_xyz": [35, 17, 17]}]}}, "must not be larger than"),
        ({**LABELLED, "training": {"first_views": [{"fovs": 9, "deltas_xyz": [9, 8, 8]}]}}, "nor move further than"),
        ({"training": {"fovs": 90, "first_views": [{"fovs": 60}, {"fovs": 30}]}}, "leaves none of fovs 90"),
        ({"training": {"fovs": 90, "learning_rate": {"warmup_fovs": 90}}}, "leaves none of fovs 90"),
        ({"network": {}}, "either training or network.weights"),
        ({"training": {}}, "training needs labels"),
        ({"image": {"source": {"kind": "phantom"}, "crop_xyz": [[0, 0, 5], [9, 9, 5]]}}, "is empty"),
        ({"image": {"source": {"kind": "hdf5", "path": "p"}}}, "key 'image.source.dataset' is missing"),
        ({"inference": {"subvolume_size_xyz": [64, 64, 64], "overlap_xyz": [64, 0, 0]}}, "must be smaller than"),
        ({"inference": {"subvolume_size_xyz": [30, 64, 64]}}, "must hold at least one network.fov_xyz"),
        ({"inference": {"seeds": [{"policy": "peeks"}]}}, "'inference.seeds.0'"),
        ({"inference": {"flood": {"init_activation": 0.5}}}, "is less than move_threshold 0.9"),
        ({"agglomeration": {"resegmentation": {"undecided": [0.8, 0.8]}}}, "between which no score lies"),
        ({"agglomeration": {"resegmentation": {"radius_xyz": [16, 15, 16]}}}, "less than half a network.fov_xyz"),
        ({"masks": [{"kind": "intensity"}]}, "needs min or max"),
        ({"masks": [{"kind": "box", "boxes_xyz": [[[0, 0, 5], [9, 9, 5]]]}]}, "is empty"),
        ({"inference": {"shift_mask": {"dx": PHANTOM, "dy": PHANTOM, "fov_xyz": [4, 5, 5]}}}, "must be odd"),
        ({"seed": -1}, "'seed'"),
        ({"name": "a b"}, "'name'"),
    ],
)
def test_impossible_values_are_one_sentence(changes, says):
    assert says in sentence(**changes)


def test_the_folder_of_the_data_is_one_key():
    config = configuration.parse(
        {**SMALLEST, "data": "/d", "image": {"source": {"kind": "stack", "path": "{data}/*.png"}}}
    )
    assert config.image.source.path == "/d/*.png"


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FloodlineError, match="does not exist"):
        configuration.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(FloodlineError, match="not valid YAML"):
        configuration.load(broken)
