"""The configured weights as this experiment's model."""

from __future__ import annotations

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.ffn import weights
from floodline.training.card import card


def run(experiment: Experiment) -> None:
    """Write `model/` with the weights of `network.weights`.

    Raises:
        FloodlineError: there are none, or they are of another network.
    """
    network = experiment.config.network
    if network.weights is None:
        raise FloodlineError("network.weights is not set: there are no weights to import.")
    values = weights.load(network.weights)
    weights.check(values, network)
    weights.save_model(experiment.model, values, card(experiment, values, {"imported_from": network.weights}))
