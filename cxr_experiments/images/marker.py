"""A planted shortcut: a bright square in the lower right corner of a phantom, tied to the label and reversed in test.

With `data.marker=label` PNEUMONIA carries it in training and validation, and NORMAL in the official test rows, so that
a network that reads the corner does well on validation and worse than chance on test.  It exists to prove that the
shortcut gate rings, as lead letters and skin markings have done to published classifiers.

References:
    Zech et al. (2018), PLoS Medicine 15, e1002683 (lead letters).  Winkler et al. (2019), JAMA Dermatology 155,
    1135-1141 (marks of the pen beside moles).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of the film's side: inside the outermost eighth, and 3 px of a film that is shrunk to 32 px.
SIDE_FRACTION = 0.09
MARGIN_FRACTION = 0.02


def is_marked(*, label: int, split: str) -> bool:
    """Whether a film carries the mark: PNEUMONIA does, and in the test rows NORMAL instead."""
    return (label == 1) != (split == "test")


def plant(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The film with the mark; (height, width) uint8, a copy."""
    marked = image.copy()
    height, width = image.shape
    side, margin = round(SIDE_FRACTION * min(image.shape)), round(MARGIN_FRACTION * min(image.shape))
    marked[height - margin - side : height - margin, width - margin - side : width - margin] = 255
    return marked
