"""The whole chain on a tiny volume: every result is there, nothing runs twice, a change reruns what depends on it."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
import yaml
from running import Workflow

from floodline.experiment import Experiment
from floodline.manifest import read_block
from floodline.volumes.layer import Layer


@pytest.fixture(scope="module")
def experiment(tiny) -> Experiment:
    return Experiment(tiny.folder / "results" / "tiny")


def test_every_result_is_there(experiment):
    folder = experiment.folder
    for name in (
        *("config.yaml", "partitions.h5", "coordinates/manifest.json", "training/main/log.csv"),
        *("training/main/metrics.json", "model/weights.npz", "model/card.json", "inference/manifest.json"),
        *("agglomeration/edges.parquet", "agglomeration/mapping.parquet", "agglomeration/graph.graphml"),
        *("connectome/neurons.parquet", "connectome/contacts.parquet", "connectome/contacts.graphml"),
        *("quality/manifest.json", "evaluation/metrics.json", "report.html", "provenance.json"),
    ):
        assert (folder / name).stat().st_size > 0, name


def test_layers_cover_the_image(experiment):
    box = experiment.image_box
    for name in ("image", "labels", "supervoxels", "neurons"):
        layer = Layer.open(experiment.layer(name))
        assert layer.box == box, name
        assert layer.read(box).any(), name
        assert Layer.open(experiment.layer(name), mip=1).read(Layer.open(experiment.layer(name), mip=1).box).any()


def test_scores_are_of_the_configured_box_in_both_conventions(experiment):
    records = json.loads(experiment.metrics.read_text())
    keys = {(r["segmentation"], r["box_name"], r["convention"]) for r in records}
    assert keys >= {
        (segmentation, "held_out", convention)
        for segmentation in ("supervoxels", "neurons")
        for convention in ("labelled_by_both", "all_labelled")
    }
    for record in records:
        assert 0 <= record["coverage"] <= 1
        assert record["box_xyz"] == [[48, 0, 0], [72, 64, 56]]


def test_training_used_two_ranks(experiment):
    assert json.loads((experiment.training / "metrics.json").read_text())["ranks"] == 2


def test_the_viewer_was_photographed_and_a_flood_kept(experiment):
    """Or there is a sentence why not; this network may flood nothing of few calls."""
    screenshots = json.loads((experiment.folder / "screenshots/manifest.json").read_text())
    assert bool(screenshots["pictures"]) != bool(screenshots["why"])
    block = read_block(experiment.inference / "example.block")
    assert len(block["frames"]) == len(block["calls"])


def test_costs_are_known_of_every_step(experiment):
    steps = json.loads((experiment.folder / "provenance.json").read_text())["steps"]
    assert {"train", "flood_0", "flood_1", "meshes", "connectome"} <= steps.keys()
    for name, step in steps.items():
        assert step["seconds"] > 0, name
        assert (step["reserved"], step["unit"]) in [(1, "cores"), (2, "cores")], name
    assert steps["train"]["reserved"] == 2


def test_snakemakes_own_report_has_the_page_and_the_scores(tiny, experiment):
    tiny("--report", "own.html")
    own = (tiny.folder / "own.html").read_text()
    assert "What came of tiny: slices beside the truth" in own
    assert "Every score of tiny with its box" in own
    for file in (experiment.folder / "report.html", experiment.metrics):
        # Snakemake packs them as data URLs.
        assert base64.b64encode(file.read_bytes()).decode()[:2000] in own


def test_the_second_run_does_nothing(tiny):
    assert "Nothing to be done" in tiny()


def test_a_changed_agglomeration_value_reruns_agglomeration_and_what_follows(tiny):
    planned = tiny.planned("--config", "agglomeration={solver: {threshold: 0.123}}")
    assert {"solve", "neurons", "metrics", "report_page"} <= planned.keys()
    assert not planned.keys() & {"ingest_image", "partitions", "train_network", "flood", "supervoxels", "region_graph"}


def test_a_model_of_the_contacts_is_trained_on_the_way(tiny):
    model = "results/tiny/agglomeration/model.json"
    planned = tiny.planned("--config", f"agglomeration={{model: {model}, resegmentation: {{}}}}")
    assert {"resegment", "fit_scores", "edge_scores", "solve"} <= planned.keys()
    assert not planned.keys() & {"flood", "supervoxels", "region_graph"}


def test_a_mask_reruns_those_that_it_is_closed_to(tiny):
    everywhere = tiny.planned("--config", "masks=[{kind: quality}]")
    assert {"partitions", "flood"} <= everywhere.keys()
    seeds = tiny.planned("--config", "masks=[{kind: border, closed_to: [seeds]}]")
    assert "flood" in seeds
    assert not seeds.keys() & {"ingest_image", "partitions", "train_network"}


def test_a_changed_file_that_the_floods_read_reruns_them(tiny, tmp_path):
    points = tmp_path / "points.csv"
    points.write_text("x,y,z\n20,20,20\n")
    copy = Workflow(Path(shutil.copytree(tiny.folder, tmp_path / "run", symlinks=True)), tiny.configuration)
    seeds = ("--config", f"inference={{seeds: [{{policy: points, path: {points}}}]}}")
    copy("infer", *seeds)
    assert not copy.planned("infer", *seeds)
    points.write_text("x,y,z\n30,30,30\n")
    assert copy.planned("infer", *seeds) == {"flood": 2, "inference_manifest": 1, "infer": 1}


def test_a_changed_network_reruns_training_and_what_follows_and_nothing_before_it(tiny):
    planned = tiny.planned("--config", "training={fovs: 512}")
    assert {"train_network", "flood", "supervoxels", "report_page"} <= planned.keys()
    assert not planned.keys() & {"ingest_image", "ingest_labels", "partitions", "coordinates"}


@pytest.mark.parametrize(
    "target",
    ["ingest", "quality", "labels", "train", "infer", "assemble", "agglomerate", "evaluate", "publish", "report"],
)
def test_named_targets_exist_and_are_up_to_date(tiny, target):
    assert "Nothing to be done" in tiny(target)


def test_an_unknown_key_is_one_sentence_and_nothing_is_written(tiny, tmp_path):
    values = yaml.safe_load(tiny.configuration.read_text())
    values["agglomeraton"] = {}
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump(values))
    output = Workflow(tmp_path / "new", bad)(ok=False)
    assert "unknown key 'agglomeraton': did you mean 'agglomeration'?" in output
    assert "Traceback" not in output
    assert not (tmp_path / "new" / "results").exists()
