"""`floodline view` in a real browser: the page loads without an error, and what it should show is on the screen."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from serving import MERGER_XYZ
from skimage.feature import match_template

from floodline.browser import FLAGS
from floodline.browser import program as browser_program
from floodline.geometry import Box
from floodline.publishing import viewer
from floodline.publishing.screenshots import OPEN, READY, TRIES
from floodline.volumes.layer import Layer

CHROMIUM = browser_program()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (Debian: apt-get install chromium)")

# A row of numbers for each source of data; 54 is the number of visible chunks that could not be loaded.
FAILED = "viewer.chunkQueueManager.getStatistics().then(s => [...s.values()].reduce((n, row) => n + row[54], 0))"

DRAWN = "viewer.display.draw(), new Promise(done => setTimeout(() => requestAnimationFrame(done), 250))"
BAR = 50
"""Height of the viewer's bars above the panels, in pixels."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield chromium
        chromium.close()


class Screen:
    """A browser's window, with what went wrong in it and where it asked for data."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: set[str] = set()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.add(urlsplit(request.url).netloc))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} {message.location['url']}")

    def open(self, url: str) -> np.ndarray:
        """What is on the screen, rows by columns by 3, when everything is loaded."""
        for _ in range(TRIES):
            # Another part behind # alone would not load the page anew.
            self.page.goto("about:blank")
            self.page.goto(url)
            self.page.wait_for_function(OPEN)
            self.page.wait_for_function(READY, timeout=60_000)
            if self.page.get_by_text("Cannot read properties of undefined").count() == 0:
                break
        assert self.page.evaluate(FAILED) == 0
        return self._settled()

    def _settled(self) -> np.ndarray:
        """What is on the screen once it does not change any more: on a busy machine, drawing lags behind loading."""
        before = np.zeros(0)
        for _ in range(40):
            self.page.evaluate(DRAWN)
            canvas = self.page.locator("canvas").first.screenshot()
            picture = np.asarray(Image.open(io.BytesIO(canvas)).convert("RGB")).astype(int)
            if np.array_equal(picture, before):
                return picture
            before = picture
        raise AssertionError("the picture never comes to rest")


@pytest.fixture
def screen(browser: Browser) -> Iterator[Screen]:
    page = browser.new_page(viewport={"width": 1024, "height": 768})
    yield Screen(page)
    page.close()


def colours(picture: np.ndarray) -> int:
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def address(
    link: str, layer_changes: dict[str, dict[str, Any]] | None = None, data: str | None = None, **changes: Any
) -> str:
    """The link of a changed state: values of the state, and values of its layers by name; `data`: another server."""
    with urlopen(f"{link}state.json") as reply:
        state = json.loads(reply.read().decode().replace("{here}", data or link)) | changes
    for layer in state["layers"]:
        layer |= (layer_changes or {}).get(layer["name"], {})
    return f"{link}v/floodline/#!{quote(json.dumps(state))}"


def test_the_link_opens_everything_without_an_error_and_without_a_network(screen, link):
    picture = screen.open(link)
    assert screen.errors == []
    assert screen.asked == {urlsplit(link).netloc}
    layers = screen.page.evaluate("viewer.layerManager.managedLayers.map(layer => layer.name)")
    assert layers == ["image", "truth", "supervoxels", "neurons", "decisions", "mergers", "splits"]
    # Four panels: xy, xz, 3D and yz. None is blank.
    height, width, _ = picture.shape
    for rows in (slice(0, height // 2), slice(height // 2, None)):
        for columns in (slice(0, width // 2), slice(width // 2, None)):
            assert colours(picture[rows, columns]) > 150


def test_the_image_is_drawn_as_it_is(screen, shown, link):
    """One voxel a pixel: the xy slice through the middle is on the screen."""
    hidden = {name: {"visible": False} for name in ("neurons", "mergers", "splits")}
    grey = {"shader": "void main() { emitGrayscale(toNormalized(getDataValue())); }"}
    url = address(link, hidden | {"image": grey}, layout="xy", crossSectionScale=1, showAxisLines=False)
    picture = screen.open(url)[..., 0]
    middle = [(a + b) // 2 for a, b in zip(*shown.image_box.corners, strict=True)]
    slice_ = Layer.open(shown.layer("image")).read(
        Box((*shown.image_box.start_xyz[:2], middle[2]), (*shown.image_box.stop_xyz[:2], middle[2] + 1))
    )[0]
    # The box around the volume covers its outermost voxels.
    assert match_template(picture.astype(float), slice_[4:-4, 4:-4].astype(float)).max() > 0.98


@pytest.mark.parametrize("layer", ["truth", "supervoxels", "neurons"])
def test_segments_are_drawn_when_their_layer_is_switched_on(screen, link, layer):
    def opened(visible: bool) -> np.ndarray:
        shown_alone = {name: {"visible": False} for name in ("truth", "supervoxels", "neurons", "mergers", "splits")}
        return screen.open(address(link, shown_alone | {layer: {"visible": visible, "segments": []}}, layout="xy"))

    def coloured(picture: np.ndarray) -> float:
        return float((np.ptp(picture, axis=2) > 25).mean())

    assert coloured(opened(True)) > coloured(opened(False)) + 0.03
    assert screen.errors == []


def test_a_selected_neuron_appears_in_3d(screen, link):
    def opened(segments: list[str]) -> np.ndarray:
        quiet = {name: {"visible": False} for name in ("mergers", "splits")}
        neurons = {"segments": segments, "segmentColors": dict.fromkeys(segments, "#00ff00")}
        return screen.open(address(link, quiet | {"neurons": neurons}, layout="3d", showAxisLines=False))

    with urlopen(f"{link}state.json") as reply:
        layers = {layer["name"]: layer for layer in json.load(reply)["layers"]}
    largest = layers["neurons"]["segments"][0]
    green = [
        int(((picture[..., 1] > 60) & (picture[..., [0, 2]].max(axis=2) < 30)).sum())
        for picture in (opened([]), opened([largest]))
    ]
    # A skeleton alone is a thin line: so many pixels are a surface.
    assert green[1] > green[0] + 2000
    assert screen.errors == []


def test_the_worst_mistakes_are_marked_at_their_places(screen, link):
    def orange(visible: bool) -> np.ndarray:
        """Places of pixels of the colour of mergers, from the middle of the panel; the layers' names have it, too."""
        changes = {"mergers": {"visible": visible}, "splits": {"visible": False}, "neurons": {"visible": False}}
        panel = screen.open(address(link, changes, layout="xy", position=[p + 0.5 for p in MERGER_XYZ]))[BAR:]
        return np.argwhere(np.abs(panel - [255, 85, 51]).max(axis=2) < 30) - np.array(panel.shape[:2]) / 2

    marked = orange(visible=True)
    assert len(marked) > 20
    assert np.abs(marked).max() < 12
    assert len(orange(visible=False)) == 0


def test_mistakes_are_listed_with_what_they_are(screen, link):
    screen.open(address(link, {"mergers": {"tab": "annotations"}}, selectedLayer={"layer": "mergers", "visible": True}))
    assert screen.page.get_by_text("merger 1 in all: 90 voxels").count() >= 1
    assert screen.errors == []


def test_a_viewer_hosted_elsewhere_may_read_if_allowed(screen, shown, link):
    with viewer.Server(shown, "127.0.0.1", 0, allow_origin=link.rstrip("/")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            picture = screen.open(address(link, data=server.url))
        finally:
            server.shutdown()
            thread.join()
    assert screen.errors == []
    assert screen.asked == {urlsplit(link).netloc, urlsplit(server.url).netloc}
    assert colours(picture) > 1000
