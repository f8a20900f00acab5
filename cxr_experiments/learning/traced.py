"""A network -> its logit, and the slope of the logit along the image, as functions traced once.

To trace them takes longer than to validate a short run.  So the runs of a sweep whose graph is the same use the same
ones, each with its own weights.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.learning.fused_normalization import fused_twin


class Answers:
    """One network's traced functions, with the weights that it had when they were made.

    Attributes:
        weights: As `keras.Model.get_weights` gives them; empty while they stand in the traced twin.
    """

    def __init__(self, traced: _Traced, weights: list[NDArray[np.float32]]) -> None:
        self._traced, self.weights = traced, weights

    def logit(self, images: tf.Tensor) -> tf.Tensor:
        """Images (k, size, size, 1) uint8 -> (k, 1) float32, without dropout."""
        self._traced.take(self)
        return self._traced.logit(images)

    def slope(self, images: tf.Tensor) -> tf.Tensor:
        """Images (k, size, size, 1) float32 in [0, 1] -> d logit / d pixel of each; NaN where there is no gradient."""
        self._traced.take(self)
        return self._traced.slope(images)


def answers_of(model: keras.Model, config: ExperimentConfig | None = None) -> Answers:
    """The answers of `model`, as it is now.

    Args:
        model: As `build_model` or `load_model` gives it.
        config: What it was built from.  With it, functions that another network of the same graph has left in this
            process are used once more, and these are left for the next; without, or with a network of one's own,
            they are traced anew.
    """
    if config is None or config.model.builder is not None:
        return _Traced(model).holder
    graph = _graph_of(config)
    if not _kept or _kept[0][0] != graph:
        _kept[:] = [(graph, _Traced(model))]
        return _kept[0][1].holder
    return Answers(_kept[0][1], model.get_weights())


def forget_answers() -> None:
    """Let go of what is kept: once Keras' session is cleared, its kernels are gone."""
    _kept.clear()


class _Traced:
    """A twin with fused normalization, whose convolutions TensorFlow merges with what follows, and whose it is now."""

    def __init__(self, model: keras.Model) -> None:
        self.twin = fused_twin(model)
        self.holder = Answers(self, [])
        to_logit = keras.Model(self.twin.input, self.twin.get_layer("logit").output)
        from_scaled = keras.Model(self.twin.get_layer("rescale").output, to_logit.output)

        def logit(images: tf.Tensor) -> tf.Tensor:
            return to_logit(images, training=False)

        def slope(images: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(images)
                total = tf.reduce_sum(from_scaled(images, training=False))
            found = tape.gradient(total, images)
            return tf.fill(tf.shape(images), np.nan) if found is None else found

        self.logit = _traced(logit, tf.TensorSpec(model.input.shape, tf.uint8))
        self.slope = _traced(slope, tf.TensorSpec(model.input.shape, tf.float32))

    def take(self, answers: Answers) -> None:
        """Put these weights in, and give those that stood there back to theirs."""
        if answers is self.holder:
            return
        self.holder.weights = self.twin.get_weights()
        self.twin.set_weights(answers.weights)
        self.holder, answers.weights = answers, []


def _traced(function: Any, images: tf.TensorSpec) -> Any:
    # there is no loop and no branch over tensors that AutoGraph could rewrite: looking for one only takes time
    return tf.function(function, input_signature=[images], autograph=False)


def _graph_of(config: ExperimentConfig) -> tuple[Any, ...]:
    return config.data.image_size_px, config.depth, config.pooling, config.model, config.training.precision


# One at most, and process-wide: what is saved is work between two runs of a sweep, which know nothing of each other.
_kept: list[tuple[tuple[Any, ...], _Traced]] = []
