"""Statistics of batch normalization measured for the weights that are validated, instead of averaged along the way.

Keras' running averages lag behind the weights (momentum 0.99: some 100 steps), belong to the weights themselves where
`averaging=ema` validates their average, and to the training images' size and augmentation where validation sees full,
unaugmented films.  Here they are measured before each validation: one forward pass over training images as they are
used, weights fixed.  Wu and Johnson (2021), "Rethinking 'Batch' in BatchNorm", section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import tensorflow as tf

from cxr_experiments.errors import ConfigError


class PreciseBatchNorm(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Before each validation sets mean and variance of every batch normalization to those of the given images.

    Nothing else of the model changes, the seeds of dropout included: training goes on exactly as without.

    Args:
        model: Compiled; stands behind a callback that swaps averaged weights in, so that it meets them.
        batches: (images (b, size, size, 1) uint8, labels), all of one size b: images as validation sees them.

    Raises:
        ConfigError: The network has no batch normalization.
    """

    def __init__(self, model: keras.Model, batches: tf.data.Dataset) -> None:
        super().__init__()
        norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
        if not norms:
            raise ConfigError("batch_norm=precise has no effect: the network has no batch normalization")
        self.batches, self.pairs = batches, [(norm.moving_mean, norm.moving_variance) for norm in norms]
        statistics = {id(variable) for pair in self.pairs for variable in pair}
        self.others = [variable for variable in model.non_trainable_variables if id(variable) not in statistics]

        @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
        def of_batch(images: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
            with _without_memory(norms):
                model(images, training=True)
            return [(tf.identity(mean), tf.identity(variance)) for mean, variance in self.pairs]

        self.of_batch = of_batch

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        before = [variable.numpy() for variable in self.others]
        found = [self.of_batch(images) for images, _ in self.batches]
        for number, (mean, variance) in enumerate(self.pairs):
            means, variances = (tf.stack([batch[number][part] for batch in found]) for part in (0, 1))
            mean.assign(tf.reduce_mean(means, 0))
            # law of total variance: within the batches and between them
            variance.assign(tf.reduce_mean(variances, 0) + tf.math.reduce_variance(means, 0))
        for variable, value in zip(self.others, before, strict=True):
            variable.assign(value)


@contextmanager
def _without_memory(norms: Sequence[keras.layers.BatchNormalization]) -> Iterator[None]:
    """While a function is traced: each average becomes the statistics of the batch, or stays if its layer is frozen."""
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
