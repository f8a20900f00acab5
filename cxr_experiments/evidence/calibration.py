"""From validation rows to a threshold, and how probabilities compare with what was observed.

An image is called PNEUMONIA if and only if its probability is at least the threshold.  A threshold is chosen on
validation rows and frozen; nothing here sees the test split or changes a probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cxr_experiments.errors import ConfigError, DataError, LeakageError
from cxr_experiments.evidence.metrics import Floats, operating_curve
from cxr_experiments.evidence.stats import wilson_interval

RULES = ("sensitivity_at", "youden", "fixed")


@dataclass(frozen=True)
class Threshold:
    """Where probability becomes a label, and where that came from.

    `value` is the threshold in [0, 1]; `rule` and `target` are the words and number it was asked for with; it was set
    on the `num_images` images of the split `set_on`.
    """

    value: float
    rule: str
    target: float
    num_images: int
    set_on: str = "val"


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin [low, high) of the probabilities (the last one holds 1.0 too).

    `mean_probability` and `observed` (share of positives) are NaN in an empty bin; `observed_low` and `observed_high`
    are the 95 % Wilson interval over images.
    """

    low: float
    high: float
    num_images: int
    mean_probability: float
    observed: float
    observed_low: float
    observed_high: float


def refuse_test(split: str) -> None:
    """What is fitted or chosen never sees test rows.

    Raises:
        LeakageError: the rows are those of the test split.
    """
    if split == "test":
        raise LeakageError("a threshold or a temperature was to be fitted on test rows: fit it on validation rows")


def choose_threshold(y_true: ArrayLike, y_score: ArrayLike, *, rule: str, value: float, split: str) -> Threshold:
    """The threshold that `rule` finds on validation rows.

    Args:
        y_true: (n,) labels in {0, 1}.
        y_score: (n,) probabilities in [0, 1].
        rule: `sensitivity_at`, the largest threshold whose sensitivity is at least `value`; `youden`, the greatest
            sensitivity + specificity, of equals the smallest threshold, which misses the fewest pneumonias; `fixed`.
        value: the sensitivity wanted, or the threshold itself; `youden` does not read it.
        split: which split the rows are of; never "test".

    Raises:
        LeakageError: the rows are those of the test split.
        ConfigError: an unknown rule, or a value outside [0, 1].
        DataError: the rows lack a class that the rule needs.

    References:
        Youden (1950), Cancer 3, 32-35.

    Example:
        >>> rows = ([0, 1, 1, 1, 1], [0.6, 0.2, 0.5, 0.7, 0.9])
        >>> choose_threshold(*rows, rule="sensitivity_at", value=0.75, split="val").value
        0.5
    """
    refuse_test(split)
    if rule not in RULES:
        raise ConfigError(f"threshold.rule={rule}: expected one of {', '.join(RULES)}")
    if not 0 <= value <= 1:
        raise ConfigError(f"threshold.value={value}: expected a number in [0, 1]")
    labels = np.asarray(y_true)
    scores = np.asarray(y_score, dtype=np.float64)
    found = value
    if rule == "sensitivity_at":
        found = _at_sensitivity(scores[labels == 1], value)
    elif rule == "youden":
        found = _at_youden(labels, scores)
    return Threshold(float(found), rule, value, len(scores), split)


def reliability(y_true: ArrayLike, y_score: ArrayLike, num_bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Probabilities in `num_bins` bins of equal width against the share of positives seen in each.

    Args:
        y_true: (n,) labels in {0, 1}.
        y_score: (n,) probabilities in [0, 1].
        num_bins: how many bins.

    Example:
        >>> low, high = reliability([0, 1, 1, 1], [0.1, 0.3, 0.5, 1.0], num_bins=2)
        >>> low.num_images, low.mean_probability, low.observed, high.num_images
        (2, 0.2, 0.5, 2)
    """
    labels = np.asarray(y_true)
    scores = np.asarray(y_score, dtype=np.float64)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_of = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, num_bins - 1)
    return tuple(
        _bin(float(edges[number]), float(edges[number + 1]), labels[bin_of == number], scores[bin_of == number])
        for number in range(num_bins)
    )


def _bin(low: float, high: float, labels: Floats, scores: Floats) -> ReliabilityBin:
    num_images = len(scores)
    num_positive = int(np.sum(labels))
    interval = wilson_interval(num_positive, num_images)
    mean_probability, observed = (float(scores.mean()), num_positive / num_images) if num_images else (np.nan, np.nan)
    return ReliabilityBin(low, high, num_images, mean_probability, observed, interval.low, interval.high)


def _at_sensitivity(positive_scores: Floats, target: float) -> float:
    if positive_scores.size == 0:
        raise DataError(
            "threshold.rule=sensitivity_at: the validation rows hold no positive image; use threshold=fixed"
        )
    num_positive = len(positive_scores)
    # comparing k / n keeps 11 of 20 at a target of 0.55, where ceil(0.55 * 20) would ask for 12
    reached = np.flatnonzero(np.arange(num_positive + 1) / num_positive >= target)[0]
    return float(np.sort(positive_scores)[::-1][max(int(reached), 1) - 1])


def _at_youden(labels: Floats, scores: Floats) -> float:
    if len(np.unique(labels)) < 2:
        raise DataError("threshold.rule=youden: the validation rows hold one class only; use threshold=fixed")
    curve = operating_curve(labels, scores)
    # from the laxest threshold on, so that argmax keeps the smallest of equals; the leading +inf calls nothing
    index = (curve.sensitivity - curve.false_positive_rate)[:0:-1]
    best = int(np.argmax(np.round(index, 12)))
    return float(curve.threshold[:0:-1][best])
