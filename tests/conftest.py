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
