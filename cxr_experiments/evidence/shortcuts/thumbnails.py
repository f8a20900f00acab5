"""Small copies of prepared images, which is all that probes look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.metrics import Floats

THUMBNAIL_PX = 32
_AT_ONCE = 256


def thumbnails_of(
    images: NDArray[np.uint8], indices: NDArray[np.int64], *, size_px: int = THUMBNAIL_PX
) -> NDArray[np.uint8]:
    """(k, size_px, size_px) uint8: the rows `indices`, each pixel the mean of the area that it covers.

    Args:
        images: (n, size, size, 1) or (n, size, size) uint8; may be memory-mapped.
        indices: (k,) row numbers.
        size_px: side of the copies.
    """
    weights = _area_weights(images.shape[1], size_px).astype(np.float32)
    small = np.empty((len(indices), size_px, size_px), dtype=np.uint8)
    for start in range(0, len(indices), _AT_ONCE):
        chosen = indices[start : start + _AT_ONCE]
        films = np.asarray(images[chosen], dtype=np.float32).reshape(len(chosen), *images.shape[1:3])
        small[start : start + len(chosen)] = np.round(weights @ films @ weights.T)
    return small


def _area_weights(size: int, size_px: int) -> Floats:
    """(size_px, size): how much of each source pixel lies in each target pixel; rows sum to one."""
    edges = np.linspace(0, size, size_px + 1)
    starts = np.arange(size)
    overlap = np.minimum(edges[1:, None], starts + 1.0) - np.maximum(edges[:-1, None], starts)
    return np.asarray(np.maximum(overlap, 0.0) * (size_px / size), dtype=np.float64)
