"""Weights in files: the project's model/ folder, and checkpoints in the layout of the published network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from floodline.config import Network
from floodline.errors import FloodlineError
from floodline.ffn.network import SCOPE, Weights, shapes
from floodline.ffn.runtime import tensorflow
from floodline.manifest import read_json, write_atomically, write_json

FILE, CARD = "weights.npz", "card.json"


def load(path: str | Path) -> Weights:
    """Read weights by their names; whatever else a checkpoint holds (step, input counters) is left alone.

    Args:
        path: a model/ folder, or the prefix of a TensorFlow checkpoint.

    Raises:
        FloodlineError: there is nothing of the kind, or it holds no such network.
    """
    path = Path(path)
    if path.is_dir():
        weights = _load_model(path)
    elif path.with_name(path.name + ".index").is_file():
        weights = _load_checkpoint(path)
    else:
        raise FloodlineError(
            f"there are no weights at {path}: give a model/ folder with {FILE}, or a TensorFlow checkpoint's prefix "
            f"(the part of its file names before .index)."
        )
    weights = {name: np.asarray(array, np.float32) for name, array in weights.items() if name.startswith(SCOPE + "/")}
    if not weights:
        raise FloodlineError(f"{path} holds no flood-filling network: none of its variables is named {SCOPE}/...")
    return weights


def _load_model(folder: Path) -> dict[str, np.ndarray]:
    file = folder / FILE
    if not (folder / CARD).is_file():
        raise FloodlineError(f"{folder} holds no finished model ({CARD} is missing): run the training first.")
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise FloodlineError(f"{file} cannot be read as weights ({error}).") from error


def _load_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    tf = tensorflow()
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith(SCOPE + "/")]
        return {name: reader.get_tensor(name) for name in names}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise FloodlineError(
            f"{prefix} cannot be read as a TensorFlow checkpoint ({str(error).splitlines()[0]})."
        ) from error


def check(weights: Weights, network: Network) -> None:
    """Make sure that weights fit the configured network.

    Raises:
        FloodlineError: naming what was found and what is configured.
    """
    expected = shapes(network)
    if {name: array.shape for name, array in weights.items()} == expected:
        return
    depth = sum(1 for name in weights if name.endswith("_a/weights"))
    kernel = weights.get(f"{SCOPE}/conv0_a/weights")
    features = kernel.shape[-1] if kernel is not None else 0
    if (depth, features) != (network.depth, network.features):
        raise FloodlineError(
            f"the weights are of a network of depth {depth} with {features} features, but network.depth is "
            f"{network.depth} and network.features is {network.features}."
        )
    wrong = sorted(
        name
        for name in expected.keys() | weights.keys()
        if name not in weights or weights[name].shape != expected.get(name)
    )[0]
    found = list(weights[wrong].shape) if wrong in weights else "missing"
    raise FloodlineError(f"the weights do not fit the network: {wrong} is {found}, not {expected.get(wrong, 'known')}.")


def save_model(folder: Path, weights: Weights, card: Mapping[str, Any]) -> None:
    """Write a model/ folder: the weights, and then the card that says what they are; the card makes it whole.

    Raises:
        FloodlineError: the folder cannot be written.
    """
    (folder / CARD).unlink(missing_ok=True)
    write_atomically(folder / FILE, lambda file: np.savez(file, **weights))
    write_json(folder / CARD, dict(card))


def steps_of(folder: Path) -> int:
    """Steps that a model/ folder's weights were trained for, as its card says; 0 where it does not."""
    return int(read_json(folder / CARD).get("made", {}).get("steps", 0))


def export_checkpoint(prefix: Path, weights: Weights, step: int) -> None:
    """Write a TensorFlow checkpoint in the published layout: the variables by name, and `global_step`.

    Args:
        prefix: `<prefix>.index` and `<prefix>.data-00000-of-00001` are written.
    """
    tf = tensorflow()
    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = [*weights, "global_step"]
    tensors = [*(tf.constant(array) for array in weights.values()), tf.constant(step, tf.int32)]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
