"""A trained model as the bytes of a .tflite file, which LiteRT reads without TensorFlow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from cxr_experiments.errors import RunError, one_line


def to_tflite(model: keras.Model) -> bytes:
    """The model up to its layer `logit`, for batches of any size: (k, size, size, 1) uint8 -> (k, 1) float32.

    Raises:
        RunError: the network has an operation that LiteRT does not know.
    """
    to_logit = keras.Model(model.input, model.get_layer("logit").output)
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "saved"
            to_logit.export(place, verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(place))
            return bytes(converter.convert())
    except Exception as error:  # the converter's own errors have no common kind
        raise RunError(f"this network cannot be exported to LiteRT: {one_line(repr(error))}") from error
