"""The flood-filling network: a stack of residual modules of 3 x 3 x 3 convolutions (ConvStack3DFFN).

Januszewski et al., High-precision automated reconstruction of neurons with flood-filling networks, Nature Methods 15
(2018). Weights are a dictionary from the published variable names to float32 arrays. Arrays are (batch, z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from floodline.config import Network
from floodline.ffn.precision import Precision
from floodline.ffn.runtime import tensorflow

Weights = dict[str, np.ndarray]
SCOPE = "seed_update"
UNKNOWN, USUAL = np.float32(np.log(0.05 / 0.95)), np.float32(np.log(0.4 / 0.6))
"""Logits of a voxel of which nothing is known, and of the share of objects among the voxels of balanced examples."""


def layers(network: Network) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    """Names of the convolutions, in order, and the shapes of their kernels (z, y, x, in, out)."""
    for module in range(network.depth):
        inputs = 2 if module == 0 else network.features
        yield f"{SCOPE}/conv{module}_a", (3, 3, 3, inputs, network.features)
        yield f"{SCOPE}/conv{module}_b", (3, 3, 3, network.features, network.features)
    yield f"{SCOPE}/conv_lom", (1, 1, 1, network.features, 1)


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Names of all variables and their shapes."""
    result: dict[str, tuple[int, ...]] = {}
    for layer, kernel in layers(network):
        result[f"{layer}/weights"] = kernel
        result[f"{layer}/biases"] = kernel[-1:]
    return result


def initial_weights(network: Network, rng: np.random.Generator) -> Weights:
    """Random weights to train from: uniform kernels with variance 2 / (fan-in + fan-out), and biases of zero.

    As in the published network (Glorot & Bengio 2010).
    """
    weights: Weights = {}
    for layer, kernel in layers(network):
        fans = int(np.prod(kernel[:-1])) + int(np.prod(kernel[:-2])) * kernel[-1]
        limit = float(np.sqrt(6 / fans))
        weights[f"{layer}/weights"] = rng.uniform(-limit, limit, kernel).astype(np.float32)
        weights[f"{layer}/biases"] = np.zeros(kernel[-1:], np.float32)
    return weights


def identity_weights(network: Network, rng: np.random.Generator) -> Weights:
    """Random weights that training gets off the ground in fewer steps.

    1. The second kernels of the residual modules are zero, so that each module at first passes on what it gets and the
       network is as deep as it has use for (Goyal et al. 2017, Zhang, Dauphin & Ma 2019).
    2. The first biases take away what the kernels make of a canvas that is unknown everywhere.
    3. The read-out is small, and lifts unknown voxels to about the share of objects among the examples' voxels.
    """
    weights = initial_weights(network, rng)
    for module in range(1, network.depth):
        weights[f"{SCOPE}/conv{module}_b/weights"][:] = 0
    of_the_seed = weights[f"{SCOPE}/conv0_a/weights"][..., 1, :]
    weights[f"{SCOPE}/conv0_a/biases"] = -UNKNOWN * of_the_seed.sum((0, 1, 2))
    weights[f"{SCOPE}/conv_lom/weights"] *= np.float32(0.1)
    weights[f"{SCOPE}/conv_lom/biases"][:] = USUAL - UNKNOWN
    return weights


def update(variables: Mapping[str, Any], image: Any, seed: Any, precision: Precision) -> Any:
    """What the network adds to the seed, as TensorFlow operations; training and inference share it.

    Args:
        variables: TensorFlow variables, tensors or arrays by published name; float32.
        image: normalised image, (batch, z, y, x, 1), float32.
        seed: logits of what is known of the object, same shape, float32.
        precision: arithmetic of the hidden layers; the read-out is summed in float32.

    Returns:
        Update of the logits, (batch, z, y, x, 1), float32.
    """
    tf = tensorflow()
    kind = tf.as_dtype(precision)
    depth = sum(1 for name in variables if name.endswith("_a/weights"))

    def convolve(x: Any, layer: str) -> Any:
        kernel = tf.cast(variables[f"{SCOPE}/{layer}/weights"], kind)
        bias = tf.cast(variables[f"{SCOPE}/{layer}/biases"], kind)
        # bias_add, unlike +, is fused with the convolution.
        return tf.nn.bias_add(tf.nn.conv3d(x, kernel, [1, 1, 1, 1, 1], "SAME"), bias)

    @tf.custom_gradient
    def active(x: Any) -> Any:
        # A ReLU. TensorFlow 2.18 gives up fusing anything at all where a sum that goes on as the residual also feeds an
        # operation of that name; the maximum's own gradient takes longer.
        y = tf.maximum(x, tf.zeros([], kind))
        return y, lambda upstream: tf.raw_ops.ReluGrad(gradients=upstream, features=y)

    x = tf.cast(tf.concat([image, seed], axis=-1), kind)
    x = convolve(tf.nn.relu(convolve(x, "conv0_a")), "conv0_b")
    for module in range(1, depth):
        x = convolve(tf.nn.relu(convolve(active(x), f"conv{module}_a")), f"conv{module}_b") + x
    kernel = tf.convert_to_tensor(variables[f"{SCOPE}/conv_lom/weights"])
    read_out = tf.tensordot(tf.cast(active(x), tf.float32), tf.reshape(kernel, [-1, 1]), 1)
    return read_out + tf.convert_to_tensor(variables[f"{SCOPE}/conv_lom/biases"])


class InferenceNetwork:
    """A network with fixed weights, for flooding.

    Args:
        weights: by published name.
        network: its shape; the weights must fit it.
        precision: arithmetic of the hidden layers.

    Raises:
        FloodlineError: the weights are of another depth or width.
    """

    def __init__(self, weights: Weights, network: Network, precision: Precision) -> None:
        from floodline.ffn.weights import check

        check(weights, network)
        tf = tensorflow()
        # As constants, the kernels are brought into the processor's layout once, not in every call.
        constants = {name: tf.constant(weights[name]) for name in shapes(network)}
        self._tf = tf
        self._function = tf.function(
            lambda image, seed: seed + update(constants, image[..., None], seed[..., None], precision)[..., 0],
            autograph=False,
        )

    def __call__(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """New logits = seed + update.

        Args:
            image: normalised, (batch, z, y, x), float32.
            seed: logits, same shape, float32, without NaN.

        Returns:
            Logits, same shape, float32. A new shape costs a compilation of a fraction of a second.
        """
        return self._function(self._tf.constant(image), self._tf.constant(seed)).numpy()
