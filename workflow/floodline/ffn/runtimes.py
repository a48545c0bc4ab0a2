"""The network in the runtime that the configuration names; to a flood they are all the same."""

from __future__ import annotations

from typing import Literal

from floodline.config import Network
from floodline.ffn.flood import Predict
from floodline.ffn.network import InferenceNetwork, Weights
from floodline.ffn.openvino import OpenVinoNetwork
from floodline.ffn.precision import Precision

Runtime = Literal["tensorflow", "openvino"]


def inference_network(weights: Weights, network: Network, precision: Precision, runtime: Runtime) -> Predict:
    """The network with fixed weights, for flooding.

    Raises:
        FloodlineError: the runtime is not installed, or the weights are of another depth or width.
    """
    kind = OpenVinoNetwork if runtime == "openvino" else InferenceNetwork
    return kind(weights, network, precision)
