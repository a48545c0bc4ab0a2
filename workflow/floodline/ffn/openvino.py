"""The flood-filling network in the OpenVINO runtime: the layers of floodline.ffn.network, on Intel and AMD processors.

An optional dependency (`make openvino`). It runs the same convolutions in fewer passes over memory than TensorFlow.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from floodline.config import Network
from floodline.errors import FloodlineError
from floodline.ffn.network import SCOPE, Weights
from floodline.ffn.precision import Precision
from floodline.ffn.weights import check

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def is_installed() -> bool:
    """Whether the runtime can be used here."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None


class OpenVinoNetwork:
    """A network with fixed weights, for flooding; the same interface as InferenceNetwork.

    Args:
        weights: by published name.
        network: its shape; the weights must fit it.
        precision: arithmetic of the convolutions.

    Raises:
        FloodlineError: OpenVINO is not installed, or the weights are of another depth or width.
    """

    def __init__(self, weights: Weights, network: Network, precision: Precision) -> None:
        check(weights, network)
        if not is_installed():
            raise FloodlineError("inference.runtime is openvino, which is not installed: `make openvino` installs it.")
        self.weights, self.depth, self.precision = weights, network.depth, precision
        self._requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """New logits = seed + update.

        Args:
            image: normalised, (batch, z, y, x), float32.
            seed: logits, same shape, float32, without NaN.

        Returns:
            Logits, same shape, float32. A new shape costs a compilation of about a second.
        """
        request = self._requests.get(image.shape)
        if request is None:
            request = self._requests[image.shape] = self._compile(image.shape)
        return request.infer([image[:, None], seed[:, None]])[0][:, 0].copy()

    def _compile(self, shape: tuple[int, ...]) -> Any:
        import openvino

        batch, *fov = shape
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
            # The kernel, not OpenVINO, places the threads: several processes share the cores.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": int(os.environ.get("TF_NUM_INTRAOP_THREADS") or len(os.sched_getaffinity(0))),
        }
        return openvino.Core().compile_model(self._model([batch, 1, *fov]), "CPU", options).create_infer_request()

    def _model(self, shape: list[int]) -> Any:
        """The layers for inputs of one shape (batch, 1, z, y, x)."""
        import openvino
        from openvino import opset13 as ops

        def convolve(x: Any, layer: str, pad: int = 1) -> Any:
            kernel = self.weights[f"{SCOPE}/{layer}/weights"].transpose(4, 3, 0, 1, 2)
            bias = self.weights[f"{SCOPE}/{layer}/biases"].reshape(1, -1, 1, 1, 1)
            pads = [pad] * 3
            return ops.add(
                ops.convolution(x, np.ascontiguousarray(kernel), [1, 1, 1], pads, pads, [1, 1, 1]), ops.constant(bias)
            )

        image, seed = ops.parameter(shape, np.float32, "image"), ops.parameter(shape, np.float32, "seed")
        x = convolve(ops.relu(convolve(ops.concat([image, seed], 1), "conv0_a")), "conv0_b")
        for module in range(1, self.depth):
            x = ops.add(convolve(ops.relu(convolve(ops.relu(x), f"conv{module}_a")), f"conv{module}_b"), x)
        return openvino.Model([ops.add(seed, convolve(ops.relu(x), "conv_lom", pad=0))], [image, seed], "ffn")
