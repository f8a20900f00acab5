"""Arms over random seeds and random patients: Obuchowski and Rockette's analysis with Hillis' degrees of freedom.

Its readers are here the trainings with different seeds.  Estimates (arms, seeds) and jackknife deviations (arms, seeds,
patients) come in, for any metric; seeds may share their patients (a test split), share some or none (a validation cut
of their own each).  A verdict is not given here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from cxr_experiments.evidence.metrics import Floats, Values
from cxr_experiments.evidence.stats.auroc import auroc_deviations, placements, scaled_deviations
from cxr_experiments.evidence.stats.bootstrap import LEVEL, patient_clusters

# Patients left out one by one are weights of (patients, images); so many cells are held at once.
CHUNK_CELLS = 2_000_000


@dataclass(frozen=True)
class Contrast:
    """Two arms compared: difference, standard error, F, degrees of freedom, two-sided p and interval.

    `seed_variance` and `arm_seed_variance` are the spread of seeds that both arms share and that they do not (at least
    0); `error_variance`, `cov1` (same seed, other arm), `cov2` (same arm, other seed) and `cov3` (both other) are the
    patients' part, in the metric's units squared.
    """

    difference: float
    standard_error: float
    f: float
    degrees_of_freedom: float
    p_value: float
    low: float
    high: float
    seed_variance: float
    arm_seed_variance: float
    error_variance: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True)
class ArmMean:
    """One arm's mean over seeds with its interval over random seeds and patients."""

    value: float
    standard_error: float
    degrees_of_freedom: float
    low: float
    high: float


@dataclass(frozen=True)
class _Covariances:
    error: float
    cov1: float
    cov2: float
    cov3: float


def obuchowski_rockette(
    y_true: ArrayLike, scores: ArrayLike, *, patients: ArrayLike | None = None, level: float = LEVEL
) -> Contrast:
    """AUROCs of several arms, each read by the same seeds on the same cases; seeds and cases random.

    Args:
        y_true: (cases,) labels in {0, 1}.
        scores: (arms, seeds, cases); two arms and two seeds at least.
        patients: (cases,) patient keys; None takes each case as a patient of its own.
        level: of the interval.

    Returns:
        F tests all arms; difference, standard error and interval are first minus second arm's mean AUROC.

    References:
        Obuchowski and Rockette (1995), Commun. Stat. Simul. Comput. 24, 285-308; Hillis (2007), Stat. Med. 26, 596-619.
    """
    labels, table = np.asarray(y_true), np.asarray(scores, dtype=np.float64)
    keys = np.full(len(labels), "") if patients is None else patients
    cluster = patient_clusters(keys)
    count = int(cluster.max()) + 1
    estimates = np.array([[placements(labels, row).auroc for row in arm] for arm in table])
    deviations = np.array([[auroc_deviations(labels, row, cluster, count) for row in arm] for arm in table])
    return _contrast(estimates, deviations, estimates[0].mean() - estimates[1].mean(), level)


def random_reader_contrast(estimates: ArrayLike, deviations: ArrayLike, *, level: float = LEVEL) -> Contrast:
    """The second arm's mean less the first's (option less baseline), for any metric.

    Args:
        estimates: (2, seeds) the metric of each run; two seeds at least.
        deviations: (2, seeds, patients) scaled jackknife deviations, 0 where a patient has no image with that seed.
        level: of the interval.
    """
    values = np.asarray(estimates, dtype=np.float64)
    return _contrast(values, np.asarray(deviations, dtype=np.float64), values[1].mean() - values[0].mean(), level)


def random_reader_mean(estimates: ArrayLike, deviations: ArrayLike, *, level: float = LEVEL) -> ArmMean:
    """One arm's mean over seeds.

    Args:
        estimates: (seeds,), two at least.
        deviations: (seeds, patients) as in `random_reader_contrast`.
        level: of the interval.

    References:
        Hillis, Berbaum, Metz (2008), Acad. Radiol. 15, 647-661: the single-test analysis.
    """
    values = np.asarray(estimates, dtype=np.float64)
    deviation = np.asarray(deviations, dtype=np.float64)
    count = len(values)
    spread = float(values.var(ddof=1))
    shared = _at_least_0(count * _mean_off_diagonal(deviation @ deviation.T))
    error = math.sqrt((spread + shared) / count)
    degrees = (spread + shared) ** 2 / (spread**2 / (count - 1)) if spread > 0 else math.inf
    half = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    return ArmMean(float(values.mean()), error, degrees, float(values.mean()) - half, float(values.mean()) + half)


def jackknife(
    metric: Callable[..., Values], y_true: ArrayLike, y_score: ArrayLike, patients: NDArray[np.int64], num_patients: int
) -> Floats:
    """Scaled deviations of any metric that takes weights, (num_patients,), 0 for patients without images here.

    Args:
        metric: (y_true, y_score, *, weights of shape (draws, n)) -> (draws,).
        y_true: (n,) labels in {0, 1}.
        y_score: (n,) scores.
        patients: (n,) patient numbers in [0, num_patients).
        num_patients: of the whole study.
    """
    here = np.unique(patients)
    without = np.full(num_patients, np.nan)
    at_once = max(1, CHUNK_CELLS // max(1, len(patients)))
    for start in range(0, len(here), at_once):
        some = here[start : start + at_once]
        weights = (patients[None, :] != some[:, None]).astype(np.float64)
        without[some] = metric(y_true, y_score, weights=weights)
    return scaled_deviations(without, np.isin(np.arange(num_patients), here))


def _contrast(estimates: Floats, deviations: Floats, difference: float, level: float) -> Contrast:
    arms, seeds = estimates.shape
    if arms < 2 or seeds < 2:
        raise ValueError(f"{arms} arms and {seeds} seeds: at least two of each have a difference and a spread")
    parts = _covariances(deviations)
    by_arm, by_seed = estimates.mean(axis=1), estimates.mean(axis=0)
    residual = estimates - by_arm[:, None] - by_seed[None, :] + estimates.mean()
    mean_square_arm = seeds * float(np.sum((by_arm - estimates.mean()) ** 2)) / (arms - 1)
    mean_square_residual = float(np.sum(residual**2)) / ((arms - 1) * (seeds - 1))
    mean_square_seed = arms * float(by_seed.var(ddof=1))
    denominator = mean_square_residual + _at_least_0(seeds * (parts.cov2 - parts.cov3))
    error = math.sqrt(2 * denominator / seeds)
    spread = mean_square_residual**2 / ((arms - 1) * (seeds - 1))
    degrees = denominator**2 / spread if spread > 0 else math.inf
    f = mean_square_arm / denominator if denominator > 0 else (math.inf if mean_square_arm > 0 else 0.0)
    half = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    arm_seed = mean_square_residual - parts.error + parts.cov1 + parts.cov2 - parts.cov3
    return Contrast(
        difference=float(difference),
        standard_error=error,
        f=f,
        degrees_of_freedom=degrees,
        p_value=_p_value(f, arms - 1, degrees),
        low=float(difference) - half,
        high=float(difference) + half,
        seed_variance=max(0.0, (mean_square_seed - mean_square_residual) / arms - parts.cov1 + parts.cov3),
        arm_seed_variance=max(0.0, arm_seed),
        error_variance=parts.error,
        cov1=parts.cov1,
        cov2=parts.cov2,
        cov3=parts.cov3,
    )


def _p_value(f: float, numerator: int, denominator: float) -> float:
    if f == 0:
        return 1.0
    if math.isinf(denominator):
        return float(special.chdtrc(numerator, f * numerator))
    return float(special.fdtrc(numerator, denominator, f))


def _covariances(deviations: Floats) -> _Covariances:
    """Means over pairs of runs of the jackknife covariance, by what the two share."""
    arms, seeds, _ = deviations.shape
    flat = deviations.reshape(arms * seeds, -1)
    table = (flat @ flat.T).reshape(arms, seeds, arms, seeds)
    same_arm = np.eye(arms, dtype=bool)[:, None, :, None]
    same_seed = np.eye(seeds, dtype=bool)[None, :, None, :]
    shape = table.shape
    kinds = (same_arm & same_seed, ~same_arm & same_seed, same_arm & ~same_seed, ~same_arm & ~same_seed)
    return _Covariances(*(float(table[np.broadcast_to(kind, shape)].mean()) for kind in kinds))


def _at_least_0(value: float) -> float:
    """A variance that was estimated below 0 is none; one that is not defined stays so, where max(0, NaN) is 0."""
    return value if math.isnan(value) else max(0.0, value)


def _mean_off_diagonal(table: Floats) -> float:
    count = len(table)
    return float((table.sum() - np.trace(table)) / (count * (count - 1)))
