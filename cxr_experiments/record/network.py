"""A trained network as whoever asks it sees it: a function, and what must be known to prepare an image for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LogitFunction = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True)
class Network:
    """A run's network, and what must be known to ask it.

    Attributes:
        predict: images (k, size, size, 1) uint8 -> logits (k,) float64.
        size_px, resize: how an image is prepared for it.
        classes: names of label 0 and label 1.
        threshold: the probability from which on an image is called label 1.
        run_id: of the run, or what an ensemble is called.
        synthetic: it has seen phantoms only.
    """

    predict: LogitFunction
    size_px: int
    resize: str
    classes: tuple[str, str]
    threshold: float
    run_id: str
    synthetic: bool

    def label_of(self, probability: float) -> str:
        """The class that an image of this probability is called."""
        return self.classes[int(probability >= self.threshold)]
