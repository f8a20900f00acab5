"""The area under the ROC curve with its sampling error in closed form: placements, clustered variance, DeLong's test.

The placement of a positive is the share of the negatives that it outscores (a tie counts one half), and the other way
round; AUROC is the mean of either.  Images of one patient are summed before they are squared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats.bootstrap import LEVEL, patient_clusters


@dataclass(frozen=True)
class DeLong:
    """Two correlated AUROCs: `difference` = a - b, its z, two-sided p and 95 % interval."""

    auroc_a: float
    auroc_b: float
    difference: float
    z: float
    p_value: float
    low: float
    high: float


@dataclass(frozen=True)
class AurocInterval:
    """An AUROC, its standard error over patients, and its 95 % interval on the logit scale (NaN at 0 and 1)."""

    value: float
    standard_error: float
    low: float
    high: float
    method: str


@dataclass(frozen=True, eq=False)
class Placements:
    """`of_positive` (m,) and `of_negative` (n,): sums, not shares, over the other class; `auroc` their mean share."""

    of_positive: Floats
    of_negative: Floats
    auroc: float


def placements(y_true: ArrayLike, y_score: ArrayLike) -> Placements:
    """How many of the other class each image is on the right side of; a tie counts one half.

    Args:
        y_true: (n,) labels in {0, 1}, both present.
        y_score: (n,) finite scores.

    Raises:
        ValueError: one class only.

    Example:
        >>> found = placements([0, 0, 1], [0.1, 0.4, 0.4])
        >>> found.of_positive.tolist(), found.of_negative.tolist(), found.auroc
        ([1.5], [1.0, 0.5], 0.75)
    """
    labels, scores = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        raise ValueError(f"{len(positive)} positives and {len(negative)} negatives: AUROC needs both")
    ranked = np.sort(negative)
    above = 0.5 * (np.searchsorted(ranked, positive, "left") + np.searchsorted(ranked, positive, "right"))
    ranked = np.sort(positive)
    below = 0.5 * (np.searchsorted(ranked, negative, "left") + np.searchsorted(ranked, negative, "right"))
    return Placements(above, len(positive) - below, float(above.sum() / (len(positive) * len(negative))))


def delong_test(y_true: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> DeLong:
    """Two AUROCs on the same images, images independent.

    Args:
        y_true: (n,) labels in {0, 1}.
        score_a: (n,) scores of one model.
        score_b: (n,) scores of the other.

    Raises:
        ValueError: one class only.

    References:
        DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837-845.

    Example:
        >>> delong_test([0, 1, 0, 1], [0.1, 0.9, 0.3, 0.8], [0.1, 0.9, 0.3, 0.8]).p_value
        1.0
    """
    a, b = placements(y_true, score_a), placements(y_true, score_b)
    m, n = len(a.of_positive), len(a.of_negative)
    variance = _sample_variance((a.of_positive - b.of_positive) / n) / m
    variance += _sample_variance((a.of_negative - b.of_negative) / m) / n
    difference, error = a.auroc - b.auroc, math.sqrt(variance)
    z = difference / error if error > 0 else 0.0
    half = float(special.ndtri((1 + LEVEL) / 2)) * error
    p_value = float(2 * special.ndtr(-abs(z)))
    return DeLong(a.auroc, b.auroc, difference, z, p_value, difference - half, difference + half)


def auroc_interval(y_true: ArrayLike, y_score: ArrayLike, patients: ArrayLike) -> AurocInterval:
    """AUROC with an interval over patients, on the logit scale.

    Args:
        y_true: (n,) labels in {0, 1}.
        y_score: (n,) scores.
        patients: (n,) patient keys; a row with the key "" is a patient of its own.

    Returns:
        NaN everywhere with one class only; NaN limits where AUROC is 0 or 1, which has no logit, and where a class has
        one patient only, which leaves no standard error.

    References:
        Obuchowski (1997), Biometrics 53, 567-578; with one image per patient that is DeLong et al. (1988).
    """
    labels = np.asarray(y_true)
    cluster = patient_clusters(patients)
    alone = len(np.unique(cluster)) == len(cluster)
    method = "DeLong 1988, logit scale" if alone else "Obuchowski 1997 over patients, logit scale"
    if len(np.unique(labels)) < 2:
        return AurocInterval(math.nan, math.nan, math.nan, math.nan, method)
    found = placements(labels, y_score)
    variance = _clustered_variance(labels, found, cluster)
    value, error = found.auroc, math.sqrt(variance) if variance >= 0.0 else math.nan
    if not 0.0 < value < 1.0:
        return AurocInterval(value, error, math.nan, math.nan, method)
    half = float(special.ndtri((1 + LEVEL) / 2)) * error / (value * (1 - value))
    logit = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-(logit + sign * half))) for sign in (-1, 1))
    return AurocInterval(value, error, low, high, method)


def auroc_deviations(y_true: ArrayLike, y_score: ArrayLike, patients: NDArray[np.int64], num_patients: int) -> Floats:
    """What each patient contributes to AUROC: scaled jackknife deviations, (num_patients,), 0 where absent.

    The sum of the products of two models' deviations is the jackknife covariance of their AUROCs; see `jackknife`.

    Args:
        y_true: (n,) labels in {0, 1}, both present.
        y_score: (n,) scores.
        patients: (n,) patient numbers in [0, num_patients).
        num_patients: of the whole study; some may have no image here.
    """
    labels, scores = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    found = placements(labels, scores)
    positive, negative = patients[labels == 1], patients[labels == 0]
    num_positive = np.bincount(positive, minlength=num_patients).astype(np.float64)
    num_negative = np.bincount(negative, minlength=num_patients).astype(np.float64)
    lost = np.bincount(positive, found.of_positive, num_patients) + np.bincount(
        negative, found.of_negative, num_patients
    )
    for patient in np.flatnonzero((num_positive > 0) & (num_negative > 0)):  # counted twice above
        own = patients == patient
        pairs = scores[own & (labels == 1)][:, None] - scores[own & (labels == 0)][None, :]
        lost[patient] -= float(np.sum((pairs > 0) + 0.5 * (pairs == 0)))
    left = (len(positive) - num_positive) * (len(negative) - num_negative)
    total = found.of_positive.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        without = np.where(left > 0, (total - lost) / left, np.nan)
    return scaled_deviations(without, (num_positive + num_negative) > 0)


def scaled_deviations(without: Floats, present: NDArray[np.bool_]) -> Floats:
    """Values with each patient left out -> deviations whose products sum to the jackknife covariance.

    Args:
        without: (..., patients) the metric without that patient; read where `present`.
        present: (patients,) who has images here.

    Returns:
        (..., patients) float64, 0 for those who are absent.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, equation 11.5.
    """
    values = np.asarray(without, dtype=np.float64)
    count = int(present.sum())
    mean = values[..., present].mean(axis=-1, keepdims=True)
    return np.where(present, math.sqrt((count - 1) / count) * (values - mean), 0.0)


def _clustered_variance(labels: NDArray[np.int8], found: Placements, cluster: NDArray[np.int64]) -> float:
    """Obuchowski 1997, equations 3 to 5."""
    m, n, auroc = len(found.of_positive), len(found.of_negative), found.auroc
    of_positive, of_negative = cluster[labels == 1], cluster[labels == 0]
    count = int(cluster.max()) + 1
    positives = np.bincount(of_positive, found.of_positive / n - auroc, count)
    negatives = np.bincount(of_negative, found.of_negative / m - auroc, count)
    with_positive, with_negative = len(np.unique(of_positive)), len(np.unique(of_negative))
    s10 = _inflated(with_positive) / m * float(np.sum(positives**2))
    s01 = _inflated(with_negative) / n * float(np.sum(negatives**2))
    s11 = _inflated(count) * float(np.sum(positives * negatives))
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def _inflated(count: int) -> float:
    return count / (count - 1) if count > 1 else math.nan


def _sample_variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else math.nan
