"""Optimisers against those of Keras, steps in parts, and the learning rate's schedule against hand-made values."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from floodline.config import Network, Optimiser, Training
from floodline.errors import FloodlineError
from floodline.ffn.network import initial_weights
from floodline.parallel import Ranks
from floodline.training.batches import Batch
from floodline.training.optimisers import RULES
from floodline.training.schedule import Schedule
from floodline.training.trainer import Trainer

RATE = 0.03
SMALL = Network(depth=2, features=4, fov_xyz=(9, 7, 5), deltas_xyz=(2, 2, 1))


def keras_optimiser(keras, kind):
    return {
        "sgd": lambda: keras.SGD(RATE),
        "momentum": lambda: keras.SGD(RATE, momentum=0.9),
        "adam": lambda: keras.Adam(RATE, epsilon=1e-8),
        "adamw": lambda: keras.AdamW(RATE, weight_decay=0.1, epsilon=1e-8),
        "rmsprop": lambda: keras.RMSprop(RATE, rho=0.9, epsilon=1e-8),
        "adagrad": lambda: keras.Adagrad(RATE, initial_accumulator_value=0.1, epsilon=1e-8),
    }[kind]()


@pytest.mark.parametrize("kind", RULES)
def test_every_optimiser_steps_as_that_of_keras(kind):
    import tensorflow as tf

    rng = np.random.default_rng(3)
    start = rng.normal(size=50).astype(np.float32)
    rule, options = RULES[kind], Optimiser(kind=kind, weight_decay=0.1)
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


def schedule(workers: int, total: int, batch_size: int = 1, **config) -> Schedule:
    return Schedule.of(Training(fovs=total, batch_size=batch_size, learning_rate=config), workers)


def test_the_warm_up_is_as_long_at_any_number_of_workers():
    for workers in (1, 4, 64):
        rates = schedule(workers, 10_000, base=0.1, scaling="none", warmup_fovs=1000)
        assert rates.rate(250) == pytest.approx(0.025)
        assert rates.rate(1000) == pytest.approx(0.1)


def test_steps_are_steps_of_all_workers_at_any_number_of_them():
    config = {"scaling": "none", "warmup_steps": 20, "warmup_fovs": 7, "decay": "steps", "drop_steps": 10}
    for workers in (1, 64):
        training = Training(steps=50, batch_size=4, learning_rate={"base": 0.1, **config})
        rates = Schedule.of(training, workers)
        step = 4 * workers
        assert (rates.step_fovs, rates.total) == (step, 50 * step)
        passed = [rates.rate(steps * step) for steps in (5, 20, 29, 30, 40)]
        assert passed == pytest.approx([0.025, 0.1, 0.1, 0.05, 0.025])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": {"warmup_steps": 2000}}, "learning_rate's warm-up takes 512000 fields of view, and the"),
        ({"steps": 10, "first_views": [{"fovs": 2560}]}, "first_views takes 2560 fields of view, and the whole"),
    ],
)
def test_a_training_of_so_many_workers_is_longer_than_what_it_begins_with(changes, sentence):
    training = Training(fovs=40_000, batch_size=4, **changes)
    with pytest.raises(FloodlineError, match=sentence):
        Schedule.of(training, workers=64)
    longer = training.model_copy(update={"fovs": 600_000, "steps": None})
    assert Schedule.of(longer, workers=64).total >= 600_000


def test_a_training_is_whole_steps_and_not_shorter_than_configured():
    assert schedule(3, 100, batch_size=4).total == 108


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("linear", 16), ("sqrt", sqrt(16))])
def test_the_rate_grows_with_the_workers_as_configured(scaling, factor):
    assert schedule(16, 16, base=0.01, scaling=scaling).rate(16) == pytest.approx(0.01 * factor)


def test_the_cosine_ends_at_zero_and_is_half_in_the_middle():
    rates = schedule(1, 1100, base=0.2, scaling="none", warmup_fovs=100, decay="cosine")
    assert rates.rate(600) == pytest.approx(0.1)
    assert rates.rate(1100) == pytest.approx(0)


def test_steps_drop_the_rate_again_and_again():
    rates = schedule(
        1, 10**6, base=0.8, scaling="none", warmup_fovs=100, decay="steps", drop_fovs=1000, drop_factor=0.5
    )
    assert [rates.rate(fovs) for fovs in (100, 1099, 1100, 2099, 2100)] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_batch_in_parts_gives_the_step_of_the_whole(kind):
    first = initial_weights(SMALL, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    batches = [Batch(*(rng.random((6, 5, 7, 9), np.float32) for _ in range(3))) for _ in range(3)]

    def train(micro_batch: int | None) -> tuple[list[float], np.ndarray, np.ndarray]:
        training = Training(batch_size=6, micro_batch=micro_batch, precision="float32", optimiser=Optimiser(kind=kind))
        trainer = Trainer(first, SMALL, training, Ranks())
        steps = [trainer.step(batch, 0.01) for batch in batches]
        return [step.loss for step in steps], steps[-1].logits, trainer.state["weights"].numpy()

    whole = train(None)
    for micro_batch in (1, 2, 3, 6, 100):
        for part, expected in zip(train(micro_batch), whole, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(whole[2] - np.concatenate([array.ravel() for array in first.values()])).max() > 0.001


def small_batches(number: int) -> list[Batch]:
    """Bright voxels are the object, which is soon learnt."""
    images = np.random.default_rng(2).normal(size=(number, 2, 5, 7, 9)).astype(np.float32)
    targets = np.where(images > 0, np.float32(0.95), np.float32(0.05))
    return [Batch(image, np.zeros_like(image), target) for image, target in zip(images, targets, strict=True)]


@pytest.mark.parametrize("kind", RULES)
def test_a_trainer_goes_on_from_its_values_as_if_nothing_had_happened(kind):
    training = Training(precision="float32", optimiser=Optimiser(kind=kind), average_decay=0.9)
    first, batches = initial_weights(SMALL, np.random.default_rng(1)), small_batches(6)
    whole, begun, resumed = (Trainer(first, SMALL, training, Ranks()) for _ in range(3))
    for batch in batches:
        whole.step(batch, 0.01)
    for batch in batches[:3]:
        begun.step(batch, 0.01)
    resumed.restore(begun.values())
    for batch in batches[3:]:
        resumed.step(batch, 0.01)
    for name, expected in whole.values().items():
        np.testing.assert_allclose(resumed.values()[name], expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_bfloat16_learns_what_float32_does_and_its_weights_are_float32():
    first, batches = initial_weights(SMALL, np.random.default_rng(1)), 10 * small_batches(2)

    def losses(precision: str) -> np.ndarray:
        trainer = Trainer(first, SMALL, Training(precision=precision), Ranks())
        found = [trainer.step(batch, 0.01).loss for batch in batches]
        assert trainer.precision == precision
        assert {value.dtype for value in trainer.weights().values()} == {np.dtype(np.float32)}
        return np.array(found)

    exact, rounded = losses("float32"), losses("bfloat16")
    learnt = exact[0] - exact[-1]
    assert learnt > 0.2
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=learnt / 10)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_each_component_of_the_gradient_is_clipped(clip):
    first = initial_weights(SMALL, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    image, seed = (100 * rng.normal(size=(1, 5, 7, 9)).astype(np.float32) for _ in range(2))
    batch = Batch(image, seed, np.full((1, 5, 7, 9), 0.95, np.float32))
    options = {"precision": "float32", "optimiser": {"kind": "sgd"}}

    def moved(training: Training) -> np.ndarray:
        trainer = Trainer(first, SMALL, training, Ranks())
        trainer.step(batch, 1.0)
        return trainer.state["weights"].numpy() - np.concatenate([array.ravel() for array in first.values()])

    most = clip or 0.7
    free = moved(Training(clip=1e9, **options))
    assert (np.abs(free) > 2 * most).any()
    clipped = moved(Training(**({"clip": clip} if clip else {}), **options))
    np.testing.assert_allclose(clipped, np.clip(free, -most, most), atol=1e-5)


def test_parts_of_a_batch_must_be_equal():
    with pytest.raises(ValueError, match="micro_batch 4 must divide batch_size 6"):
        Training(batch_size=6, micro_batch=4)
