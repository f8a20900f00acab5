"""A decoded film becomes the square that a model takes: (size, size, 1) uint8.

Deterministic, and the same function for the store, for prediction and for every later consumer, so that a model never
sees pixels made in another way than those it was trained on.  Nothing is random, and nothing is rescaled to [0, 1].
"""

from __future__ import annotations

import numpy as np

from cxr_experiments.errors import ConfigError
from cxr_experiments.images.decode import Gray
from cxr_experiments.images.decode import resize as scale_to

RESIZES = ("squash", "pad", "crop")


def prepare(image: Gray, *, size_px: int, resize: str) -> Gray:
    """The film as a (size_px, size_px, 1) uint8 square, anti-aliased.

    Args:
        image: (height, width) uint8, as `decode` gives it.
        size_px: side of the square, px.
        resize: "squash" stretches the film: all of it is kept and its aspect ratio is lost.  "pad" keeps both and
            fills with black; the bars tell the aspect ratio, which differs by class in the Kermany set.  "crop" keeps
            the aspect ratio and the centre.

    Raises:
        ConfigError: `resize` is another word.
    """
    if resize == "squash":
        square = _squash(image, size_px)
    elif resize == "pad":
        square = _pad(image, size_px)
    elif resize == "crop":
        square = _crop(image, size_px)
    else:
        raise ConfigError(f"data.resize={resize} is unknown; it is one of {', '.join(RESIZES)}")
    return square[:, :, np.newaxis]


def _squash(image: Gray, size_px: int) -> Gray:
    return scale_to(image, size_px, size_px)


def _pad(image: Gray, size_px: int) -> Gray:
    """Scale the longer side to `size_px` and centre the rest on black."""
    scale = size_px / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    top, left = (size_px - height) // 2, (size_px - width) // 2
    square = np.zeros((size_px, size_px), dtype=np.uint8)
    square[top : top + height, left : left + width] = scale_to(image, height, width)
    return square


def _crop(image: Gray, size_px: int) -> Gray:
    """The largest centred square, scaled."""
    height, width = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return scale_to(np.ascontiguousarray(image[top : top + side, left : left + side]), size_px, size_px)
