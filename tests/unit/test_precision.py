"""Arithmetic: what the processor is quick at is found out, and bfloat16 is the same network, a little less exact."""

from __future__ import annotations

import numpy as np
import pytest

from floodline import config
from floodline.ffn import precision
from floodline.ffn.network import InferenceNetwork, initial_weights
from floodline.ffn.precision import of_inference, processor_features, resolve

X86 = "processor\t: 0\nflags\t\t: fpu avx2 {}\nbugs\t\t: spectre_v1\n\nprocessor\t: 1\nflags\t\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (X86.format("avx512_bf16"), "bfloat16"),
        (X86.format("amx_bf16"), "bfloat16"),
        (X86.format("avx512f"), "float32"),
        (ARM.format("bf16"), "bfloat16"),
        (ARM.format("sve"), "float32"),
        ("", "float32"),
    ],
)
def test_what_a_processor_is_quick_at_is_read_from_its_features(tmp_path, text, has):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert resolve("auto", processor_features(path)) == has
    assert resolve("float32", processor_features(path)) == "float32"
    assert resolve("bfloat16", processor_features(path)) == "bfloat16"


def test_a_system_that_does_not_tell_gets_float32(tmp_path):
    assert resolve("auto", processor_features(tmp_path / "none")) == "float32"


@pytest.mark.parametrize(
    ("policy", "wanted", "used"),
    [
        ("efficient", "auto", "bfloat16"),
        ("reference", "auto", "float32"),
        ("reference", "bfloat16", "bfloat16"),
        ("efficient", "float32", "float32"),
    ],
)
def test_the_published_steps_are_in_float32_unless_asked_otherwise(monkeypatch, policy, wanted, used):
    monkeypatch.setattr(precision, "processor_features", lambda: {"amx_bf16"})
    inference = config.Inference(subvolume_size_xyz=(9, 9, 9), flood={"policy": policy}, precision=wanted)
    assert of_inference(inference) == used


def test_floods_are_in_float32_unless_asked_otherwise(monkeypatch):
    monkeypatch.setattr(precision, "processor_features", lambda: {"amx_bf16"})
    assert of_inference(config.Inference()) == "float32"


def test_bfloat16_is_the_same_network_a_little_less_exact():
    network = config.Network(depth=3, features=8, fov_xyz=(9, 9, 9), deltas_xyz=(2, 2, 2), weights="none")
    rng = np.random.default_rng(3)
    weights = initial_weights(network, rng)
    image, seed = rng.normal(size=(2, 2, 9, 9, 9)).astype(np.float32)
    exact, rounded = (InferenceNetwork(weights, network, kind)(image, seed) for kind in ("float32", "bfloat16"))
    assert rounded.dtype == np.float32
    error = np.abs(rounded - exact).max()
    # bfloat16 has 8 bits: 2^-8 of each value, some of which add up over the layers.
    assert 0 < error < 0.05 * np.abs(exact - seed).max()
