"""One optimisation step, on one worker or on many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from floodline.config import Network, Training
from floodline.errors import Diverged
from floodline.ffn.network import Weights, shapes, update
from floodline.ffn.precision import Precision, resolve
from floodline.ffn.runtime import tensorflow
from floodline.parallel import Ranks
from floodline.training.batches import Batch
from floodline.training.optimisers import RULES


@dataclass(frozen=True)
class Step:
    """What one step gave.

    Attributes:
        loss: mean over this worker's voxels.
        gradient_norm: of the averaged gradient, before it is clipped.
        logits: the network's new logits, (batch, z, y, x) float32.
    """

    loss: float
    gradient_norm: float
    logits: np.ndarray


class Trainer:
    """Weights and optimiser state, as flat float32 vectors, so that one all-reduce and a few operations do a step.

    Every worker holds the same values: they start from the first worker's, and each step applies the same averaged
    gradient. With `average_decay` there is a running mean of the weights as well (Polyak & Juditsky 1992).

    Attributes:
        precision: of the arithmetic, as the first worker's processor decides it for all; it holds from the first step.
    """

    def __init__(self, weights: Weights, network: Network, training: Training, ranks: Ranks) -> None:
        self.tf = tensorflow()
        self.network, self.training, self.ranks = network, training, ranks
        self.shapes = shapes(network)
        is_bfloat16 = ranks.agree([resolve(training.precision) == "bfloat16"])[0]
        self.precision: Precision = "bfloat16" if is_bfloat16 else "float32"
        flat = np.concatenate([weights[name].ravel() for name in self.shapes])
        self.rule = RULES[training.optimiser.kind]
        self.state = {
            "weights": self.tf.Variable(flat),
            **{name: self.tf.Variable(np.full_like(flat, value)) for name, value in self.rule.slots.items()},
            **({"average": self.tf.Variable(flat)} if training.average_decay else {}),
            "steps": self.tf.Variable(0, dtype=self.tf.int64),
        }
        ranks.share(list(self.state.values()))
        self._step = self.tf.function(self._step_graph, autograph=False)
        self._predict = self.tf.function(self._logits, autograph=False)

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """Train on a batch.

        Raises:
            Diverged: the loss is not finite.
        """
        constant = self.tf.constant
        loss, norm, logits = self._step(
            constant(batch.image),
            constant(batch.seed),
            constant(batch.target),
            constant(learning_rate, self.tf.float32),
        )
        result = Step(float(loss), float(norm), logits.numpy())
        if not np.isfinite(result.loss) or not np.isfinite(result.gradient_norm):
            raise Diverged(
                f"training diverged: the loss is {result.loss} and the gradient's norm {result.gradient_norm} at step "
                f"{int(self.state['steps'])}; lower training.learning_rate.base or lengthen its warmup_fovs."
            )
        return result

    def _step_graph(self, image: Any, seed: Any, target: Any, learning_rate: Any) -> tuple[Any, Any, Any]:
        tf, state = self.tf, self.state
        loss, gradient, logits = self._in_parts(image, seed, target)
        gradient = self.ranks.mean(gradient)
        norm = tf.norm(gradient)
        clipped = tf.clip_by_value(gradient, -self.training.clip, self.training.clip)
        state["steps"].assign_add(1)
        self.rule.apply(tf, state, clipped, learning_rate, self.training.optimiser)
        if "average" in state:
            # Early on, the mean is over as many steps as there were, so that the first weights do not linger.
            passed = tf.cast(state["steps"], tf.float32)
            left = tf.minimum(self.training.average_decay, (1 + passed) / (10 + passed))
            state["average"].assign_sub((1 - left) * (state["average"] - state["weights"]))
        return loss, norm, logits

    def _in_parts(self, image: Any, seed: Any, target: Any) -> tuple[Any, Any, Any]:
        """Loss, gradient and logits of a batch; of one part of it after the other, if so configured."""
        tf, batch = self.tf, image.shape[0]
        parts = batch // min(self.training.micro_batch or batch, batch)
        if parts == 1:
            return self._differentiate(image, seed, target)
        image, seed, target = (tf.reshape(a, (parts, batch // parts, *a.shape[1:])) for a in (image, seed, target))

        def add(part: Any, loss: Any, gradient: Any, logits: Any) -> tuple[Any, ...]:
            more_loss, more_gradient, more_logits = self._differentiate(image[part], seed[part], target[part])
            return (
                part + 1,
                loss + more_loss / parts,
                gradient + more_gradient / parts,
                logits.write(part, more_logits),
            )

        nothing = tf.zeros_like(self.state["weights"])
        _, loss, gradient, logits = tf.while_loop(
            lambda part, *_: part < parts,
            add,
            (0, tf.constant(0.0), nothing, tf.TensorArray(tf.float32, parts)),
            parallel_iterations=1,  # for want of memory they come one after the other
        )
        return loss, gradient, tf.reshape(logits.stack(), (batch, *image.shape[2:]))

    def _differentiate(self, image: Any, seed: Any, target: Any) -> tuple[Any, Any, Any]:
        with self.tf.GradientTape() as tape:
            logits = self._logits(self.state["weights"], image, seed)
            loss = self.tf.reduce_mean(self.tf.nn.sigmoid_cross_entropy_with_logits(target, logits))
        return loss, tape.gradient(loss, self.state["weights"]), logits

    def _logits(self, flat: Any, image: Any, seed: Any) -> Any:
        return seed + update(self._named(flat), image[..., None], seed[..., None], self.precision)[..., 0]

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """New logits, (batch, z, y, x) float32, by the weights that would be the model now."""
        return self._predict(self._model, self.tf.constant(image), self.tf.constant(seed)).numpy()

    @property
    def _model(self) -> Any:
        return self.state.get("average", self.state["weights"])

    def _named(self, flat: Any) -> dict[str, Any]:
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        parts = self.tf.split(flat, sizes)
        return {
            name: self.tf.reshape(part, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def weights(self) -> Weights:
        """The weights that would be the model now, by name."""
        return {name: part.numpy() for name, part in self._named(self._model).items()}

    def values(self) -> dict[str, np.ndarray]:
        """Everything that a checkpoint must hold to go on."""
        return {name: variable.numpy() for name, variable in self.state.items()}

    def restore(self, values: dict[str, np.ndarray]) -> None:
        """Go on from `values` of a checkpoint on every rank; only the first one's count."""
        for name, value in values.items():
            self.state[name].assign(value)
        self.ranks.share(list(self.state.values()))
