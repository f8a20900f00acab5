"""Before training: the smallest difference that a study of so many images, seeds and comparisons can resolve.

What is assumed where nothing was measured is said in the result.  No label of a test image is needed beyond its count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from cxr_experiments.evidence.stats import simultaneous_p

POWER = 0.8
MAX_SEEDS = 64


@dataclass(frozen=True)
class Design:
    """What a study will judge: images of either class per repetition, seeds, comparisons in the family.

    `shared` is the share of the images that two repetitions have in common: 1 for a test split, the validation
    fraction for cuts of their own, 0 for folds.
    """

    num_negative: int
    num_positive: int
    num_seeds: int
    num_comparisons: int
    shared: float


@dataclass(frozen=True)
class Noise:
    """What moves a difference by chance: standard errors from patients (one repetition) and training (one seed).

    `source` says whether this was measured, and where.
    """

    patient_sd: float
    training_sd: float
    source: str


@dataclass(frozen=True)
class Resolution:
    """Half width of the deciding interval, and the true difference that is told from 0 in 80 % of such studies."""

    half_width: float
    smallest: float
    degrees_of_freedom: float


def assumed_noise(design: Design, *, auroc: float = 0.95, correlation: float = 0.7, seed_sd: float = 0.005) -> Noise:
    """Noise of an AUROC difference where nothing was measured yet.

    Args:
        design: of the study.
        auroc: of either arm.
        correlation: of the two arms' AUROCs over patients, on the same images.
        seed_sd: of one training's AUROC, patients apart.

    References:
        Hanley and McNeil (1982), Radiology 143, 29-36.

    Example:
        >>> noise = assumed_noise(Design(234, 390, 8, 1, 1.0))
        >>> round(2.8 * noise.patient_sd, 3)
        0.018
    """
    m, n = design.num_positive, design.num_negative
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (m - 1) * (q1 - auroc**2) + (n - 1) * (q2 - auroc**2)
    single = math.sqrt(variance / (m * n))
    told = f"assumed: AUROC {auroc:g}, correlation of the arms {correlation:g}, seed sd {seed_sd:g}"
    return Noise(single * math.sqrt(2 * (1 - correlation)), math.sqrt(2) * seed_sd, told)


def resolution(design: Design, noise: Noise) -> Resolution:
    """What a study can resolve.

    Args:
        design: of the study; two seeds at least.
        noise: of a difference.
    """
    seeds = design.num_seeds
    training = noise.training_sd**2 / seeds
    patients = noise.patient_sd**2 * (1 / seeds + (1 - 1 / seeds) * design.shared)
    error = math.sqrt(training + patients)
    # patients that repetitions do not share are part of what the seeds are seen to scatter by
    scatter = training + noise.patient_sd**2 * (1 - design.shared) / seeds
    degrees = (training + patients) ** 2 / (scatter**2 / (seeds - 1)) if scatter > 0 else math.inf
    count = design.num_comparisons
    family = np.full((count, count), 0.5) + 0.5 * np.eye(count)  # one baseline in every difference
    critical = float(special.stdtrit(degrees, 1 - simultaneous_p(family, np.full(count, degrees)) / 2))
    return Resolution(critical * error, (critical + float(special.stdtrit(degrees, POWER))) * error, degrees)


def can_decide(found: Resolution, margin: float) -> bool:
    """Whether some truth would lead to a verdict: no difference to "equivalent", or two margins to "better"."""
    return found.half_width < margin or found.smallest <= 2 * margin


def seeds_needed(design: Design, noise: Noise, margin: float) -> int | None:
    """The fewest seeds with which the study could decide; None when not even 64 do."""
    fits = (seeds for seeds in range(2, MAX_SEEDS + 1) if _decides(replace(design, num_seeds=seeds), noise, margin))
    return next(fits, None)


def _decides(design: Design, noise: Noise, margin: float) -> bool:
    return can_decide(resolution(design, noise), margin)
