"""Ratio of the medians of paired times, some of which ended before what was waited for came.

Comes in: for each seed a time of the reference and of what is compared with it.  A run that never came to its goal has
an end but no time.  Every statistic here rises with each time compared and falls with each time of reference, so the
replacement of a time that is not known by a bound moves estimate and interval one way: a reference that did not reach
is counted as if it had at its end, a compared run that did not reach is counted as infinite, and what goes out is an
upper bound for the ratio.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats.bootstrap import LEVEL

MAX_ENUMERATED = 9  # pairs whose bootstrap samples are all written down: 24,310 multisets


@dataclass(frozen=True)
class WaitedTime:
    """Seconds until the goal was reached, or, where it was not, seconds that were waited in vain."""

    seconds: float
    reached: bool = True


@dataclass(frozen=True)
class MedianRatio:
    """Compared over reference.

    Attributes:
        ratio: of the two medians; infinite unless more than half of the compared runs reached.
        low, high: bootstrap percentile interval at 95 %, seeds drawn in pairs, all samples enumerated; NaN for one
            pair.
        exact_level: share of samples of so many pairs whose smallest and largest paired ratio enclose the median one.
        is_range: whether low and high are that smallest and largest paired ratio, as they always are for 5 pairs.
        geometric_mean, geometric_low, geometric_high: of the paired ratios, 95 % by Student's t on their logarithms;
            infinite, or NaN, where a compared run did not reach.
        num_pairs, num_censored_reference, num_censored_compared: counts of seeds.
    """

    ratio: float
    low: float
    high: float
    exact_level: float
    is_range: bool
    geometric_mean: float
    geometric_low: float
    geometric_high: float
    num_pairs: int
    num_censored_reference: int
    num_censored_compared: int


def ratio_of_medians(reference: Sequence[WaitedTime], compared: Sequence[WaitedTime]) -> MedianRatio:
    """Median of `compared` over median of `reference`, with intervals over the seeds, which are kept in pairs.

    The percentile bootstrap's own level is near 95 % for many pairs only.  For five, a sample that holds one seed three
    times has that seed's times as both medians, which happens to the seed with the smallest ratio in 5.8 % of all
    samples, and so to the largest: the interval is the range of the paired ratios, which encloses their median with
    probability 1 - 2^(1-5) = 93.75 %, whatever the distribution.  No distribution-free interval of five pairs reaches
    95 %; the t interval of the logarithms does when they are normal.

    Args:
        reference: (k,) times of the reference, positive, in the order of the seeds.
        compared: (k,) times of the same seeds.

    Raises:
        ValueError: No pair, more than 9, lists of different lengths, or a time that is not positive.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval);
        Fisher and Hall (1991), J. Statist. Plann. Inference 27, 157-169 (all samples instead of random ones);
        Conover (1999), Practical Nonparametric Statistics, section 3.2 (order statistics enclosing a median).

    Example:
        >>> found = ratio_of_medians([WaitedTime(100.0)] * 5, [WaitedTime(s) for s in (20.0, 25.0, 30.0, 35.0, 40.0)])
        >>> found.ratio, found.low, found.high, found.is_range
        (0.3, 0.2, 0.4, True)
    """
    _require(reference, compared)
    slow = np.array([one.seconds for one in reference], dtype=np.float64)
    fast = np.array([one.seconds if one.reached else math.inf for one in compared], dtype=np.float64)
    paired = fast / slow
    low, high = _percentile_interval(slow, fast) if len(slow) > 1 else (math.nan, math.nan)
    mean, mean_low, mean_high = _geometric_mean(paired)
    return MedianRatio(
        ratio=float(np.median(fast) / np.median(slow)),
        low=low,
        high=high,
        exact_level=1 - 2.0 ** (1 - len(slow)),
        is_range=low == float(paired.min()) and high == float(paired.max()),
        geometric_mean=mean,
        geometric_low=mean_low,
        geometric_high=mean_high,
        num_pairs=len(slow),
        num_censored_reference=sum(not one.reached for one in reference),
        num_censored_compared=sum(not one.reached for one in compared),
    )


def _require(reference: Sequence[WaitedTime], compared: Sequence[WaitedTime]) -> None:
    if len(reference) != len(compared) or not 1 <= len(reference) <= MAX_ENUMERATED:
        raise ValueError(
            f"{len(reference)} times of reference and {len(compared)} to compare: expected as many of each, "
            f"seed by seed, 1 to {MAX_ENUMERATED}"
        )
    wrong = [one.seconds for one in (*reference, *compared) if not 0 < one.seconds < math.inf]
    if wrong:
        raise ValueError(f"{wrong[0]} is no time: expected seconds above 0, and finite also where nothing was reached")


def _percentile_interval(slow: Floats, fast: Floats) -> tuple[float, float]:
    """The 2.5 % and 97.5 % points over all samples of as many seeds, each weighed by how often it is drawn."""
    samples, weights = _samples(len(slow))
    ratios = np.median(fast[samples], axis=1) / np.median(slow[samples], axis=1)
    order = np.argsort(ratios, kind="stable")
    reached = np.cumsum(weights[order])
    tail = (1 - LEVEL) / 2
    # no interpolation: a point between a finite and an infinite ratio would be neither
    points = [int(np.searchsorted(reached, share)) for share in (tail, 1 - tail)]
    return float(ratios[order][points[0]]), float(ratios[order][points[1]])


@functools.cache
def _samples(num_pairs: int) -> tuple[NDArray[np.int64], Floats]:
    """Every multiset of seeds, (samples, num_pairs) int64, and the share of draws that give it."""
    samples = np.array(list(itertools.combinations_with_replacement(range(num_pairs), num_pairs)), dtype=np.int64)
    counts = (samples[:, :, None] == np.arange(num_pairs)).sum(axis=1)
    factorials = np.array([math.factorial(count) for count in range(num_pairs + 1)], dtype=np.float64)
    orders = factorials[num_pairs] / factorials[counts].prod(axis=1)
    return samples, np.asarray(orders / num_pairs**num_pairs, dtype=np.float64)


def _geometric_mean(paired: Floats) -> tuple[float, float, float]:
    """Geometric mean and its 95 % limits; limits are NaN for one pair."""
    if np.isinf(paired).any():
        return math.inf, math.nan, math.inf
    logs = np.log(paired)
    mean = float(logs.mean())
    if len(logs) == 1:
        return math.exp(mean), math.nan, math.nan
    half = float(special.stdtrit(len(logs) - 1, (1 + LEVEL) / 2)) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)
