"""One family of comparisons: every option's contrast with the baseline, and the level at which each is judged.

The family's level is kept by the joint distribution of its differences over patients and seeds.  A comparison for which
there is no interval (one seed; a measure that a patient's absence leaves undefined) carries the reason instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from cxr_experiments.evidence.comparison.arms import Arm
from cxr_experiments.evidence.comparison.measures import MEASURES, Measured
from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats import (
    LEVEL,
    Contrast,
    adjusted_p_values,
    random_reader_contrast,
    simultaneous_p,
)

# Two arms nearer than this are the same: their F would be the ratio of two rounding errors.  A standard error is the
# root of a variance, which some processors round to 1e-19 where others find 0.
ROUNDING = 1e-8


@dataclass(frozen=True, eq=False)
class Pair:
    """An option measured beside the baseline; `contrast` is NaN throughout where `why_not` tells a reason.

    `critical_p` is the two-sided p at which this comparison counts within its family, `adjusted_p` its own within it.
    """

    option: Arm
    base: Measured
    measured: Measured
    contrast: Contrast
    why_not: str
    critical_p: float = math.nan
    adjusted_p: float = math.nan

    @property
    def per_seed(self) -> Floats:
        """(seeds,) option less baseline."""
        return self.measured.values - self.base.values

    @property
    def half_width(self) -> float:
        """Of the simultaneous interval, on which the verdict rests."""
        return self._half(self.critical_p)

    @property
    def own_half_width(self) -> float:
        """Of the interval that this comparison would have alone."""
        return self._half(1 - LEVEL)

    def _half(self, p_value: float) -> float:
        quantile = float(special.stdtrit(self.contrast.degrees_of_freedom, 1 - p_value / 2))
        return quantile * self.contrast.standard_error


def family_of(base: Measured, options: Sequence[tuple[Arm, Measured]], metric: str) -> list[Pair]:
    """Every option's pair with the baseline, in the order given."""
    pairs = [_pair(base, option, measured, metric) for option, measured in options]
    judged = [pair for pair in pairs if not pair.why_not]
    if not judged:
        return pairs
    correlation = _correlation(judged)
    degrees = [pair.contrast.degrees_of_freedom for pair in judged]
    critical = simultaneous_p(correlation, degrees)
    adjusted = iter(adjusted_p_values([pair.contrast.p_value for pair in judged], correlation, degrees))
    return [
        pair if pair.why_not else replace(pair, critical_p=critical, adjusted_p=float(next(adjusted))) for pair in pairs
    ]


def _pair(base: Measured, option: Arm, measured: Measured, metric: str) -> Pair:
    label, contrast, why_not = MEASURES[metric].label, Contrast(*(math.nan,) * 13), ""
    if len(base.values) < 2:
        why_not = f"one seed: how much training alone moves {label} is not known"
    elif not (base.defined and measured.defined):
        why_not = f"{label} is not defined in every run, or not without one of its patients"
    else:
        deviations = np.stack([base.deviations, measured.deviations])
        contrast = random_reader_contrast(np.stack([base.values, measured.values]), deviations)
        if max(contrast.standard_error, abs(contrast.difference)) < ROUNDING:
            contrast = replace(contrast, standard_error=0.0, f=0.0, degrees_of_freedom=math.inf, p_value=1.0)
    return Pair(option, base, measured, contrast, why_not)


def _correlation(pairs: Sequence[Pair]) -> Floats:
    """(k, k) of the differences: covariance over patients of the mean over seeds, plus over seeds of what is left."""
    over_patients = np.array([(pair.measured.deviations - pair.base.deviations).mean(axis=0) for pair in pairs])
    per_seed = np.array([pair.per_seed for pair in pairs])
    count = per_seed.shape[1]
    centred = per_seed - per_seed.mean(axis=1, keepdims=True)
    covariance = over_patients @ over_patients.T + centred @ centred.T / (count * (count - 1))
    spread = np.sqrt(np.diag(covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = covariance / np.outer(spread, spread)
    return np.where(np.isfinite(found), found, np.eye(len(pairs)))
