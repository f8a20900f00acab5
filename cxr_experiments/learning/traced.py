"""A network -> its logit, and the slope of the logit along the image, each as a function traced once.

To trace them takes longer than to validate a short run.  So the runs of a sweep whose graph is the same use the same
ones, each with its own weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.learning.fused_normalization import fused_twin, twin_of


class Answers:
    """A traced function of one network: its weights are put in before it is called.

    Attributes:
        weights: As `keras.Model.get_weights` gives them; empty while they stand in the traced network.
    """

    def __init__(self, traced: _Traced, weights: list[NDArray[np.float32]]) -> None:
        self.traced, self.weights = traced, weights

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        self.traced.take(self)
        return self.traced.function(images)


def logit_of(model: keras.Model, config: ExperimentConfig | None = None) -> Answers:
    """Images (k, size, size, 1) uint8 -> (k, 1) float32, without dropout, by the weights that `model` has now.

    Args:
        model: As `build_model` or `load_model` gives it.
        config: What it was built from.  With it, the function that another network of the same graph has left in this
            process is used once more, and this one is left for the next; without, or with a network of one's own, it
            is traced anew.
    """
    # fused: TensorFlow merges its convolutions with what follows them
    return _answers(_logit, lambda: fused_twin(model), model, config)


def slope_of(model: keras.Model, config: ExperimentConfig | None = None) -> Answers:
    """Images (k, size, size, 1) float32 in [0, 1] -> d logit / d pixel of each; NaN where there is no gradient.

    Of Keras' own normalization: the fused kernel has no deterministic gradient for a trained network on a GPU.

    Args:
        model: As `build_model` or `load_model` gives it.
        config: As in `logit_of`; without, later changes of the model's weights are seen.
    """
    return _answers(_slope, lambda: model if graph_of(config) is None else twin_of(model, _copy), model, config)


def graph_of(config: ExperimentConfig | None) -> tuple[Any, ...] | None:
    """What decides the graph of a network; None where only the network itself knows."""
    if config is None or config.model.builder is not None:
        return None
    return config.data.image_size_px, config.depth, config.pooling, config.training.precision


def forget_answers() -> None:
    """Let go of what is kept: once Keras' session is cleared, its kernels are gone."""
    _kept.clear()


class _Traced:
    """A network, a function of it, and whose weights stand in it."""

    def __init__(self, network: keras.Model, make: Callable[[keras.Model], Any]) -> None:
        self.network, self.function, self.holder = network, make(network), Answers(self, [])

    def take(self, answers: Answers) -> None:
        """Put these weights in, and give those that stood there back to theirs."""
        if answers is not self.holder:
            self.holder.weights = self.network.get_weights()
            self.network.set_weights(answers.weights)
            self.holder, answers.weights = answers, []


# One for each function at most, and process-wide: what is saved is work between two runs of a sweep, which know
# nothing of each other.
_kept: dict[Callable[[keras.Model], Any], tuple[tuple[Any, ...], _Traced]] = {}


def _answers(
    make: Callable[[keras.Model], Any],
    network: Callable[[], keras.Model],
    model: keras.Model,
    config: ExperimentConfig | None,
) -> Answers:
    graph = graph_of(config)
    if graph is None:
        return _Traced(network(), make).holder
    if make in _kept and _kept[make][0] == graph:
        return Answers(_kept[make][1], model.get_weights())
    _kept[make] = graph, _Traced(network(), make)
    return _kept[make][1].holder


def _logit(network: keras.Model) -> Any:
    to_logit = keras.Model(network.input, network.get_layer("logit").output)

    def logit(images: tf.Tensor) -> tf.Tensor:
        return to_logit(images, training=False)

    return _traced(logit, tf.TensorSpec(network.input.shape, tf.uint8))


def _slope(network: keras.Model) -> Any:
    to_logit = keras.Model(network.get_layer("rescale").output, network.get_layer("logit").output)

    def slope(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            logit = tf.reduce_sum(to_logit(images, training=False))
        found = tape.gradient(logit, images)
        return tf.fill(tf.shape(images), np.nan) if found is None else found

    return _traced(slope, tf.TensorSpec(network.input.shape, tf.float32))


def _traced(function: Callable[[tf.Tensor], tf.Tensor], images: tf.TensorSpec) -> Any:
    # there is no loop and no branch over tensors that AutoGraph could rewrite: looking for one only takes time
    return tf.function(function, input_signature=[images], autograph=False)


def _copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config(layer.get_config())
