"""An experiment with everything that a viewer shows, and a server of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
import serving

from floodline.experiment import Experiment


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The experiment that is shown."""
    return serving.experiment(tmp_path_factory.mktemp("results") / "shown")


@pytest.fixture(scope="session")
def link(shown: Experiment) -> Iterator[str]:
    """The address that `floodline view` prints; it serves until the tests are over."""
    with subprocess.Popen(
        [serving.FLOODLINE, "view", shown.folder, "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            printed = re.match(r"The viewer of test: (http://127\.0\.0\.1:\d+/) ", server.stdout.readline())
            assert printed
            yield printed[1]
        finally:
            server.terminate()
