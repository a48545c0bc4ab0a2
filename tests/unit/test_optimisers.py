"""Optimisers against those of Keras, and the learning rate's schedule against hand-made values."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from floodline.config import LearningRate, Optimiser
from floodline.training import schedule
from floodline.training.optimisers import RULES

RATE = 0.03


def keras_optimiser(keras, kind):
    return {
        "sgd": lambda: keras.SGD(RATE),
        "momentum": lambda: keras.SGD(RATE, momentum=0.9),
        "adam": lambda: keras.Adam(RATE, epsilon=1e-8),
        "adamw": lambda: keras.AdamW(RATE, weight_decay=1e-4, epsilon=1e-8),
        "rmsprop": lambda: keras.RMSprop(RATE, rho=0.9, epsilon=1e-8),
        "adagrad": lambda: keras.Adagrad(RATE, initial_accumulator_value=0.1, epsilon=1e-8),
    }[kind]()


@pytest.mark.parametrize("kind", RULES)
def test_every_optimiser_steps_as_that_of_keras(kind):
    import tensorflow as tf

    rng = np.random.default_rng(3)
    start = rng.normal(size=50).astype(np.float32)
    rule, options = RULES[kind], Optimiser(kind=kind)
    state = {
        "weights": tf.Variable(start),
        **{name: tf.Variable(np.full_like(start, value)) for name, value in rule.slots.items()},
        "steps": tf.Variable(0, dtype=tf.int64),
    }
    theirs, other = tf.Variable(start), keras_optimiser(tf.keras.optimizers, kind)
    for _ in range(12):
        gradient = tf.constant(rng.normal(size=50).astype(np.float32))
        state["steps"].assign_add(1)
        rule.apply(tf, state, gradient, tf.constant(RATE), options)
        other.apply_gradients([(gradient, theirs)])
    np.testing.assert_allclose(state["weights"].numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)
    assert np.abs(theirs.numpy() - start).max() > RATE


def test_the_warm_up_is_as_long_at_any_number_of_workers():
    config = LearningRate(base=0.1, scaling="none", warmup_fovs=1000)
    for workers in (1, 4, 64):
        assert schedule.rate(config, workers, 250, 10_000) == pytest.approx(0.025)
        assert schedule.rate(config, workers, 1000, 10_000) == pytest.approx(0.1)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("linear", 16), ("sqrt", sqrt(16))])
def test_the_rate_grows_with_the_workers_as_configured(scaling, factor):
    assert schedule.rate(LearningRate(base=0.01, scaling=scaling), 16, 5, 10) == pytest.approx(0.01 * factor)


def test_the_cosine_ends_at_zero_and_is_half_in_the_middle():
    config = LearningRate(base=0.2, scaling="none", warmup_fovs=100, decay="cosine")
    assert schedule.rate(config, 1, 600, 1100) == pytest.approx(0.1)
    assert schedule.rate(config, 1, 1100, 1100) == pytest.approx(0)


def test_steps_drop_the_rate_again_and_again():
    config = LearningRate(base=0.8, scaling="none", warmup_fovs=100, decay="steps", drop_fovs=1000, drop_factor=0.5)
    rates = [schedule.rate(config, 1, fovs, 10**6) for fovs in (100, 1099, 1100, 2099, 2100)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])
