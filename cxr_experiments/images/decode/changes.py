"""What PIL does to one gray image as a whole: (height, width) uint8 in, the same shape out, black where nothing was."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from cxr_experiments.images.decode.limits import Gray


def affine(image: Gray, matrix: tuple[float, float, float, float, float, float]) -> Gray:
    """Each output pixel (x, y) read from (a x + b y + c, d x + e y + f), bilinear."""
    size = (image.shape[1], image.shape[0])
    return np.asarray(Image.fromarray(image).transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def rotate(image: Gray, degrees: float) -> Gray:
    """Turned counter-clockwise about its centre, bilinear."""
    return np.asarray(Image.fromarray(image).rotate(degrees, resample=Image.Resampling.BILINEAR, fillcolor=0))


def blur(image: Gray, sigma_px: float) -> Gray:
    """Under a Gaussian of standard deviation `sigma_px`."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma_px)))


def through_jpeg(image: Gray, quality: int) -> Gray:
    """Written as JPEG of `quality` (1 to 95) and read again."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
