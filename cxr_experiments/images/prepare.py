"""A decoded film becomes the square that a model takes: (size, size, 1) uint8.

Deterministic, and the same function for the store, for prediction and for every later consumer, so that a model never
sees pixels made in another way than those it was trained on.  Nothing is random, and nothing is rescaled to [0, 1].
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cxr_experiments.errors import ConfigError
from cxr_experiments.images.decode import Film, Gray, decode_reduced, read_image_bytes
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
    return _square(Film(image, *image.shape), size_px, resize)


def prepare_bytes(data: bytes, *, size_px: int, resize: str) -> Gray:
    """The square of one image file in memory, as the store holds it.

    The same as `prepare` of `decode_bytes`, but for JPEG files of at least four times the size asked, which are decoded
    at a fraction of their size: docs/resize.md says how far the two differ.

    Args:
        data: one JPEG, PNG or DICOM file.
        size_px, resize: as for `prepare`.

    Raises:
        BadImageError: as `decode_bytes`.
        ConfigError: `resize` is another word.
    """
    side = max if resize == "pad" else min  # the one that becomes `size_px`, or of two the one that is shrunk less
    return _square(decode_reduced(data, size_px=size_px, side=side), size_px, resize)


def prepare_file(path: Path, *, size_px: int, resize: str) -> Gray:
    """The square of one image file, as the store holds it.

    Raises:
        BadImageError, ConfigError: as `prepare_bytes`; and what `read_image_bytes` refuses.
    """
    return prepare_bytes(read_image_bytes(path), size_px=size_px, resize=resize)


def _square(film: Film, size_px: int, resize: str) -> Gray:
    if resize == "squash":
        square = _scaled(film, (0, 0, film.height, film.width), size_px, size_px)
    elif resize == "pad":
        square = _pad(film, size_px)
    elif resize == "crop":
        square = _crop(film, size_px)
    else:
        raise ConfigError(f"data.resize={resize} is unknown; it is one of {', '.join(RESIZES)}")
    return square[:, :, np.newaxis]


def _pad(film: Film, size_px: int) -> Gray:
    """Scale the longer side to `size_px` and centre the rest on black."""
    scale = size_px / max(film.height, film.width)
    height, width = (max(1, round(side * scale)) for side in (film.height, film.width))
    top, left = (size_px - height) // 2, (size_px - width) // 2
    square = np.zeros((size_px, size_px), dtype=np.uint8)
    square[top : top + height, left : left + width] = _scaled(film, (0, 0, film.height, film.width), height, width)
    return square


def _crop(film: Film, size_px: int) -> Gray:
    """The largest centred square, scaled."""
    side = min(film.height, film.width)
    top, left = (film.height - side) // 2, (film.width - side) // 2
    return _scaled(film, (top, left, top + side, left + side), size_px, size_px)


def _scaled(film: Film, part: tuple[int, int, int, int], height: int, width: int) -> Gray:
    """A part of the film (top, left, bottom, right in px of the film in full) as (height, width) uint8.

    Only pixels of the part are read: beyond its edge the filter stops, as at the edge of a film.
    """
    top, left, bottom, right = (edge / film.reduction for edge in part)
    first_row, first_column = math.floor(top), math.floor(left)
    pixels = film.pixels[first_row : math.ceil(bottom), first_column : math.ceil(right)]
    box = (left - first_column, top - first_row, right - first_column, bottom - first_row)
    return scale_to(np.ascontiguousarray(pixels), height, width, box=box)
