"""Metrics of a binary classifier: labels, scores and weights in; numbers out.

Every metric takes weights of shape (n,) and gives a float, or of shape (draws, n) and gives (draws,) values at once,
which is what makes a bootstrap of thousands of draws cheap: a draw is a row of integer weights.  What is not defined
(one class only, no weight) is NaN, never a stand-in.  Nothing here chooses a threshold, draws at random or reads a
file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
# A float for weights of shape (n,) or None, (draws,) float64 for weights of shape (draws, n): NumPy's own convention,
# which the type system can tell apart only by two overloads for each of the nine metrics.
Values: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class OperatingCurve:
    """What each threshold gives, from the strictest (nothing is positive) to the laxest (everything is).

    `threshold` (k + 1,) float64, descending, +inf first, then each of the k distinct scores.  The rates are (k + 1,),
    or (draws, k + 1) for weights of shape (draws, n); NaN where undefined (no positives, no negatives, nothing
    positive yet).
    """

    threshold: Floats
    sensitivity: Floats
    false_positive_rate: Floats
    precision: Floats


@dataclass(frozen=True, eq=False)
class _Rows:
    """Checked inputs: labels (n,) float64 in {0, 1}, scores (n,), weights (draws, n), and whether one float is
    wanted."""

    labels: Floats
    scores: Floats
    weights: Floats
    single: bool


def auroc(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Area under the ROC curve: the chance that a positive outscores a negative, a tie counting one half.

    Args:
        y_true: (n,) labels in {0, 1}.
        y_score: (n,) finite scores, higher means more positive.
        weights: (n,) or (draws, n), at least 0; None weighs every row alike.

    Returns:
        float, or (draws,) float64; NaN where a class has no weight.

    Raises:
        ValueError: shapes that do not fit, labels other than 0 and 1, scores that are not finite, negative weights.

    References:
        Hanley and McNeil (1982), Radiology 143, 29-36.

    Example:
        >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
        0.875
        >>> auroc([0, 1], [0.2, 0.9], weights=[[1, 1], [2, 0]])
        array([ 1., nan])
    """
    rows = _checked(y_true, y_score, weights)
    positives, negatives = _by_score(rows)
    below = np.cumsum(negatives, axis=1)
    below -= 0.5 * negatives
    wins = np.einsum("dk,dk->d", positives, below)
    return _ratio(rows, wins, positives.sum(axis=1) * negatives.sum(axis=1))


def average_precision(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Average precision: precision at each threshold, weighted by the gain in sensitivity (no interpolation).

    Args and Raises as in `auroc`.

    Returns:
        float, or (draws,) float64; NaN where a class has no weight (without negatives it is 1 whatever the scores say).

    Example:
        >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
        0.8333
    """
    rows = _checked(y_true, y_score, weights)
    positives, negatives = (totals[:, ::-1] for totals in _by_score(rows))
    hits = np.cumsum(positives, axis=1)
    called = hits + np.cumsum(negatives, axis=1)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    total = hits[:, -1]
    return _ratio(rows, np.einsum("dk,dk->d", positives, precision), np.where(called[:, -1] > total, total, 0.0))


def brier(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Brier score: mean squared difference of probability and label, 0 is best.

    Args, Returns and Raises as in `auroc`, with probabilities in [0, 1]; defined for a single class too.

    References:
        Brier (1950), Monthly Weather Review 78, 1-3.

    Example:
        >>> brier([0, 1], [0.5, 1.0])
        0.125
    """
    rows = _probabilities(y_true, y_score, weights)
    return _mean(rows, (rows.scores - rows.labels) ** 2)


def log_loss(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Mean negative log likelihood in nats, with probabilities held at least 2.2e-16 away from 0 and 1.

    Args, Returns and Raises as in `brier`.

    Example:
        >>> round(log_loss([0, 1], [0.5, 0.5]), 4)
        0.6931
    """
    rows = _probabilities(y_true, y_score, weights)
    margin = float(
        np.finfo(np.float64).eps
    )  # a saturated sigmoid gives exactly 1.0, whose logarithm of the rest is -inf
    likelihood = np.clip(np.where(rows.labels == 1, rows.scores, 1 - rows.scores), margin, 1 - margin)
    return _mean(rows, -np.log(likelihood))


def sensitivity(
    y_true: ArrayLike, y_score: ArrayLike, *, threshold: float = 0.5, weights: ArrayLike | None = None
) -> Values:
    """Share of the positives whose score is at least `threshold`; NaN without positives.  Otherwise as `auroc`.

    Example:
        >>> sensitivity([0, 1, 1], [0.7, 0.5, 0.2])
        0.5
    """
    rows = _checked(y_true, y_score, weights)
    is_called = rows.scores >= threshold
    return _ratio(rows, rows.weights @ (rows.labels * is_called), rows.weights @ rows.labels)


def specificity(
    y_true: ArrayLike, y_score: ArrayLike, *, threshold: float = 0.5, weights: ArrayLike | None = None
) -> Values:
    """Share of the negatives whose score is below `threshold`; NaN without negatives.  Otherwise as `auroc`.

    Example:
        >>> specificity([0, 0, 1], [0.5, 0.2, 0.9])
        0.5
    """
    rows = _checked(y_true, y_score, weights)
    negative = 1 - rows.labels
    return _ratio(rows, rows.weights @ (negative * (rows.scores < threshold)), rows.weights @ negative)


def balanced_accuracy(
    y_true: ArrayLike, y_score: ArrayLike, *, threshold: float = 0.5, weights: ArrayLike | None = None
) -> Values:
    """Mean of sensitivity and specificity; NaN where either is.  Otherwise as `auroc`.

    Example:
        >>> balanced_accuracy([0, 0, 1], [0.5, 0.2, 0.9])
        0.75
    """
    hit_rate = sensitivity(y_true, y_score, threshold=threshold, weights=weights)
    return (hit_rate + specificity(y_true, y_score, threshold=threshold, weights=weights)) / 2


def f1(y_true: ArrayLike, y_score: ArrayLike, *, threshold: float = 0.5, weights: ArrayLike | None = None) -> Values:
    """2 TP / (2 TP + FP + FN); NaN where nothing is positive, neither by label nor by score.  Otherwise as `auroc`.

    Example:
        >>> round(f1([0, 1, 1], [0.7, 0.5, 0.2]), 4)
        0.5
    """
    rows = _checked(y_true, y_score, weights)
    is_called = (rows.scores >= threshold).astype(np.float64)
    return _ratio(rows, 2 * rows.weights @ (rows.labels * is_called), rows.weights @ (rows.labels + is_called))


def accuracy(
    y_true: ArrayLike, y_score: ArrayLike, *, threshold: float = 0.5, weights: ArrayLike | None = None
) -> Values:
    """Share of the rows on the right side of `threshold`.  Otherwise as `auroc`; defined for a single class too.

    Example:
        >>> accuracy([0, 0, 1, 1], [0.5, 0.2, 0.9, 0.6])
        0.75
    """
    rows = _checked(y_true, y_score, weights)
    return _mean(rows, ((rows.scores >= threshold) == (rows.labels == 1)).astype(np.float64))


def operating_curve(y_true: ArrayLike, y_score: ArrayLike, *, weights: ArrayLike | None = None) -> OperatingCurve:
    """Sensitivity, false positive rate and precision at every distinct score; Args and Raises as in `auroc`.

    Example:
        >>> curve = operating_curve([0, 1, 1], [0.2, 0.2, 0.9])
        >>> curve.threshold, curve.sensitivity, curve.false_positive_rate
        (array([inf, 0.9, 0.2]), array([0. , 0.5, 1. ]), array([0., 0., 1.]))
    """
    rows = _checked(y_true, y_score, weights)
    hits, alarms = (np.pad(np.cumsum(totals[:, ::-1], axis=1), ((0, 0), (1, 0))) for totals in _by_score(rows))
    curves = [_divide(hits, hits[:, -1:]), _divide(alarms, alarms[:, -1:]), _divide(hits, hits + alarms)]
    threshold = np.concatenate([[np.inf], np.unique(rows.scores)[::-1]])
    return OperatingCurve(threshold, *(curve[0] if rows.single else curve for curve in curves))


def sigmoid(logit: ArrayLike) -> Floats:
    """1 / (1 + exp(-logit)) in float64, without overflow at either end.

    Example:
        >>> sigmoid([0.0, -1000.0, 1000.0])
        array([0.5, 0. , 1. ])
    """
    return np.exp(-np.logaddexp(0.0, -np.asarray(logit, dtype=np.float64)))


def _checked(y_true: ArrayLike, y_score: ArrayLike, weights: ArrayLike | None) -> _Rows:
    labels = np.asarray(y_true, dtype=np.float64)
    scores = np.asarray(y_score, dtype=np.float64)
    given = np.ones(labels.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if labels.ndim != 1 or labels.size == 0 or scores.shape != labels.shape:
        raise ValueError(f"y_true {labels.shape} and y_score {scores.shape}: expected one shape (n,) with n >= 1")
    if given.ndim not in (1, 2) or given.shape[-1] != labels.size:
        raise ValueError(f"weights {given.shape}: expected ({labels.size},) or (draws, {labels.size})")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("y_true: expected labels 0 and 1 only")
    if not np.isfinite(scores).all():
        raise ValueError("y_score: expected finite scores only")
    if not (given.size == 0 or (given.min() >= 0 and np.isfinite(given.max()))):
        raise ValueError("weights: expected finite values of at least 0")
    return _Rows(labels, scores, np.atleast_2d(given), given.ndim == 1)


def _probabilities(y_true: ArrayLike, y_score: ArrayLike, weights: ArrayLike | None) -> _Rows:
    rows = _checked(y_true, y_score, weights)
    if rows.scores.min() < 0 or rows.scores.max() > 1:
        raise ValueError("y_score: expected probabilities in [0, 1]")
    return rows


def _by_score(rows: _Rows) -> tuple[Floats, Floats]:
    """Weight of the positives and of the negatives at each distinct score, ascending: (draws, k) each."""
    order = np.argsort(rows.scores, kind="stable")
    ordered = rows.scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    weights = rows.weights[:, order]
    positives = weights * rows.labels[order]
    weights -= positives
    if len(starts) == len(order):  # no ties: spares two passes over the largest arrays here
        return positives, weights
    return np.add.reduceat(positives, starts, axis=1), np.add.reduceat(weights, starts, axis=1)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    quotient: Floats = np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator > 0)
    return quotient


def _ratio(rows: _Rows, numerator: Floats, denominator: Floats) -> Values:
    values = _divide(numerator, denominator)
    return float(values[0]) if rows.single else values


def _mean(rows: _Rows, per_row: Floats) -> Values:
    return _ratio(rows, rows.weights @ per_row, rows.weights.sum(axis=1))
