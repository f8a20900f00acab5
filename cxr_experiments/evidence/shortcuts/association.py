"""How well one thing tells another: an AUROC with the interval that an alarm is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from cxr_experiments.evidence.stats import LEVEL, auroc_interval, patient_clusters


@dataclass(frozen=True)
class Association:
    """One line of the shortcut gate.

    Attributes:
        heading: "available", "visible", "used", "probe", "exposure" or "shift".
        name: the property, probe or change.
        within: the class that it was measured in; "" for both together.
        auroc: in [0, 1]; for the border swap a difference of two AUROCs; NaN when there is nothing to measure.
        low, high: ends of the interval, simultaneous with its siblings; NaN when there is none.
        num_images: rows that entered.
        num_patients: 0 when patients are not verifiable: the interval is then over images.
        level: what `low` must pass for the alarm to ring; None for what is shown and not judged.
        note: what must be said beside it: the direction, or why there is no number.
    """

    heading: str
    name: str
    within: str
    auroc: float
    low: float
    high: float
    num_images: int
    num_patients: int
    level: float | None
    note: str

    @property
    def rings(self) -> bool:
        """Whether the lower end of the interval passes the level."""
        return self.level is not None and self.low > self.level

    @property
    def label(self) -> str:
        """What the alarm is called: `used: height in NORMAL`."""
        return f"{self.heading}: {self.name}{f' in {self.within}' if self.within else ''}"


@dataclass(frozen=True)
class Measured:
    """An AUROC with its interval and what it rests on; NaN ends where a group holds too few patients."""

    auroc: float
    low: float
    high: float
    num_images: int
    num_patients: int


def nothing(num_images: int, num_patients: int) -> Measured:
    """No number: the property is constant, or a group is missing."""
    return Measured(math.nan, math.nan, math.nan, num_images, num_patients)


def measure(is_high: ArrayLike, score: ArrayLike, patients: ArrayLike, *, verifiable: bool, family: int) -> Measured:
    """AUROC of the score for telling high from low, with an interval simultaneous over `family` siblings.

    The standard error is Obuchowski's over patients, on the logit scale; Bonferroni over the family; Student's t with
    the patients of the smaller group less one, where a normal quantile would be too sure of a handful.  Near 0 and 1
    that error vanishes although chance does not: neither end lies inside Newcombe's score interval, in which patients
    stand for images.

    Args:
        is_high: (n,) in {0, 1}.
        score: (n,) finite.
        patients: (n,) keys, "" where not known.
        verifiable: whether the keys are patients; else every image counts as one.
        family: how many intervals shall hold together with 95 %.

    References:
        Obuchowski (1997), Biometrics 53, 567-578.  Brunner and Munzel (2000), Biometrical J. 42, 17-25 (t in place of
        normal).  Newcombe (2006), Statistics in Medicine 25, 559-573, method 5.
    """
    groups = np.asarray(is_high, dtype=np.int8)
    keys = np.asarray(patients, dtype=str) if verifiable else np.full(len(groups), "")
    cluster = patient_clusters(keys) if len(keys) else np.zeros(0, np.int64)
    counts = [len(np.unique(cluster[groups == side])) for side in (0, 1)]
    told = len(groups), len(np.unique(cluster)) if verifiable else 0
    if not all(counts):
        return nothing(*told)
    found = auroc_interval(groups, score, keys)
    if min(counts) < 2:
        return Measured(found.value, math.nan, math.nan, *told)
    low, high = newcombe_interval(found.value, *counts, family=family)
    if 0.0 < found.value < 1.0:
        quantile = float(special.stdtrit(min(counts) - 1, 1 - (1 - LEVEL) / (2 * family)))
        half = quantile * found.standard_error / (found.value * (1 - found.value))
        logit = math.log(found.value / (1 - found.value))
        ends = [float(special.expit(logit + sign * half)) for sign in (-1, 1)]
        low, high = min(low, ends[0]), max(high, ends[1])
    return Measured(found.value, low, high, *told)


def newcombe_interval(auroc: float, num_low: int, num_high: int, *, family: int = 1) -> tuple[float, float]:
    """The score interval of an AUROC, which an AUROC of 0 or 1 has too.

    Args:
        auroc: in [0, 1].
        num_low, num_high: independent units of the two groups.
        family: how many intervals shall hold together with 95 %.

    Example:
        >>> [round(end, 3) for end in newcombe_interval(1.0, 20, 20)]
        [0.899, 1.0]
    """
    z = float(special.ndtri(1 - (1 - LEVEL) / (2 * family)))
    others = (num_low + num_high) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + others * (1 - theta) / (2 - theta) + others * theta / (1 + theta)
        return abs(auroc - theta) - z * math.sqrt(theta * (1 - theta) * spread / (num_low * num_high))

    tiny = 1e-12  # at 0 and 1 themselves the spread is 0, and they would solve the equation for any value
    low = 0.0 if auroc <= tiny else float(optimize.brentq(excess, tiny, min(auroc, 1 - tiny)))
    high = 1.0 if auroc >= 1 - tiny else float(optimize.brentq(excess, max(auroc, tiny), 1 - tiny))
    return low, high


def oriented(found: Measured) -> Measured:
    """The same seen from the side on which it is above one half.

    The interval is turned with the value, not made anew: its two ends were there before the direction was looked at,
    so that chance has half of its 5 % on either side and none is gained by choosing.
    """
    if not found.auroc < 0.5:
        return found
    return replace(found, auroc=1 - found.auroc, low=1 - found.high, high=1 - found.low)
