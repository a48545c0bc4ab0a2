"""The card of a model: what the weights are, and what made them."""

from __future__ import annotations

from typing import Any

from floodline.experiment import Experiment
from floodline.ffn.network import Weights
from floodline.manifest import read_json
from floodline.software import TENSORFLOW, versions

SOFTWARE = ("floodline", *TENSORFLOW, "horovod", "numpy")


def card(
    experiment: Experiment, weights: Weights, made: dict[str, Any], hashes: dict[str, str] | None = None
) -> dict[str, Any]:
    """What `model/card.json` says.

    Args:
        made: how the weights came to be: where they were imported from, or the scores of the training.
        hashes: of the images and labels that were trained on: the experiment's own by its name, others by their keys.
    """
    config = experiment.config
    description: dict[str, Any] = {
        "network": config.network.model_dump(mode="json"),
        "parameters": sum(array.size for array in weights.values()),
        "licence": config.network.licence,
        "made": made,
        "software": versions(SOFTWARE),
    }
    if config.training is not None and config.labels is not None:
        description |= {
            "training": config.training.model_dump(mode="json"),
            "data": {
                "image": config.image.model_dump(mode="json"),
                "labels": config.labels.model_dump(mode="json"),
                "sites": config.sites.model_dump(mode="json"),
                "normalisation": dict(zip(("mean", "stddev"), experiment.normalisation(), strict=True)),
                "coordinates": read_json(experiment.coordinates / "manifest.json"),
                "hashes": hashes,
            },
        }
    return description
