"""Stress validation: the same films under eight declared changes that happen between X-ray rooms.

Prepared images in, changed images out, (n, size, size, 1) uint8 both.  Every change is deterministic and at one
severity, in units of the image's side and of the gray range, so that 64 px and 200 px are changed alike (JPEG apart).
How well a model bears them measures its robustness; it does not foresee how it will do on films from elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.images.decode.changes import affine, blur, rotate, through_jpeg

Film = NDArray[np.uint8]

# One severity, at the edge of what a technician would still send on.
FRAMING_FRACTION = 0.85  # side of what is kept of the film; collimation and distance differ between rooms
FRAMING_CORNER = (0.25, 0.75)  # where in the rest the kept part lies: a little left of and below the middle
SHIFT_FRACTION = (0.08, -0.06)  # right, down
ROTATION_DEGREES = 8.0
EXPOSURE_GAMMA = 0.6  # gray ** gamma: a film that came out too bright
CONTRAST_FACTOR = 0.6  # about the film's own mean: a flat tone curve
BLUR_FRACTION = 0.012  # standard deviation of the Gaussian, in sides: the patient breathed
NOISE_LEVELS = 15.0  # standard deviation in gray levels at 200 px: a low dose; shrinking averages it away
JPEG_QUALITY = 25  # a film that went through a messenger; its blocks are 8 px at any size, so small images suffer more


def stress(images: Film, change: str) -> Film:
    """The images under one of `CHANGES`.

    Args:
        images: (n, size, size, 1) uint8.
        change: a name in `CHANGES`.

    Returns:
        (n, size, size, 1) uint8; the same for the same image, whatever stands beside it.
    """
    return np.stack([CHANGES[change](image[..., 0])[..., np.newaxis] for image in images])


def _framing(film: Film) -> Film:
    side = len(film)
    left, top = ((1 - FRAMING_FRACTION) * side * corner for corner in FRAMING_CORNER)
    return affine(film, (FRAMING_FRACTION, 0.0, left, 0.0, FRAMING_FRACTION, top))


def _shift(film: Film) -> Film:
    right, down = (fraction * len(film) for fraction in SHIFT_FRACTION)
    return affine(film, (1.0, 0.0, -right, 0.0, 1.0, -down))


def _rotation(film: Film) -> Film:
    return rotate(film, ROTATION_DEGREES)


def _exposure(film: Film) -> Film:
    return _levels(255.0 * (film / 255.0) ** EXPOSURE_GAMMA)


def _contrast(film: Film) -> Film:
    mean = film.mean()
    return _levels(mean + CONTRAST_FACTOR * (film - mean))


def _blur(film: Film) -> Film:
    return blur(film, BLUR_FRACTION * len(film))


def _noise(film: Film) -> Film:
    """The noise is drawn from the film's own content: it depends on no order and no seed."""
    seed = int.from_bytes(hashlib.sha256(film.tobytes()).digest()[:8], "big")
    return _levels(film + np.random.default_rng(seed).normal(0.0, NOISE_LEVELS * len(film) / 200, film.shape))


def _jpeg(film: Film) -> Film:
    return through_jpeg(film, JPEG_QUALITY)


def _levels(gray: NDArray[np.float64]) -> Film:
    return np.clip(np.round(gray), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Film], Film]] = {
    "framing": _framing,
    "shift": _shift,
    "rotation": _rotation,
    "exposure": _exposure,
    "contrast": _contrast,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
}
