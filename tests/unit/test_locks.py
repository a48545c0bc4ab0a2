"""The locks: the same packages on processors and on GPUs, every one with its hash, and no index named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ENVS = Path(__file__).parents[2] / "envs"


def versions(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==(\S+)", (ENVS / name).read_text(), re.MULTILINE))


def test_gpu_nodes_get_the_same_packages_and_what_cuda_needs():
    here, there = versions("requirements.lock"), versions("gpu.lock")
    assert here.pop("tensorflow-cpu") == there.pop("tensorflow")
    assert here.items() <= there.items()
    assert "nvidia-nccl-cu12" in there
    assert all(name.startswith("nvidia-") for name in there.keys() - here.keys())


@pytest.mark.parametrize("name", ["build.lock", "requirements.lock", "gpu.lock", "horovod.lock"])
def test_every_package_has_a_hash_and_no_index_is_named(name):
    text = (ENVS / name).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(versions(name)) > 0
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "index-url" not in text and "://" not in text
