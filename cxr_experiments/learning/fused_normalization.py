"""A model -> its twin that computes the same function with TensorFlow's fused batch normalization.

Keras 3 composes batch normalization of elementary operations, each of which reads and writes the whole feature map:
about a third of a training step on a CPU, half under bfloat16.  TensorFlow's fused kernel reads it twice.  The twin is
for computing only: what is kept is the model itself, of Keras' own layers, into which the weights are copied back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras is untyped
    """`keras.layers.BatchNormalization` over the last axis of images, by one kernel each way; the same weights."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        learning = bool(training) and self.trainable
        nothing = tf.zeros((0,), tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=nothing if learning else self.moving_mean,
            variance=nothing if learning else self.moving_variance,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            # the kernel tells the unbiased variance; Keras averages the biased one
            count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance * ((count - 1) / count))
        return outputs

    def _move(self, average: keras.Variable, value: tf.Tensor) -> None:
        """One step of an exponential moving average."""
        average.assign(average * self.momentum + value * (1 - self.momentum))


def fused_twin(model: keras.Model, *, any_size: bool = False) -> keras.Model:
    """A model of the same layers, names and weights (copied) with every batch normalization of images fused.

    Args:
        model: Built; its batch normalizations become `FusedBatchNormalization` where the kernel fits (4 axes, channels
            last, scale and offset, no renormalization) and stay Keras' own elsewhere.
        any_size: The twin takes images of every height and width; without, those of `model` alone.
    """
    return twin_of(model, _fused, any_size=any_size)


def twin_of(
    model: keras.Model,
    layer_for: Callable[[keras.layers.Layer], keras.layers.Layer],
    *,
    any_size: bool = False,
    recursive: bool = False,
) -> keras.Model:
    """A model of the same names and weights (copied) with `layer_for(layer)` in place of each layer.

    Args:
        model: Built.
        layer_for: Gives a new layer with the same weights; input layers are copied.
        any_size: The twin takes images of every height and width; without, those of `model` alone.
        recursive: Also the layers of a model that stands as a layer in `model`.
    """
    inputs = keras.Input((None, None, *model.input.shape[3:]), dtype=model.input.dtype) if any_size else None
    twin = keras.models.clone_model(model, input_tensors=inputs, clone_function=layer_for, recursive=recursive)
    twin.set_weights(model.get_weights())
    return twin


def _fused(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = FusedBatchNormalization if _fits(layer) else type(layer)
    return kind.from_config(layer.get_config())


def _fits(layer: Any) -> bool:
    if type(layer) is not keras.layers.BatchNormalization or layer.input_spec is None:
        return False
    whole = layer.scale and layer.center and not layer.renorm and not layer.synchronized
    return whole and layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
