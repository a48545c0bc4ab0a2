"""How fast this process floods and trains, measured in a few seconds: fields of view a second on all its cores."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from floodline.config import Config, Network
from floodline.ffn.canvas import Canvas
from floodline.ffn.network import Weights, initial_weights, update
from floodline.ffn.precision import Precision, of_inference, resolve
from floodline.ffn.runtime import tensorflow
from floodline.ffn.runtimes import inference_network
from floodline.geometry import to_zyx

SECONDS = 3.0
"""Of each measurement."""


def inference(config: Config) -> float:
    """Of a flood with random weights that looks at one place again and again, canvas and all."""
    network, wanted = config.network, config.inference
    arithmetic = of_inference(wanted)
    predict = inference_network(_weights(network), network, arithmetic, wanted.runtime)
    image = np.random.default_rng(0).integers(0, 255, to_zyx(network.fov_xyz), np.uint8)
    canvas = Canvas(image, 128.0, 33.0, network.fov_xyz, wanted.flood)
    canvas.seed[canvas.margin] = canvas.init

    def look() -> None:
        patch, seed = canvas.network_input(canvas.margin)
        canvas.update(canvas.margin, predict(patch[None], seed[None])[0])

    return _per_second(look)


def training(config: Config) -> float:
    """Of the gradient of a batch of one worker; averaging over workers and the optimiser are left out."""
    assert config.training is not None
    batch = config.training.batch_size
    step = _gradient(_weights(config.network), resolve(config.training.precision))
    shape = (batch, *to_zyx(config.network.fov_xyz))
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return batch * _per_second(lambda: step(values))


def _weights(network: Network) -> Weights:
    return initial_weights(network, np.random.default_rng(0))


def _gradient(weights: Weights, precision: Precision) -> Callable[[np.ndarray], np.ndarray]:
    tf = tensorflow()
    variables = {name: tf.Variable(value) for name, value in weights.items()}

    @tf.function(autograph=False)
    def step(image):  # type: ignore[no-untyped-def]
        with tf.GradientTape() as tape:
            logits = update(variables, image[..., None], image[..., None], precision)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.zeros_like(logits), logits))
        return [tf.norm(gradient) for gradient in tape.gradient(loss, list(variables.values()))]

    return lambda image: step(tf.constant(image))[0].numpy()


def _per_second(do: Callable[[], object]) -> float:
    do()  # a new shape is compiled
    do()
    times, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < SECONDS or times < 3:
        do()
        times += 1
    return times / passed if passed else float("inf")
