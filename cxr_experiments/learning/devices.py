"""Several devices of one machine: each computes its part of every batch, and all hold the same weights.

What they learn is what one device learns from the same batches, up to rounding.  That takes more than Keras' own
mirroring: batch normalization over the whole batch, a gradient that counts each image once where the parts of an
epoch's last batch differ in size, and the dropout masks that one device would draw.  Several machines are none of this:
`MultiWorkerMirroredStrategy.fit` fails with Keras 3 (docs/devices.md).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import keras
import tensorflow as tf

from cxr_experiments.config.schema import TrainingConfig
from cxr_experiments.config.together import check_batch_size
from cxr_experiments.errors import ConfigError
from cxr_experiments.learning.fused_normalization import twin_of


def start_devices(training: TrainingConfig) -> tuple[str, ...]:
    """The names of the devices that will train, such as ("GPU:0", "GPU:1"); to be asked before TensorFlow computes.

    Without a GPU the processor is divided into `num_devices` that share its cores: nothing is faster, but everything
    can be tried.

    Raises:
        ConfigError: there are fewer GPUs than asked for; TensorFlow has started with fewer devices; the batch cannot be
            shared evenly.
    """
    wanted = training.num_devices
    if training.strategy == "none":
        return ("GPU:0",) if tf.config.list_physical_devices("GPU") else ("CPU:0",)
    if num_gpus := len(tf.config.list_physical_devices("GPU")):
        if wanted > num_gpus:
            raise ConfigError(f"training.num_devices={wanted}: TensorFlow sees {num_gpus} GPUs here")
        names = tuple(f"GPU:{number}" for number in range(wanted or num_gpus))
    else:
        _divide_processor(wanted)
        names = tuple(f"CPU:{number}" for number in range(max(1, wanted)))
    check_batch_size(training.batch_size, len(names))
    return names


def _divide_processor(num_devices: int) -> None:
    """So many logical devices on the processor, unless there are as many already."""
    (processor,) = tf.config.list_physical_devices("CPU")
    if num_devices <= len(tf.config.get_logical_device_configuration(processor) or (None,)):
        return
    try:
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * num_devices)
    except RuntimeError as error:
        raise ConfigError(
            f"training.num_devices={num_devices}: TensorFlow has already started in this process with fewer; "
            "in a sweep, add hydra/launcher=process"
        ) from error


def num_replicas(training: TrainingConfig) -> int:
    """How many devices share a batch."""
    return len(start_devices(training)) if training.strategy == "mirrored" else 1


def device_scope(training: TrainingConfig) -> AbstractContextManager[Any]:
    """Where the network that is fitted, and all that belongs to it, is made."""
    return _mirrored(start_devices(training)).scope() if num_replicas(training) > 1 else nullcontext()


@cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    return tf.distribute.MirroredStrategy(list(names))


def check_last_batch(num_images: int, batch_size: int, num_devices: int) -> None:
    """No device may be left without an image: TensorFlow's convolutions do not take an empty part.

    Raises:
        ConfigError: the last training batch of an epoch is too small, or the only one cannot be shared evenly.
    """
    if not _shareable(num_images, batch_size, num_devices):
        raise ConfigError(
            f"training.batch_size={batch_size} leaves the last of the batches of {num_images:,} training images with "
            f"{num_images % batch_size} for {num_devices} devices: choose another multiple of {num_devices}"
        )


def validation_batch_size(num_images: int, batch_size: int, num_devices: int) -> int:
    """The largest size up to `batch_size` that leaves no device without an image; a mean does not depend on it.

    Raises:
        ConfigError: there is none, for a handful of images.

    Example:
        >>> validation_batch_size(784, 32, 1), validation_batch_size(33, 32, 2)
        (32, 30)
    """
    if num_devices == 1:
        return batch_size
    sizes = range(batch_size - batch_size % num_devices, 0, -num_devices)
    for size in sizes:
        if _shareable(num_images, size, num_devices):
            return size
    raise ConfigError(f"{num_images} validation images are too few for {num_devices} devices")


def _shareable(num_images: int, batch_size: int, num_devices: int) -> bool:
    # Keras averages the first batch over the devices to learn its shape, which takes equal parts
    last = num_images % batch_size
    return (last == 0 or last >= num_devices) and min(num_images, batch_size) % num_devices == 0


def mirrored_twin(model: keras.Model, *, any_size: bool = False) -> keras.Model:
    """A twin (`fused_twin`) for several devices: batch normalization and dropout as over the whole batch.

    Raises:
        ConfigError: a batch normalization inside a wrapper, where it cannot be reached.
    """
    twin = twin_of(model, _for_parts, any_size=any_size, recursive=True)
    for layer in twin._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized:
            raise ConfigError(
                f"training.strategy=mirrored: the batch normalization {layer.name} stands inside another layer and "
                "would see a part of the batch alone: call it as a layer of its own"
            )
    return twin


def _for_parts(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if type(layer) is keras.layers.BatchNormalization:
        return keras.layers.BatchNormalization.from_config({**config, "synchronized": True})
    return (_PartOfDropout if type(layer) is keras.layers.Dropout else type(layer)).from_config(config)


class _PartOfDropout(keras.layers.Dropout):  # type: ignore[misc]  # Keras is untyped
    """Draws the mask of the whole batch, as one device does, and applies this device's part of it."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not _among_devices():
            return super().call(inputs, training=training)
        sizes, own = _part_sizes(tf.shape(inputs)[0])
        sizes = tf.cast(sizes, tf.int32)
        whole = tf.concat([[tf.reduce_sum(sizes)], tf.shape(inputs)[1:]], 0)
        mask = super().call(tf.ones(whole, inputs.dtype), training=True)
        first = tf.reduce_sum(sizes[:own])
        return inputs * mask[first : first + sizes[own]]


class MeanOverImages(keras.losses.BinaryCrossentropy):  # type: ignore[misc]  # Keras is untyped
    """Keras' loss, whose gradient is that of the mean over the whole batch also where its parts differ in size.

    Keras takes the mean within each part and then that of the parts: an image of the smaller part would count for more.
    """

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        losses = super().call(y_true, y_pred)
        if not _among_devices():
            return losses
        sizes, own = _part_sizes(tf.shape(losses)[0])
        weighed = losses * sizes[own] / tf.reduce_mean(sizes)
        return weighed + tf.stop_gradient(losses - weighed)  # what is told stays the loss of each image


def _among_devices() -> bool:
    """Whether this is traced as one of several parts, and not while Keras looks at shapes."""
    return not tf.distribute.in_cross_replica_context() and tf.distribute.get_strategy().num_replicas_in_sync > 1


def _part_sizes(num_images: tf.Tensor) -> tuple[tf.Tensor, int]:
    """Images of each device's part, (devices,) float32, and which one this is."""
    replica = tf.distribute.get_replica_context()
    own: int = replica.replica_id_in_sync_group
    sizes = tf.one_hot(own, replica.num_replicas_in_sync) * tf.cast(num_images, tf.float32)
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, sizes), own
