"""OpenVINO computes what TensorFlow does; the tuner takes what is fastest and agrees."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import time

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from floodline import tune
from floodline.cli import app
from floodline.config import Network
from floodline.errors import FloodlineError
from floodline.ffn import openvino
from floodline.ffn.network import InferenceNetwork, identity_weights, initial_weights
from floodline.ffn.runtimes import inference_network
from floodline.ffn.weights import save_model

SMALL = Network(depth=3, features=8, fov_xyz=(9, 11, 13), deltas_xyz=(2, 2, 2))
needs_openvino = pytest.mark.skipif(not openvino.is_installed(), reason="OpenVINO is not installed (make openvino)")


@needs_openvino
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_openvino_computes_what_tensorflow_does(precision, tolerance):
    rng = np.random.default_rng(0)
    weights = initial_weights(SMALL, rng)
    for name in weights:
        weights[name] += rng.normal(0, 0.05, weights[name].shape).astype(np.float32)  # biases, too
    expected = InferenceNetwork(weights, SMALL, "float32")
    network = inference_network(weights, SMALL, precision, "openvino")
    for batch in (1, 3):
        image, seed = rng.normal(size=(2, batch, 13, 11, 9)).astype(np.float32)
        np.testing.assert_allclose(network(image, seed), expected(image, seed), atol=tolerance)


def test_identity_weights_pass_on_what_they_get_and_take_the_unknown_for_nothing():
    shallow = SMALL.model_copy(update={"depth": 1})
    deep, alone = (identity_weights(network, np.random.default_rng(0)) for network in (SMALL, shallow))
    same = {name: deep[name] for name in alone}
    image, seed = np.random.default_rng(1).normal(size=(2, 1, 13, 11, 9)).astype(np.float32)
    expected = InferenceNetwork(same, shallow, "float32")(image, seed)
    np.testing.assert_allclose(InferenceNetwork(deep, SMALL, "float32")(image, seed), expected, atol=1e-5)
    assert np.ptp(expected - seed) > 0.01
    # Away from the border, grey image and unknown canvas say that 40 % of the voxels belong to the object.
    unknown = np.full((1, 13, 11, 9), np.log(0.05 / 0.95), np.float32)
    logits = InferenceNetwork(deep, SMALL, "float32")(np.zeros_like(unknown), unknown)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 2:-2, 2:-2, 2:-2])), 0.4, atol=1e-5)


def test_a_runtime_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    with pytest.raises(FloodlineError, match=r"is not installed: `make openvino` installs it\.$"):
        inference_network(initial_weights(SMALL, np.random.default_rng(0)), SMALL, "float32", "openvino")


def test_the_tuner_takes_the_fastest_that_agrees():
    reference = tune.Measurement(tune.Choice("tensorflow", "float32"), 9.0, 0.0)
    wrong = tune.Measurement(tune.Choice("openvino", "bfloat16"), 30.0, 0.2)
    right = tune.Measurement(tune.Choice("tensorflow", "bfloat16"), 15.0, tune.LARGEST_DIFFERENCE)
    assert tune.fastest([reference, wrong, right]) is right
    assert tune.fastest([reference, wrong]) is reference


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": "nothing/there"}, "nothing/there"),
        ({"depth": 4}, "the weights are of a network of depth 3 with 8 features, but network.depth is 4"),
    ],
)
def test_the_tuner_says_at_once_what_is_wrong_with_the_weights(tmp_path, changes, sentence):
    made = initial_weights(SMALL, np.random.default_rng(0))
    save_model(tmp_path / "model", made, {})
    config = tmp_path / "small.yaml"
    network = SMALL.model_dump(mode="json") | {"weights": str(tmp_path / "model")} | changes
    config.write_text(yaml.safe_dump({"name": "small", "image": {"source": {"kind": "phantom"}}, "network": network}))
    with pytest.raises(FloodlineError, match=sentence):
        tune.run(config, None)


def test_a_process_that_dies_ends_the_tuning():
    """As one does for want of memory; and not only after the time that is given to slow ones."""
    context = multiprocessing.get_context("spawn")
    dying = context.Process(target=os._exit, args=(9,))
    dying.start()
    dying.join()
    began = time.monotonic()
    with pytest.raises(FloodlineError, match="could not be timed in 1 processes: one of them ended"):
        tune._answer(context.Queue(), [dying])
    assert time.monotonic() - began < 10


def test_the_tuner_measures_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.2)
    config = tmp_path / "small.yaml"
    phantom = {"source": {"kind": "phantom"}}
    values = {"name": "small", "image": phantom, "labels": phantom, "training": {}}
    config.write_text(yaml.safe_dump(values | {"network": SMALL.model_dump(mode="json")}))
    result = CliRunner().invoke(app, ["tune", str(config), "--output", str(tmp_path / "tune.json")])
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "tune.json").read_text())
    rows = [line.split() for line in result.output.splitlines() if re.match("(tensorflow|openvino) ", line)]
    assert {(row[0], row[1]) for row in rows} >= {("tensorflow", "float32")}
    assert numbers["fov_per_second"]["inference"] == pytest.approx(max(float(row[5]) for row in rows), abs=0.01)
    chosen = f"inference: {{runtime: {numbers['runtime']}, precision: {numbers['precision']}}}"
    assert chosen in result.output
