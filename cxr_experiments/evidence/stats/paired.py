"""Paired tests and intervals that stand beside the deciding one: McNemar, Holm, corrected t, sign flips, bootstrap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats.bootstrap import LEVEL, Interval, patient_clusters, percentile_interval

NUM_DRAWS = 10_000
MAX_EXACT = 20  # seeds whose signs are all tried: a million


@dataclass(frozen=True)
class CorrectedT:
    """A t statistic of differences over overlapping training sets, with its two-sided p and 95 % interval."""

    mean: float
    t: float
    p_value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class PairedSeed:
    """One seed's images: labels, patients and both models' scores, each (n,)."""

    y_true: ArrayLike
    patients: ArrayLike
    score_a: ArrayLike
    score_b: ArrayLike


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p for b images that one model alone gets right and c that the other alone does.

    References:
        McNemar (1947), Psychometrika 12, 153-157.

    Example:
        >>> mcnemar_exact(10, 10)
        1.0
    """
    from scipy.stats import binomtest  # takes half a second to import, which a training can do without

    return float(binomtest(min(b, c), b + c).pvalue) if b + c else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values, in the order given.

    References:
        Holm (1979), Scand. J. Statist. 6, 65-70.

    Example:
        >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03, 0.005])]
        [0.03, 0.06, 0.06, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, stepped)
    return [float(value) for value in adjusted]


def corrected_resampled_t(differences: ArrayLike, num_train: int, num_test: int) -> float:
    """Two-sided p of the mean difference over splits whose training sets overlap; arguments as below.

    Example:
        >>> round(corrected_resampled_t([0.010, 0.022, -0.004, 0.015], 4708, 524), 4)
        0.2023
    """
    return corrected_resampled_interval(differences, num_train, num_test).p_value


def corrected_resampled_interval(differences: ArrayLike, num_train: int, num_test: int) -> CorrectedT:
    """Mean difference over splits whose training sets overlap; the variance grows by num_test / num_train.

    Args:
        differences: (k,) one per split, two at least.
        num_train: images trained on in each.
        num_test: images judged in each.

    References:
        Nadeau and Bengio (2003), Machine Learning 52, 239-281.
    """
    values = np.asarray(differences, dtype=np.float64)
    count = len(values)
    error = math.sqrt((1 / count + num_test / num_train) * float(values.var(ddof=1)))
    mean = float(values.mean())
    t = mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
    half = float(special.stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return CorrectedT(mean, t, float(2 * special.stdtr(count - 1, -abs(t))), mean - half, mean + half)


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided p of the mean difference when every sign could as well have been the other; all sign patterns tried.

    Raises:
        ValueError: more than 20 differences.

    Example:
        >>> sign_flip([1.0, 2.0, 3.0])
        0.25
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) > MAX_EXACT:
        raise ValueError(f"{len(values)} differences have too many sign patterns; at most {MAX_EXACT}")
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(values))))
    sums = np.abs(signs @ values)
    return float(np.mean(sums >= abs(values.sum()) * (1 - 1e-12)))


def two_level_bootstrap(
    y_true: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int,
) -> Interval:
    """Percentile interval of the difference in mean AUROC, second arm less first, patients and seeds drawn anew.

    Args:
        y_true: (n,) labels in {0, 1}.
        scores: (2, seeds, n).
        patients: (n,) patient keys, "" where not known.
        num_draws: how many draws.
        seed: of the draws.
    """
    table = np.asarray(scores, dtype=np.float64)
    rows = [PairedSeed(y_true, patients, a, b) for a, b in zip(table[0], table[1], strict=True)]
    return two_level_bootstrap_of(rows, num_draws=num_draws, seed=seed)


def two_level_bootstrap_of(rows: Sequence[PairedSeed], *, num_draws: int = NUM_DRAWS, seed: int) -> Interval:
    """`two_level_bootstrap` for seeds that each have images of their own; a patient is drawn for all seeds at once."""
    cluster = _clusters(rows)
    num_clusters = int(cluster.max()) + 1
    rng = np.random.default_rng(seed)
    at_once = max(1, 20_000_000 // max(num_clusters, len(np.asarray(rows[0].y_true))))
    drawn = []
    for start in range(0, num_draws, at_once):
        size = min(at_once, num_draws - start)
        counts = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=size).astype(np.float32)
        seeds = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=size)
        drawn.append(_drawn_differences(rows, cluster, counts, seeds))
    return percentile_interval(np.concatenate(drawn))


def _clusters(rows: Sequence[PairedSeed]) -> NDArray[np.int64]:
    """Patients over all seeds; where they are not known, row i of each seed stands for itself."""
    keys = [[key or f"\0{row}" for row, key in enumerate(np.asarray(one.patients, dtype=str).tolist())] for one in rows]
    return patient_clusters([key for some in keys for key in some])


def _drawn_differences(
    rows: Sequence[PairedSeed], cluster: NDArray[np.int64], counts: NDArray[np.float32], seeds: NDArray[np.int64]
) -> Floats:
    """(draws,) weighted mean over the drawn seeds of each draw's AUROC difference."""
    total, begin = np.zeros(len(counts)), 0
    for number, one in enumerate(rows):
        labels = np.asarray(one.y_true)
        weights = counts[:, cluster[begin : begin + len(labels)]]
        begin += len(labels)
        positive, negative = weights[:, labels == 1], weights[:, labels == 0]
        gain = _wins(labels, one.score_b) - _wins(labels, one.score_a)
        pairs = positive.sum(axis=1, dtype=np.float64) * negative.sum(axis=1, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            total += seeds[:, number] * (np.einsum("dn,dn->d", positive @ gain, negative) / pairs)
    return total / len(rows)


def _wins(labels: NDArray[np.int8], scores: ArrayLike) -> NDArray[np.float32]:
    """(positives, negatives) float32: 1 where the positive outscores the negative, 1/2 at a tie."""
    values = np.asarray(scores, dtype=np.float64)
    gaps = values[labels == 1][:, None] - values[labels == 0][None, :]
    return np.asarray(0.5 * (1 + np.sign(gaps)), dtype=np.float32)
