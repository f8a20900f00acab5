"""Test-time augmentation: a model asked about an image as it is and about a few changed copies, in one logit.

Comes in: the augmentation that the model was trained with and its logit function.  Goes out: a logit function of the
same form.  The copies of an image depend on the seed alone, not on the images beside it, so that it gets the same
answer in every batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import AugmentationConfig
from cxr_experiments.errors import ConfigError
from cxr_experiments.learning.augmentation import make_augmentation
from cxr_experiments.learning.trainer import LogitFunction

Average = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def with_augmented_copies(
    predict: LogitFunction, config: AugmentationConfig, *, num_draws: int, seed: int, average: Average
) -> LogitFunction:
    """`predict` over the plain image and `num_draws` augmented copies of it, in one logit.

    Args:
        predict: images (k, size, size, 1) uint8 -> logits (k,) float64.
        config: the model's own training augmentation.
        num_draws: copies beside the plain image; the cost grows by this factor.
        seed: draws the changes; they are the same `num_draws` for every image.
        average: (1 + num_draws, k) logits -> (k,), the plain image's first; see `evidence.ensemble.logit_of_mean`.

    Raises:
        ConfigError: the augmentation changes nothing, so that every copy would be the image itself.

    References:
        Krizhevsky, Sutskever, Hinton (2012), NeurIPS 25, section 4.1 (mean over crops and flips at test time).
    """
    augment = make_augmentation(config)
    probe = tf.zeros((1, 16, 16, 1), tf.uint8)
    if augment(probe, tf.constant([seed, 0])) is probe:
        raise ConfigError("the model was trained with augmentation=none: its copies at test time would all be alike")

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def changed(images: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        # one image at a time: a batch would draw by the place of an image in it
        return tf.map_fn(lambda image: augment(image[None], tf.stack([seed, draw]))[0], images)

    def mean_logit(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        copies = (np.asarray(changed(tf.constant(images), tf.constant(draw))) for draw in range(num_draws))
        logits = np.stack([predict(images), *map(predict, copies)])
        return average(logits)

    return mean_logit
