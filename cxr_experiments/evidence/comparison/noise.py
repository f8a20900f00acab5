"""The noise floor: how far the baseline lies from itself when nothing but seeds and splits is new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from cxr_experiments.evidence.comparison.arms import Arm
from cxr_experiments.evidence.comparison.measures import MEASURES, measure_arm, patient_numbers
from cxr_experiments.evidence.comparison.verdicts import number


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
    found = distributions.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    difference = float(after.mean() - before.mean())
    run_sd = float(np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / 2))
    told = (
        f"The baseline against itself with {len(after)} other seeds and splits: {MEASURES[metric].label} on validation "
        f"differs by {number(difference, 4)} [{number(float(found.low), 4)}, {number(float(found.high), 4)}]; a single "
        f"run has a standard deviation of {number(run_sd, 4)}."
    )
    return NoiseFloor(difference, float(found.low), float(found.high), run_sd, len(before), len(after), told)
