"""A browser without a screen, if this machine has one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# The drawing library and, where there is no graphics card, the processor in its place.
FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def program() -> str | None:
    """Path of the browser."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def page(program: str, size: tuple[int, int]) -> Iterator[Any]:
    """An empty page (playwright's `Page`) of this width and height, in a browser of its own.

    Raises:
        playwright.sync_api.Error: the browser does not start.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        try:
            yield chromium.new_page(viewport={"width": size[0], "height": size[1]})
        finally:
            chromium.close()
