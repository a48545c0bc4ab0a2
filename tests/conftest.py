"""What the tests share: where the real data are, and one thread for TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long one example takes is the machine's business, and on a busy one it is no failure.
settings.register_profile("floodline", deadline=None, max_examples=50)
settings.load_profile("floodline")

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One of the tests' processes does all that are not units: they share a finished run and a Slurm cluster."""
    for item in items:
        if "unit" not in item.path.relative_to(ROOT).parts:
            item.add_marker(pytest.mark.xdist_group("chain"))


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
