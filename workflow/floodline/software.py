"""Which versions of packages are installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

TENSORFLOW = ("tensorflow", "tensorflow-cpu")
"""The packages that bring TensorFlow: one of them is installed."""

SETUP = "`rm -f .venv/.installed && make setup`"
"""What repairs an environment: without the first half, set-up that was done once has nothing to do."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
