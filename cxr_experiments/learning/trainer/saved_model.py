"""A trained model as a plain NumPy function, and as a .keras file that is read without executing anything in it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.errors import RunError
from cxr_experiments.learning.fused_normalization import fused_twin

LogitFunction = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def logit_function(model: keras.Model) -> LogitFunction:
    """The model up to its layer `logit`, without dropout: images (k, size, size, 1) uint8 -> logits (k,) float64."""
    twin = fused_twin(model)  # whose convolutions TensorFlow merges with what follows them
    to_logit = keras.Model(twin.input, twin.get_layer("logit").output)

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.uint8)])  # type: ignore[untyped-decorator]
    def compute(images: tf.Tensor) -> tf.Tensor:
        return to_logit(images, training=False)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(compute(tf.constant(images)), dtype=np.float64)[:, 0]

    return predict


def save_model(model: keras.Model, path: Path) -> None:
    """Writes architecture and weights, without optimizer, as `path` (.keras); it appears when it is whole."""
    partial = path.with_name(f"{path.stem}.partial.keras")
    keras.Model(model.input, model.output, name=model.name).save(partial)
    partial.replace(path)


def load_model(path: Path) -> keras.Model:
    """The uncompiled model that `save_model` wrote; nothing in the file is executed.

    Raises:
        RunError: The file is missing, broken, unsafe, or not one of ours.
    """
    if not path.is_file():
        raise RunError(f"there is no model {path}")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is not a readable Keras model: {str(error).splitlines()[0]}") from error
    if "logit" not in [layer.name for layer in model.layers]:
        raise RunError(f"{path} has no layer `logit`: it was not written by this package")
    return model
