"""A trained model as a plain NumPy function, and as a .keras file that is read without executing anything in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import RunError, one_line
from cxr_experiments.learning.model_file import check_model_file, weights_up_to
from cxr_experiments.learning.traced import logit_of

LogitFunction = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def logit_function(model: keras.Model, config: ExperimentConfig | None = None) -> LogitFunction:
    """The model up to its layer `logit`, without dropout: images (k, size, size, 1) uint8 -> logits (k,) float64.

    Args:
        model: As `build_model` or `load_model` gives it; what becomes of its weights later changes nothing.
        config: What it was built from, if the next run of a sweep may take over what is traced here.
    """
    compute = logit_of(model, config)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        if images.shape[1:] != model.input.shape[1:]:
            raise RunError(f"the network takes images of {model.input.shape[1:]}, and these are {images.shape[1:]}")
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
        with weights_up_to(check_model_file(path)):
            model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # HDF5, Keras and TensorFlow raise whatever they stumble over
        raise RunError(f"{path} is not a readable Keras model: {one_line(error)}") from error
    if not _is_ours(model):
        raise RunError(f"{path} has no layer `logit` over square gray images: it was not written by this package")
    return model


def _is_ours(model: keras.Model) -> bool:
    """Whether it leads from images (n, size, size, 1) uint8 over a layer `logit` to (n, 1)."""
    logit = [layer.output for layer in getattr(model, "layers", ()) if layer.name == "logit"]
    if not logit or not isinstance(model.input, keras.KerasTensor):
        return False
    size_px = model.input.shape[1]
    taken = model.input.dtype == "uint8" and tuple(model.input.shape) == (None, size_px, size_px, 1) and size_px
    return bool(taken) and tuple(logit[0].shape) == (None, 1)
