"""The noise floor: how far the baseline lies from itself when nothing but seeds and splits is new."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from cxr_experiments.evidence.comparison.arms import Arm
from cxr_experiments.evidence.comparison.measures import MEASURES, measure_arm, patient_numbers
from cxr_experiments.evidence.comparison.verdicts import number
from cxr_experiments.evidence.metrics import Floats


@dataclass(frozen=True)
class NoiseFloor:
    """Repeats less baseline, with its 95 % interval (Welch's t over runs), and the spread of single runs."""

    difference: float
    low: float
    high: float
    run_sd: float
    num_baseline: int
    num_repeats: int
    sentence: str


def noise_floor(baseline: Arm, repeats: Arm, metric: str) -> NoiseFloor:
    """Compare the baseline with its repeats, run by run unpaired; two runs of each at least.

    References:
        Welch (1947), Biometrika 34, 28-35.
    """
    numbers = patient_numbers([*baseline.cells, *repeats.cells])
    before, after = (measure_arm(arm, metric, numbers).values for arm in (baseline, repeats))
    difference = float(after.mean() - before.mean())
    half = _half_width(before, after)
    run_sd = float(np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / 2))
    low, high = difference - half, difference + half
    told = (
        f"The baseline against itself with {len(after)} other seeds and splits: {MEASURES[metric].label} on validation "
        f"differs by {number(difference, 4)} [{number(low, 4)}, {number(high, 4)}]; a single run has a standard "
        f"deviation of {number(run_sd, 4)}."
    )
    return NoiseFloor(difference, low, high, run_sd, len(before), len(after), told)


def _half_width(before: Floats, after: Floats) -> float:
    """Of Welch's 95 % interval; 0 where no run differs from another."""
    parts = [float(values.var(ddof=1)) / len(values) for values in (before, after)]
    if not sum(parts) > 0:
        return 0.0
    weights = [part**2 / (len(values) - 1) for part, values in zip(parts, (before, after), strict=True)]
    degrees = sum(parts) ** 2 / sum(weights)
    return float(special.stdtrit(degrees, 0.975)) * math.sqrt(sum(parts))
