"""What the viewer shows, as pictures for the report: taken of `floodline view` by a browser without a screen.

A run does not fail for want of them: the manifest then has a sentence in their place.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from floodline import browser
from floodline.experiment import Experiment
from floodline.manifest import read_json, write_bytes, write_json
from floodline.publishing.places import query
from floodline.publishing.sizes import largest_neurons
from floodline.publishing.viewer import Server

logger = logging.getLogger("floodline")

SIZE = (1200, 800)
OPEN = "window.viewer !== undefined && viewer.layerManager.managedLayers.length > 0"
# Twice in a row: between two requests for data it says so, too.
READY = "viewer.isReady() && new Promise(done => setTimeout(() => done(viewer.isReady()), 150))"
SECONDS_TO_LOAD = 180
TRIES = 3
"""On an overloaded machine the client (2.41.2) now and then loses its first layer while it starts, and says so; to load
the page again helps."""


def run(experiment: Experiment) -> None:
    """Write `screenshots/`: JPEG files, and last `manifest.json` with their names and captions, or with `why` not.

    Raises:
        FloodlineError: there is nothing to show.
    """
    folder = experiment.folder / "screenshots"
    shutil.rmtree(folder, ignore_errors=True)
    taken: list[dict[str, str]] = []
    why = ""
    program = browser.program()
    if program is None:
        why = f"No browser was found on the machine that made this page ({', '.join(browser.PROGRAMS)})."
    else:
        from playwright.sync_api import Error

        try:
            with serving(experiment) as url, browser.page(program, SIZE) as page:
                for name, (where, caption) in views(experiment).items():
                    logger.info("a picture of the viewer: %s", name)
                    write_bytes(folder / f"{name}.jpg", photograph(page, url + where))
                    taken.append({"file": f"{name}.jpg", "caption": caption})
        except Error as error:
            why = f"The browser {program} failed: {str(error).splitlines()[0]}"
            logger.warning("no more pictures of the viewer: %s", why)
    write_json(folder / "manifest.json", {"pictures": taken, "why": why})


def views(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """What is photographed, by name: the query of its link, and the caption."""
    found = {"viewer": ("", "The viewer as it opens: three sections and, below on the left, the largest neurons.")}
    neurons = experiment.layer("neurons")
    made = [experiment.manifest("neurons").with_name(f"{kind}.json") for kind in ("mesh", "skeletons")]
    manifests = [path for path in made if path.is_file()]
    worst = experiment.metrics.with_name("worst.json")
    if not manifests or not worst.is_file():
        return found
    # The viewer would wait for ever for a mesh that does not exist.
    complete = set(largest_neurons(neurons, None, *manifests))
    mistakes = [m for m in read_json(worst) if m["segmentation"] == "neurons" and complete.issuperset(m["segments"])]
    for kind, what in MISTAKES.items():
        largest = next((m for m in mistakes if m["kind"] == kind), None)
        if largest:
            place = ", ".join(map(str, largest["position_xyz"]))
            found[kind] = (query(largest), f"The largest {kind}, {what}, at {place}; the segments alone.")
    return found


MISTAKES = {
    "merger": "where one segment runs from a true neuron into another (red dots are mergers)",
    "split": "where one true neuron fell apart into segments (yellow dots are splits)",
}


@contextmanager
def serving(experiment: Experiment) -> Iterator[str]:
    """A server of the experiment for this machine alone; its address."""
    with Server(experiment, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def photograph(page: Any, url: str) -> bytes:
    """The viewer at this address when all is loaded, as JPEG bytes.

    Raises:
        playwright.sync_api.Error: the browser failed, or something is still not loaded after SECONDS_TO_LOAD.
    """
    page.set_default_timeout(1000 * SECONDS_TO_LOAD)
    for _ in range(TRIES):
        # Another part behind # alone would not load the page anew.
        page.goto("about:blank")
        page.goto(url)
        page.wait_for_function(OPEN)
        page.wait_for_function(READY)
        if page.get_by_text("Cannot read properties of undefined").count() == 0:
            break
    picture: bytes = page.screenshot(type="jpeg", quality=85)
    return picture
