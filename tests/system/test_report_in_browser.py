"""The report in a real browser: on a phone, on paper, served by the viewer; and pictures of the viewer."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from PIL import Image
from serving import FLOODLINE, MERGER_XYZ

from floodline import browser
from floodline import config as configuration
from floodline.evaluation import run as evaluation
from floodline.experiment import Experiment
from floodline.manifest import read_json
from floodline.publishing import connectome, report, screenshots, state, viewer

CHROMIUM = browser.program()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (Debian: apt-get install chromium)")
PHONE, DESK = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def reported(shown: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The experiment with scores, a connectome, pictures of the viewer and a report."""
    folder = tmp_path_factory.mktemp("reported") / "shown"
    shutil.copytree(shown.folder, folder, symlinks=True)
    values = yaml.safe_load((folder / "config.yaml").read_text()) | {"labels": {"source": {"kind": "phantom"}}}
    (folder / "config.yaml").write_text(configuration.dump(configuration.parse(values)))
    made = Experiment(folder)
    evaluation.run(made)
    # A mistake, for a truth that was taken as the segmentation has none.
    worst = made.metrics.with_name("worst.json")
    worst.write_text((shown.folder / "evaluation" / "worst.json").read_text())
    connectome.run(made)
    state.run(made)
    photograph(folder, os.environ["PATH"])
    report.run(made)
    return made


def photograph(folder: Path, path: str) -> None:
    """`floodline publish screenshots`, with this search path for programs."""
    command = [FLOODLINE, "publish", folder, "screenshots"]
    subprocess.run(command, env=os.environ | {"PATH": path}, check=True, capture_output=True)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser.page(CHROMIUM, DESK) as made:
        made.set_default_timeout(1000 * screenshots.SECONDS_TO_LOAD)
        made.asked = []
        made.on("request", lambda request: made.asked.append(request.url))
        yield made


def opened(page: Any, experiment: Experiment, size: tuple[int, int]) -> Any:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(f"file://{experiment.folder / 'report.html'}")
    return page


@pytest.mark.parametrize("size", [PHONE, (320, 600), DESK], ids=["phone", "small phone", "desk"])
def test_nothing_is_wider_than_the_screen(page, reported, size):
    opened(page, reported, size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    # Every picture is there, and no larger than the screen.
    widths = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.getBoundingClientRect().width])")
    assert len(widths) > 10
    assert all(natural > 0 and 0 < drawn <= size[0] for natural, drawn in widths)


def test_no_page_from_outside_is_asked_for(page, reported):
    page.asked.clear()
    opened(page, reported, DESK)
    assert [url for url in page.asked if not url.startswith(("file://", "data:"))] == []


def test_on_paper_everything_is_there_and_nothing_is_cut_off(page, reported):
    opened(page, reported, DESK)
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40
    page.emulate_media(media="print")
    # What is folded on the screen is open on paper.
    heights = page.evaluate("[...document.querySelectorAll('details')].map(d => d.getBoundingClientRect().height)")
    assert heights and min(heights) > 60
    page.emulate_media(media="screen")


@pytest.fixture(scope="module")
def served(reported: Experiment) -> Iterator[str]:
    with viewer.Server(reported, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


def test_the_viewers_link_leads_to_the_report_and_the_report_to_a_mistake(page, reported, served):
    page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    page.goto(served)
    page.wait_for_function(screenshots.OPEN)
    page.get_by_text("Report", exact=True).click()
    page.wait_for_url("**/report.html")
    assert page.locator("h1").inner_text() == "test"
    page.get_by_text("The largest mistakes").click()
    page.get_by_role("link", name=", ".join(map(str, MERGER_XYZ))).first.click()
    page.wait_for_url("**/v/floodline/**")
    page.wait_for_function(screenshots.OPEN)
    assert page.url.startswith(served)
    position = page.evaluate("[...viewer.position.value]")
    assert position == [voxel + 0.5 for voxel in MERGER_XYZ]
    assert re.search(r'"segments":\["1"\]', unquote(page.url))


def test_the_viewer_is_photographed(reported):
    made = read_json(reported.folder / "screenshots/manifest.json")
    assert made["why"] == ""
    assert [one["file"] for one in made["pictures"]] == ["viewer.jpg", "merger.jpg", "split.jpg"]
    for one in made["pictures"]:
        picture = np.asarray(Image.open(reported.folder / "screenshots" / one["file"]).convert("RGB"))
        assert picture.shape[:2] == screenshots.SIZE[::-1]
        half = picture.shape[0] // 2
        for quarter in (picture[50:half, :600], picture[50:half, 600:], picture[half:, :600], picture[half:, 600:]):
            assert len(np.unique(quarter.reshape(-1, 3), axis=0)) > 150


def test_neurons_are_in_the_report_in_3d(reported):
    html = (reported.folder / "report.html").read_text()
    caption = "largest neurons, in the colours of the viewer"
    encoded = re.search(rf'<img src="data:image/jpeg;base64,([^"]*)" alt="The \d+ {caption}"', html)
    assert encoded
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded[1])))).astype(int)
    selected = next(la for la in read_json(reported.folder / "neuroglancer.json")["layers"] if la["name"] == "neurons")
    assert f"The {len(selected['segments'])} {caption}" in html
    assert (np.ptp(picture, axis=2) > 40).mean() > 0.05


@pytest.mark.parametrize(("script", "why"), [(None, "No browser was found"), ("exit 3", "/chromium failed: ")])
def test_without_a_browser_there_is_a_sentence(reported, tmp_path: Path, script, why):
    (tmp_path / "programs").mkdir()
    if script:
        (tmp_path / "programs/chromium").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "programs/chromium").chmod(0o755)
    copy = tmp_path / "copy"
    shutil.copytree(reported.folder, copy, symlinks=True)
    photograph(copy, str(tmp_path / "programs"))
    made = read_json(copy / "screenshots/manifest.json")
    assert made["pictures"] == []
    assert why in made["why"]
    assert not list((copy / "screenshots").glob("*.jpg"))
