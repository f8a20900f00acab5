"""What training sees: a few images and their augmented versions, as one array to draw."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import AugmentationConfig
from cxr_experiments.learning.augmentation import make_augmentation


def augmented_examples(
    images: NDArray[np.uint8], config: AugmentationConfig, *, seed: int, num_versions: int = 5
) -> NDArray[np.uint8]:
    """Each image and its augmented versions beside it.

    Args:
        images: (rows, size, size, 1) uint8.
        config: the augmentation.
        seed: draws the versions.
        num_versions: augmented columns behind the original.

    Returns:
        (rows, 1 + num_versions, size, size) uint8; column 0 is the original.
    """
    augment = make_augmentation(config)
    batch = tf.constant(images)
    versions = [augment(batch, tf.constant([seed, number], tf.int32)).numpy() for number in range(num_versions)]
    return np.stack([images, *versions], axis=1)[..., 0]


def of_training(
    images: NDArray[np.uint8], train: NDArray[np.int64], config: AugmentationConfig, *, seed: int
) -> NDArray[np.uint8]:
    """`augmented_examples` of four training images, evenly spaced in the rows `train` of `images`."""
    return augmented_examples(images[train[:: max(1, len(train) // 4)][:4]], config, seed=seed)


def gray_ramp(size_px: int) -> NDArray[np.uint8]:
    """A (1, size, size, 1) uint8 ramp from black to white: the input example of a saved model shows nobody's chest."""
    ramp = np.linspace(0, 255, size_px).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(ramp[None, None, :, None], (1, size_px, size_px, 1)))
