"""Intervals: a metric and its rows in, how far chance could have moved it out.

The images of one patient resemble each other, so the bootstrap draws patients and takes all of a patient's images
together; an interval over images would be too narrow.  Where patients are not known each image stands for itself.
Every function takes a seed; nothing here touches global random state, and a draw in which a metric is not defined is
counted and left out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_experiments.evidence.metrics import Floats, Values

LEVEL = 0.95
NUM_DRAWS = 2000
CHUNK_CELLS = 2_000_000  # weights held at once: 16 MB, whatever the number of images and draws

Metric = Callable[..., Values]  # (y_true, y_score, *, weights) -> (draws,) values


class UndefinedDrawsWarning(UserWarning):
    """Some bootstrap draws held one class only; the interval rests on the others."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval; low and high are NaN when no draw was defined.

    `num_undefined` of the `num_draws` draws gave no value (one class only) and are left out.
    """

    low: float
    high: float
    level: float
    num_draws: int
    num_undefined: int


def patient_clusters(patients: ArrayLike) -> NDArray[np.int64]:
    """The cluster of each row, (n,) int64 in [0, number of clusters).

    Args:
        patients: (n,) patient keys; rows with the same key share a cluster, a row with the key "" is one of its own.

    Example:
        >>> patient_clusters(["p1", "", "p1", ""]).tolist()
        [0, 1, 0, 2]
    """
    keys = [key or row for row, key in enumerate(np.asarray(patients, dtype=str).tolist())]
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def patient_weights(patients: ArrayLike, *, num_draws: int = NUM_DRAWS, seed: int) -> Iterator[Floats]:
    """Bootstrap draws of patients as weights of their images, in chunks of (some draws, n) float64.

    As many patients as there are, drawn with replacement; a row's weight is how often its patient was drawn.  The draws
    depend on the seed and the patients alone, not on the size of the chunks.
    """
    cluster = patient_clusters(patients)
    num_clusters = int(cluster.max()) + 1
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK_CELLS // len(cluster))
    for start in range(0, num_draws, at_once):
        size = min(at_once, num_draws - start)
        drawn = rng.integers(num_clusters, size=(size, num_clusters))
        drawn += num_clusters * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_clusters).reshape(size, num_clusters)
        yield counts.astype(np.float64)[:, cluster]


def bootstrap_intervals(
    metrics: Mapping[str, Metric],
    y_true: ArrayLike,
    y_score: ArrayLike,
    patients: ArrayLike,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int,
) -> dict[str, Interval]:
    """The 95 % percentile interval of each metric, all from the same draws of patients.

    Args:
        metrics: name -> function (y_true, y_score, *, weights of shape (draws, n)) -> (draws,).
        y_true: (n,) labels in {0, 1}.
        y_score: (n,) scores.
        patients: (n,) patient keys, "" where not known.
        num_draws: how many draws.
        seed: of the draws.

    References:
        Field and Welsh (2007), Bootstrapping clustered data, J. R. Statist. Soc. B 69, 369-390.
    """
    chunks: dict[str, list[Floats]] = {name: [] for name in metrics}
    for weights in patient_weights(patients, num_draws=num_draws, seed=seed):
        for name, metric in metrics.items():
            chunks[name].append(metric(y_true, y_score, weights=weights))
    return {name: percentile_interval(np.concatenate(values)) for name, values in chunks.items()}


def patient_bootstrap(
    metric: Metric,
    y_true: ArrayLike,
    y_score: ArrayLike,
    patients: ArrayLike,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int,
) -> Interval:
    """The interval of one metric; arguments as in `bootstrap_intervals`.

    Warns:
        UndefinedDrawsWarning: when some draws held one class only.

    Example:
        >>> from cxr_experiments.evidence.metrics import accuracy
        >>> found = patient_bootstrap(accuracy, [0, 1, 1, 1], [0.1, 0.9, 0.2, 0.8], ["a", "b", "c", "d"], seed=0)
        >>> found.low, found.high, found.num_undefined
        (0.25, 1.0, 0)
    """
    named = bootstrap_intervals({"": metric}, y_true, y_score, patients, num_draws=num_draws, seed=seed)
    interval = named[""]
    if interval.num_undefined:
        text = f"{interval.num_undefined} of {num_draws} draws held one class only; the interval rests on the others"
        warnings.warn(text, UndefinedDrawsWarning, stacklevel=2)
    return interval


def percentile_interval(values: ArrayLike, *, level: float = LEVEL) -> Interval:
    """The central `level` share of the defined values; values: (draws,) float64 with NaN where undefined.

    Example:
        >>> found = percentile_interval([0.0, 1.0, 2.0, float("nan")], level=0.5)
        >>> found.low, found.high, found.num_undefined
        (0.5, 1.5, 1)
    """
    draws = np.asarray(values, dtype=np.float64)
    defined = draws[~np.isnan(draws)]
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) if defined.size else (math.nan, math.nan)
    return Interval(float(low), float(high), level, draws.size, draws.size - defined.size)


def wilson_interval(num_hits: int, num_rows: int) -> Interval:
    """The 95 % Wilson score interval of a proportion over independent rows; NaN for no rows.

    References:
        Wilson (1927), J. Am. Statist. Assoc. 22, 209-212.

    Example:
        >>> found = wilson_interval(0, 10)
        >>> round(found.low, 4), round(found.high, 4)
        (0.0, 0.2775)
    """
    if num_rows == 0:
        return Interval(math.nan, math.nan, LEVEL, 0, 0)
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = num_hits / num_rows
    centre = (share + z**2 / (2 * num_rows)) / (1 + z**2 / num_rows)
    half = z / (1 + z**2 / num_rows) * math.sqrt(share * (1 - share) / num_rows + z**2 / (4 * num_rows**2))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), LEVEL, 0, 0)
