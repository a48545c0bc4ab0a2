"""The tiny experiment that the tests of the workflow share."""

from __future__ import annotations

import pytest
from running import ROOT, Workflow


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A tiny volume that has been through every stage."""
    workflow = Workflow(tmp_path_factory.mktemp("tiny"), ROOT / "tests/workflow/tiny.yaml")
    workflow()
    return workflow
