"""Optimisers on one flat vector of weights, as TensorFlow operations.

Each keeps its state in vectors of the same length (`slots`), so that a checkpoint is a handful of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from floodline.config import Optimiser

State = Mapping[str, Any]
"""TensorFlow variables: `weights`, the slots by name, and `steps`, which counts the step that is being made."""


@dataclass(frozen=True)
class Rule:
    """How one optimiser changes the weights.

    Attributes:
        slots: names of its vectors, and the value that they start from.
        apply: `(tf, state, gradient, learning_rate, options)`; assigns to the weights and slots of `state`.
    """

    slots: Mapping[str, float]
    apply: Callable[[Any, State, Any, Any, Optimiser], None]


def _sgd(tf: Any, state: State, gradient: Any, rate: Any, options: Optimiser) -> None:
    state["weights"].assign_sub(rate * gradient)


def _momentum(tf: Any, state: State, gradient: Any, rate: Any, options: Optimiser) -> None:
    velocity = state["velocity"].assign(options.momentum * state["velocity"] - rate * gradient)
    state["weights"].assign_add(velocity)


def _adam(tf: Any, state: State, gradient: Any, rate: Any, options: Optimiser) -> None:
    steps = tf.cast(state["steps"], tf.float32)
    first = state["first_moment"].assign(options.beta_1 * state["first_moment"] + (1 - options.beta_1) * gradient)
    squares = options.beta_2 * state["second_moment"] + (1 - options.beta_2) * gradient**2
    second = state["second_moment"].assign(squares)
    unbiased = tf.sqrt(1 - options.beta_2**steps) / (1 - options.beta_1**steps)
    state["weights"].assign_sub(rate * unbiased * first / (tf.sqrt(second) + options.epsilon))


def _adamw(tf: Any, state: State, gradient: Any, rate: Any, options: Optimiser) -> None:
    state["weights"].assign_sub(rate * options.weight_decay * state["weights"])
    _adam(tf, state, gradient, rate, options)


def _rmsprop(tf: Any, state: State, gradient: Any, rate: Any, options: Optimiser) -> None:
    squares = state["squares"].assign(options.decay * state["squares"] + (1 - options.decay) * gradient**2)
    state["weights"].assign_sub(rate * gradient / tf.sqrt(squares + options.epsilon))


def _adagrad(tf: Any, state: State, gradient: Any, rate: Any, options: Optimiser) -> None:
    squares = state["squares"].assign_add(gradient**2)
    state["weights"].assign_sub(rate * gradient / tf.sqrt(squares + options.epsilon))


MOMENTS = {"first_moment": 0.0, "second_moment": 0.0}
RULES = {
    "sgd": Rule({}, _sgd),
    "momentum": Rule({"velocity": 0.0}, _momentum),
    "adam": Rule(MOMENTS, _adam),  # Kingma & Ba 2015
    "adamw": Rule(MOMENTS, _adamw),  # Loshchilov & Hutter 2019
    "rmsprop": Rule({"squares": 0.0}, _rmsprop),  # Tieleman & Hinton 2012
    "adagrad": Rule({"squares": 0.1}, _adagrad),  # Duchi et al. 2011, started as in TensorFlow
}
