"""The network in the runtime that the configuration names; to a flood they are all the same."""

from __future__ import annotations

import logging
from typing import Literal

from floodline.config import Network
from floodline.experiment import Experiment
from floodline.ffn.flood import Predict
from floodline.ffn.network import InferenceNetwork, Weights
from floodline.ffn.openvino import OpenVinoNetwork
from floodline.ffn.precision import Precision, of_inference
from floodline.ffn.weights import load
from floodline.manifest import read_json, write_once

logger = logging.getLogger(__name__)

Runtime = Literal["tensorflow", "openvino"]


def inference_network(weights: Weights, network: Network, precision: Precision, runtime: Runtime) -> Predict:
    """The network with fixed weights, for flooding.

    Raises:
        FloodlineError: the runtime is not installed, or the weights are of another depth or width.
    """
    kind = OpenVinoNetwork if runtime == "openvino" else InferenceNetwork
    return kind(weights, network, precision)


def arithmetic_of(experiment: Experiment) -> Precision:
    """The arithmetic of all floods of an experiment.

    What `auto` means is decided by the first processor that is asked, and kept: on machines of different processors,
    blocks would else be of different arithmetics, and none of them would take the others' for its own.
    """
    wanted = experiment.config.inference
    own = of_inference(wanted)
    if wanted.precision != "auto" or wanted.flood.policy == "reference":
        return own
    path = experiment.inference / "arithmetic.json"
    write_once(path, own)
    kept: Precision = read_json(path)
    if kept != own:
        logger.warning(
            "floods are computed in %s, as they were begun, and this processor is quick at %s: to flood everything "
            "again in the other, set inference.precision or delete %s",
            kept, own, path,
        )  # fmt: skip
    return kept


def network_of(experiment: Experiment) -> Predict:
    """The network with the experiment's weights, in its runtime and arithmetic.

    Raises:
        FloodlineError: the runtime is not installed, or the weights are missing or of another network.
    """
    config = experiment.config
    values = load(experiment.model)
    return inference_network(values, config.network, arithmetic_of(experiment), config.inference.runtime)
