"""Proportions over patients: sensitivity, specificity and their like, whose images come in clusters."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from cxr_experiments.evidence.stats.bootstrap import LEVEL, Interval, patient_clusters


def proportion_interval(hits: ArrayLike, patients: ArrayLike) -> Interval:
    """The 95 % interval of a share of images over random patients; NaN for no images.

    Wilson's interval at the effective number of images: that many independent ones would leave the share as uncertain
    as the ratio estimator over patients finds it.  Where all images agree the patients are counted.

    Args:
        hits: (n,) bool, one per image.
        patients: (n,) patient keys; a row with the key "" is a patient of its own.

    References:
        Rao and Scott (1992), Biometrics 48, 577-585; Wilson (1927), J. Am. Statist. Assoc. 22, 209-212.

    Example:
        >>> found = proportion_interval([True] * 10, [""] * 10)
        >>> round(found.low, 4), round(found.high, 4)
        (0.7225, 1.0)
    """
    values = np.asarray(hits, dtype=np.float64)
    if not len(values):
        return Interval(math.nan, math.nan, LEVEL, 0, 0)
    cluster = patient_clusters(patients)
    sizes, sums = np.bincount(cluster), np.bincount(cluster, values)
    share, count = float(values.mean()), len(sizes)
    variance = count / max(1, count - 1) * float(np.sum((sums - share * sizes) ** 2)) / len(values) ** 2
    effective = share * (1 - share) / variance if variance > 0 else float(count)
    z = float(special.ndtri((1 + LEVEL) / 2))
    centre = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * math.sqrt(share * (1 - share) / effective + z**2 / (4 * effective**2))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), LEVEL, 0, 0)
