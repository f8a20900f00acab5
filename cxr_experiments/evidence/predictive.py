"""What a label is worth: predictive values, also at another prevalence, and Matthews' correlation.

As in `metrics`: weights of shape (n,) give a float, of shape (draws, n) give (draws,); undefined is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxr_experiments.evidence.metrics import Values, sensitivity, specificity


def ppv(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    threshold: float = 0.5,
    prevalence: float | None = None,
    weights: ArrayLike | None = None,
) -> Values:
    """Share of pneumonia among the images called so; at `prevalence` by Bayes' rule, else as these rows have it.

    Example:
        >>> ppv([0, 1, 1, 0], [0.7, 0.9, 0.2, 0.1]), round(ppv([0, 1, 1, 0], [0.7, 0.9, 0.2, 0.1], prevalence=0.1), 3)
        (0.5, 0.1)
    """
    hit, wrong = _rates(y_true, y_score, threshold, prevalence, weights)
    return _ratio(hit, hit + wrong)


def npv(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    threshold: float = 0.5,
    prevalence: float | None = None,
    weights: ArrayLike | None = None,
) -> Values:
    """Share of normal films among those called normal; at `prevalence` by Bayes' rule, else as these rows have it.

    Example:
        >>> npv([0, 1, 1, 0], [0.7, 0.9, 0.2, 0.1])
        0.5
    """
    hit, wrong = _rates(y_true, y_score, threshold, prevalence, weights)
    share = _prevalence(y_true, prevalence, weights)
    return _ratio((1 - share) - wrong, (1 - share) - wrong + share - hit)


def mcc(y_true: ArrayLike, y_score: ArrayLike, *, threshold: float = 0.5, weights: ArrayLike | None = None) -> Values:
    """Matthews' correlation of label and call, in [-1, 1]; NaN where a class or a call is missing.

    References:
        Matthews (1975), Biochim. Biophys. Acta 405, 442-451.

    Example:
        >>> round(mcc([0, 0, 1, 1], [0.1, 0.7, 0.8, 0.9]), 4)
        0.5774
    """
    hit, wrong = _rates(y_true, y_score, threshold, None, weights)
    share = _prevalence(y_true, None, weights)
    called = hit + wrong
    return _ratio(hit - called * share, np.sqrt(share * (1 - share) * called * (1 - called)))


def _rates(
    y_true: ArrayLike, y_score: ArrayLike, threshold: float, prevalence: float | None, weights: ArrayLike | None
) -> tuple[Values, Values]:
    """Shares of all images that are true and false positives."""
    share = _prevalence(y_true, prevalence, weights)
    hit = sensitivity(y_true, y_score, threshold=threshold, weights=weights) * share
    return hit, (1 - specificity(y_true, y_score, threshold=threshold, weights=weights)) * (1 - share)


def _prevalence(y_true: ArrayLike, prevalence: float | None, weights: ArrayLike | None) -> Values:
    if prevalence is not None:
        return prevalence
    labels = np.asarray(y_true, dtype=np.float64)
    table = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    return _ratio(table @ labels, table.sum(axis=-1))


def _ratio(above: Values, below: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(np.asarray(below) > 0, np.asarray(above) / np.asarray(below), np.nan)
    return float(found) if found.ndim == 0 else found
