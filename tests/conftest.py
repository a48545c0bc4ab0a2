"""What the tests share: where the real data are, and one thread for TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# How long one example takes is the machine's business, and on a busy one it is no failure.
settings.register_profile("floodline", deadline=None, max_examples=50)
settings.load_profile("floodline")

ROOT = Path(__file__).parent.parent


class ByWhatTheyShare(LoadScopeScheduling):
    """Several processes of tests: files of units go to whoever is free, and other folders stay together.

    The tests of such a folder share what is costly or can be there once only: a finished run, a Slurm cluster.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(nodeid.partition("::")[0])
        return str(file if "unit" in file.parts else file.parent)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByWhatTheyShare:
    """How `pytest -n` shares the tests out."""
    # As collected, the longest first; the default would begin with whatever has most tests.
    config.option.loadscopereorder = False
    return ByWhatTheyShare(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Units last: the folders before them take longest."""
    items.sort(key=lambda item: "unit" in item.path.relative_to(ROOT).parts)


@pytest.fixture(scope="session")
def fib25() -> Path:
    """Folder of the FIB-25 data; the test is skipped where they are absent."""
    folder = Path(os.environ.get("FLOODLINE_SHARED", ROOT.parent / "shared")) / "data" / "fib25"
    if not folder.is_dir():
        pytest.skip(f"the FIB-25 data are not at {folder} (FLOODLINE_SHARED names the folder above data/)")
    return folder


@pytest.fixture(scope="session")
def fib25_image(fib25: Path):
    """The FIB-25 stack, uint8 (250, 250, 250), z, y, x."""
    import numpy as np
    from PIL import Image

    slices = sorted((fib25 / "grayscale_maps").glob("*.png"))
    return np.stack([np.asarray(Image.open(path)) for path in slices])
