"""The report: one page that stands alone, and that shows what the run's files say."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import published
import pytest
from PIL import Image

from floodline.evaluation import run as evaluation
from floodline.experiment import Experiment
from floodline.manifest import read_json, write_atomically, write_block, write_json, write_text
from floodline.publishing import connectome, page, report, viewer

SHAPE_ZYX = (40, 44, 48)
TRAINING_LOG = "fovs,loss,accuracy,precision,recall,f1,learning_rate,gradient_norm,fovs_per_second\n" + "".join(
    f"{2000.0 * i},{1 / i},0.9,0.8,0.7,0.75,0.001,0.5,20.0\n" for i in range(1, 60)
)
BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
# What Snakemake adds with `benchmark-extended`.
EXTENDED = BENCHMARK.rstrip() + "\tjobid\trule_name\twildcards\tparams\tthreads\tcpu_usage\tresources\tinput_size_mb\n"
MEASURED = "\t0:10:01\t2345.6\t2\t2\t2\t2\t2\t90\t777.25\t3\tx\t{}\t{'config': {'a': \"b'\"}}\t2\t9\t"


class Page(HTMLParser):
    """Tables, texts and whatever is fetched of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.texts: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.tag = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tag = tag
        urls = [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        # A link is not fetched before somebody follows it.
        (self.links if tag == "a" else self.fetched).extend(urls)
        assert tag not in ("script", "iframe", "object", "embed")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")
        elif tag == "a" and self.tables and self.tables[-1][-1]:
            # The text of a link is the cell's.
            self.tag = "td"

    def handle_data(self, data):
        self.texts.append(data)
        if self.tag in ("td", "th"):
            self.tables[-1][-1][-1] += data.strip()
        elif self.tag == "h2":
            self.headings[-1] += data.strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def rows(self, *columns: str) -> list[dict[str, str]]:
        """The rows of the table that has these columns."""
        (table,) = (t for t in self.tables if set(columns) <= set(t[0]))
        return [dict(zip(table[0], row, strict=True)) for row in table[1:]]

    def pictures(self, kind: str) -> list[bytes]:
        start = f"data:{kind};base64,"
        return [base64.b64decode(url.removeprefix(start)) for url in self.fetched if url.startswith(start)]


def volumes() -> tuple[np.ndarray, ...]:
    """An image, its labels, supervoxels with a split, and neurons with a merger."""
    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 13).reshape(2, 2, 3), np.ones((20, 22, 16))).astype(np.uint64)
    labels[:, 20:22] = 0
    supervoxels = labels.copy()
    supervoxels[:10][labels[:10] == 1] = 99
    neurons = supervoxels.copy()
    neurons[neurons == 6] = 5
    neurons[neurons == 12] = 0
    return rng.integers(60, 200, SHAPE_ZYX, dtype=np.uint8), labels, supervoxels, neurons


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment that has everything."""
    made = published.experiment(
        tmp_path_factory.mktemp("report"),
        name="a-b.c",
        labels={"source": {"kind": "phantom"}},
        evaluation={
            "boxes": [
                {"name": "other", "box_xyz": [[100, -20, 7], [124, 24, 47]]},
                {"name": "held_out", "box_xyz": [[110, -20, 7], [148, 20, 40]]},
            ],
            "merge_threshold_nodes": 5,
        },
    )
    for name, array in zip(("image", "labels", "supervoxels", "neurons"), volumes(), strict=True):
        published.add(made, name, array)
    evaluation.run(made)
    connectome.run(made)
    for path, text in (
        (made.training / "log.csv", TRAINING_LOG),
        (made.folder / "benchmarks" / "train.tsv", f"{EXTENDED}601.5{MEASURED}{{'_cores': 2, 'tasks': 2}}\t1\n"),
        (made.folder / "benchmarks" / "flood.tsv", f"{EXTENDED}1800{MEASURED}{{'_cores': 2, 'nodes': 16}}\t1\n"),
        (made.folder / "benchmarks" / "solve.tsv", f"{BENCHMARK}0.04\t0:00:00\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    blocks = [{"box_xyz": [[0, 0, 0], [10, 10, 10]], "segments": 3, "seconds": 2.0, "network_calls": 50}] * 2
    write_json(made.manifest("inference"), {"blocks": blocks})
    frames = np.zeros((3, SHAPE_ZYX[0], SHAPE_ZYX[2]), np.uint8)
    for i, frame in enumerate(frames, start=1):
        frame[20 - 4 * i : 20 + 4 * i, 24 - 6 * i : 24 + 6 * i] = 250
    plane = {"box_xyz": np.array([[100, 2, 7], [148, 3, 47]]), "seed_xyz": np.array([124, 2, 27])}
    flood = {"frames": frames, "calls": np.array([1, 1200, 3400])} | plane
    write_block(made.inference / "example.block", "parameters", flood)
    screenshot = {"file": "viewer.jpg", "caption": "The viewer as it opens."}
    write_json(made.folder / "screenshots/manifest.json", {"pictures": [screenshot], "why": "The browser grew tired."})
    Image.new("RGB", (90, 60), (10, 200, 30)).save(made.folder / "screenshots/viewer.jpg")
    report.run(made)
    return made


@pytest.fixture(scope="module")
def shown(exp) -> Page:
    return Page((exp.folder / "report.html").read_text())


def value(text: str) -> float:
    return float("nan") if text == "–" else float(text.replace("\u202f", "").replace("\xa0", "").replace(" ", ""))


def close(text: str, number: float | None) -> bool:
    """Whether a number on the page is this one, rounded to three figures or more."""
    return text == "–" if number is None else value(text) == pytest.approx(number, rel=6e-3, abs=6e-4)


def test_the_page_stands_alone(exp, shown):
    html = (exp.folder / "report.html").read_text()
    assert all(url.startswith("data:") for url in shown.fetched)
    assert all(url.startswith(viewer.ADDRESS) for url in shown.links)
    outside = re.findall(r"(?:url\(|@import|src=.?)\s*['\"]?\s*(?:https?:)?//", html)
    assert not outside
    assert html.startswith("<!doctype html>")
    assert "<title>a-b.c" in html


def test_every_score_is_on_the_page(exp, shown):
    records = read_json(exp.metrics)
    names = {
        "voxels": "voxels", "coverage": "coverage", "voi_split": "VOI split", "voi_merge": "VOI merge",
        "adapted_rand_error": "adapted Rand", "precision": "precision", "recall": "recall", "rand_error": "Rand error",
        "cremi": "CREMI",
    }  # fmt: skip
    rows = shown.rows("box", "VOI split")
    assert len(rows) == len(records) == 8
    numbers = 0
    for record, row in zip(records, rows, strict=True):
        assert row["box"] == record["box_name"].replace("_", " ")
        assert row["segmentation"] == record["segmentation"]
        scores = {key: score for key, score in record.items() if isinstance(score, int | float) or score is None}
        assert scores.keys() == names.keys()
        for key, score in scores.items():
            assert close(row[names[key]], score), (key, row[names[key]], score)
            numbers += bool(score)
    assert numbers > 40

    along = [record["skeletons"] for record in records if "skeletons" in record]
    assert len(along) == 4
    for scores, row in zip(along, shown.rows("run length, nm"), strict=True):
        cells = list(row.values())[2:]
        assert len(cells) == len(scores)
        for score in scores.values():
            assert any(close(cell, score) for cell in cells), (score, row)
    found = [row for record in records for row in record.get("detection", [])]
    for counts, row in zip(found, shown.rows("voxels from"), strict=True):
        assert [value(cell) for cell in list(row.values())[2:]] == list(counts.values())
    intervals = [bounds for record in records for bounds in record["intervals"].values()]
    table = shown.rows("low", "high") if intervals else []
    for (low, high), row in zip(intervals, table, strict=True):
        assert close(row["low"], low)
        assert close(row["high"], high)


def test_the_worst_mistakes_are_listed_with_their_places(exp, shown):
    worst = read_json(exp.metrics.with_name("worst.json"))
    assert worst
    for mistake, row in zip(worst, shown.rows("mistake"), strict=True):
        assert row["mistake"] == mistake["kind"]
        assert row["x, y, z"] == ", ".join(map(str, mistake["position_xyz"]))
        place, segments = (",".join(map(str, mistake[key])) for key in ("position_xyz", "segments"))
        assert f"{viewer.ADDRESS}?at={place}&{mistake['segmentation']}={segments}" in shown.links


def test_the_sentence_at_the_top_is_about_the_held_out_neurons(exp, shown):
    (best,) = (
        record
        for record in read_json(exp.metrics)
        if (record["segmentation"], record["box_name"], record["convention"]) == ("neurons", "held_out", "all_labelled")
    )
    sentence = next(text for text in shown.texts if text.startswith("On the"))
    assert "held-out box" in sentence
    assert f"adapted Rand error of {best['adapted_rand_error']:.3f}" in sentence
    assert f"({best['voi_split']:.2f} split + {best['voi_merge']:.2f} merge" in sentence
    assert f"{100 * best['coverage']:.1f}% of the labelled voxels" in sentence


def test_every_picture_decodes_and_shows_its_layer(exp, shown):
    pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in shown.pictures("image/jpeg")]
    assert len(pictures) == 3 * 4 + 1 + 3
    pictures = pictures[: 3 * 4]
    for image, supervoxels, neurons, truth in zip(*[iter(pictures)] * 4, strict=True):
        assert image.shape == supervoxels.shape == neurons.shape == truth.shape
        # Greys in the image, and colours on everything else.
        assert np.ptp(image.astype(int), axis=2).mean() < 3
        for coloured in (supervoxels, neurons, truth):
            assert np.ptp(coloured.astype(int), axis=2).mean() > 20
    # The voxels measure 8, 8 and 10 nm.
    height, width, _ = pictures[4].shape
    assert width / height == pytest.approx(48 * 8 / (40 * 10), rel=0.02)


def test_plots_are_drawings_with_their_axes(shown):
    drawings = [ElementTree.fromstring(data) for data in shown.pictures("image/svg+xml")]
    texts = ["".join(drawing.itertext()) for drawing in drawings]
    for label in ("loss", "learning rate", "f1", "volume, µm³", "seconds"):
        assert any(label in text for text in texts), label


def test_training_shows_held_out_scores_the_choice_of_the_checkpoint_and_augmentation(tmp_path):
    first_views = [{"fov_xyz": [17, 17, 17], "deltas_xyz": [4, 4, 4], "fovs": 8}]
    training = {"training": {"fovs": 2000, "first_views": first_views}, "labels": {"source": {"kind": "phantom"}}}
    made = published.experiment(tmp_path, **training)
    published.add(made, "image", volumes()[0])
    write_text(
        made.training / "log.csv",
        "fovs,loss,accuracy,precision,recall,f1,learning_rate,held_out_accuracy,held_out_precision,held_out_recall,"
        "held_out_f1\n10,1,0.9,0.8,0.7,0.75,0.1,,,,\n20,0.5,0.9,0.8,0.7,0.75,0.1,0.91,0.83,0.72,0.77\n",
    )
    scores = {"voi_split": 0.5, "voi_merge": 0.25, "coverage": 0.9, "convention": "all_labelled"}
    floods = [
        {"fovs": 10, "adapted_rand_error": 0.125, "chosen": True, **scores},
        {"fovs": 20, "adapted_rand_error": None, "chosen": False},
    ]
    write_json(made.training / "metrics.json", {"checkpoints": floods})
    grey = io.BytesIO()
    Image.new("L", (3, 3)).save(grey, "PNG")
    for name in ("0.png", "1.png"):
        write_atomically(made.training / "augmentation" / name, lambda file: file.write(grey.getvalue()))
    write_json(made.training / "augmentation/pictures.json", {"0.png": "as it is", "1.png": "blurred sections"})
    report.run(made)
    shown = Page((tmp_path / "report.html").read_text())
    assert "8 fields of view of 17 × 17 × 17 voxels, then 12 fields of view of 33 × 33 × 33 voxels." in shown.text
    first, second = shown.rows("fields of view seen", "adapted Rand error")
    assert close(first["adapted Rand error"], 0.125)
    assert second["adapted Rand error"] == "–"
    assert "every labelled voxel counts" in shown.text
    assert len(shown.pictures("image/png")) == 2
    assert "blurred sections" in shown.text
    drawings = ["".join(ElementTree.fromstring(data).itertext()) for data in shown.pictures("image/svg+xml")]
    assert any("of voxels in held-out patches" in text for text in drawings)


def test_the_times_are_those_of_the_benchmarks(shown):
    rows = {row["step"]: row for row in shown.rows("step", "seconds")}
    assert rows.keys() == {"train", "flood", "solve"}
    assert close(rows["train"]["seconds"], 601.5)
    assert close(rows["train"]["processor seconds"], 777.25)
    assert value(rows["train"]["peak memory, MB"]) == 2346
    assert rows["solve"]["peak memory, MB"] == "–"


def test_a_step_costs_what_was_reserved_for_its_time(shown):
    rows = {row["step"]: row for row in shown.rows("step", "seconds")}
    assert (rows["train"]["reserved"], rows["flood"]["reserved"]) == ("2 cores", "16 nodes")
    assert close(rows["train"]["unit-hours"], 2 * 601.5 / 3600)
    assert close(rows["flood"]["unit-hours"], 8)
    assert (rows["solve"]["reserved"], rows["solve"]["unit-hours"]) == ("–", "–")
    assert "0.334 core-hours and 8.000 node-hours in all" in shown.text


def test_one_neuron_fills(shown):
    assert "flooded once more from its seed at 124, 2, 27: the xz slice" in shown.text
    for title in ("1 call", "1 200 calls", "3 400 calls"):
        assert title in shown.texts
    pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in shown.pictures("image/jpeg")][-3:]
    blue = [int((picture[..., 2].astype(int) - picture[..., 0] > 30).sum()) for picture in pictures]
    # The areas grow as 1, 4 and 9.
    assert blue[1] / blue[0] == pytest.approx(4, rel=0.2)
    assert blue[2] / blue[0] == pytest.approx(9, rel=0.2)


def test_pictures_of_the_viewer_are_on_the_page_or_the_reason_why_not(shown):
    greens = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in shown.pictures("image/jpeg")]
    assert any(picture.shape == (60, 90, 3) and picture[..., 1].min() > 150 for picture in greens)
    assert "The viewer as it opens." in shown.text
    assert "The browser grew tired." in shown.text
    assert viewer.ADDRESS in shown.links


def test_who_touches_whom_is_a_matrix_and_a_graph(exp, shown):
    contacts = pd.read_parquet(exp.connectome / "contacts.parquet")
    assert f"{len(contacts)} pairs of neurons touch, at {contacts['sites'].sum()} separate places" in shown.text
    texts = ["".join(ElementTree.fromstring(data).itertext()) for data in shown.pictures("image/svg+xml")]
    assert sum("area of contact, µm²" in text for text in texts) == 1
    (graph,) = (text for text in texts if "x, µm" in text)
    for neuron in pd.read_parquet(exp.connectome / "neurons.parquet")["neuron"]:
        assert str(neuron) in graph


def test_flooding_and_the_configuration_are_told(shown):
    assert "2 overlapping sub-volumes were flooded with 100 network calls, 50.00 per thousand voxels" in shown.text
    assert "25.0 calls a second" in shown.text
    assert "merge_threshold_nodes: 5" in shown.text


def test_provenance_changes_with_the_files_and_only_with_them(exp):
    first = read_json(exp.folder / "provenance.json")
    measured = {"seconds": 601.5, "cpu_seconds": 777.25, "peak_mb": 2345.6}
    assert first["steps"]["train"] == measured | {"reserved": 2, "unit": "cores"}
    assert {"config.yaml", "image/manifest.json", "image/mips.json", "evaluation/metrics.json"} <= first["files"].keys()
    assert first["packages"]["numpy"] == np.__version__
    report.run(exp)
    again = read_json(exp.folder / "provenance.json")
    assert first | {"reported": ""} == again | {"reported": ""}
    table = exp.connectome / "neurons.parquet"
    kept = table.read_bytes()
    table.write_bytes(kept + b" ")
    changed = report.provenance.collect(exp)["files"]
    table.write_bytes(kept)
    assert {name for name in changed if changed[name] != first["files"][name]} == {"connectome/neurons.parquet"}


def test_an_image_alone_is_enough(tmp_path):
    made = published.experiment(tmp_path)
    published.add(made, "image", volumes()[0])
    report.run(made)
    shown = Page((tmp_path / "report.html").read_text())
    assert len(shown.pictures("image/jpeg")) == 3
    assert shown.headings == ["What it looks like", "What was asked", "What made it"]


def test_without_labels_and_training_there_are_neurons_and_no_scores(tmp_path):
    made = published.experiment(tmp_path)
    image, _, supervoxels, neurons = volumes()
    for name, array in (("image", image), ("supervoxels", supervoxels), ("neurons", neurons)):
        published.add(made, name, array)
    evaluation.run(made)
    connectome.run(made)
    report.run(made)
    shown = Page((tmp_path / "report.html").read_text())
    assert len(shown.pictures("image/jpeg")) == 3 * 3
    assert shown.headings == ["What it looks like", "Neurons", "What was asked", "What made it"]
    assert f"segmented into {len(np.unique(neurons)) - 1} neurons; without labels, nothing was scored" in shown.text


def test_undefined_scores_are_dashes(exp, tmp_path):
    made = published.experiment(tmp_path, labels={"source": {"kind": "phantom"}})
    image, labels, supervoxels, _ = volumes()
    nothing = np.zeros_like(labels)
    for name, array in (("image", image), ("labels", labels), ("supervoxels", supervoxels), ("neurons", nothing)):
        published.add(made, name, array)
    evaluation.run(made)
    report.run(made)
    rows = Page((tmp_path / "report.html").read_text()).rows("box", "VOI split")
    assert json.loads(made.metrics.read_text())[2]["voi_split"] is None
    assert (rows[2]["segmentation"], rows[2]["VOI split"]) == ("neurons", "–")


def test_names_cannot_break_the_page():
    assert page.paragraph("<script>&") == "<p>&lt;script&gt;&amp;</p>\n"
    assert "<script>" not in page.table(["<script>"], [["<script>"]], caption="<script>")
