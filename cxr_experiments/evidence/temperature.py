"""Probabilities corrected after training: a temperature from validation rows, and a shift to another prevalence.

Both are found on validation rows and refuse those of the test split; neither changes which image outranks which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit

from cxr_experiments.errors import ConfigError
from cxr_experiments.evidence.calibration import refuse_test


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by; above 1 the model was too sure of itself.

    `value` is NaN where no temperature is best, and `remark` then says why; it was fitted on the `num_images` images of
    the split `set_on`.
    """

    value: float
    num_images: int
    set_on: str
    remark: str = ""


def fit_temperature(y_true: ArrayLike, logit: ArrayLike, *, split: str) -> Temperature:
    """The temperature with the lowest log loss of sigmoid(logit / temperature).

    Args:
        y_true: (n,) labels in {0, 1}.
        logit: (n,) log-odds that the model gave; NaN where they are not known.
        split: which split the rows are of; never "test".

    Raises:
        LeakageError: the rows are those of the test split.

    References:
        Guo, Pleiss, Sun, Weinberger (2017), ICML 34, equation 9.

    Example:
        >>> found = fit_temperature([1, 1, 1, 0], [2.0, 2.0, 2.0, 2.0], split="val")
        >>> round(found.value, 4), round(2 / math.log(3), 4)
        (1.8205, 1.8205)
    """
    refuse_test(split)
    labels, logits = np.asarray(y_true), np.asarray(logit, dtype=np.float64)
    toward = np.where(labels == 1, logits, -logits)  # above 0: the image lies on its own side

    def gain(inverse: float) -> float:
        """How fast the log loss falls as the inverse temperature grows; it only ever slows down."""
        return float(toward @ expit(-inverse * toward))

    remark = ""
    if not np.isfinite(toward).all():
        remark = "the logits are not known"
    elif toward.sum() <= 0:
        remark = "the logits are no better than none: the hotter the better"
    elif toward.min() >= 0:
        remark = "every image lies on its own side of logit 0: the colder the better"
    if remark:
        return Temperature(math.nan, len(labels), split, remark)
    upper = 1.0
    while gain(upper) > 0:
        upper *= 2
    return Temperature(1 / float(brentq(gain, 0.0, upper, xtol=1e-14, rtol=1e-12)), len(labels), split)


def prior_shift(y_true: ArrayLike, *, prevalence: float, split: str) -> float:
    """What must be added to logits where positives have the share `prevalence` instead of that of these rows.

    Holds when the films of each class look as they do here and only the mixture changes, and when the training saw the
    classes as these rows have them: neither class weights nor balanced batches.

    Args:
        y_true: (n,) labels in {0, 1}.
        prevalence: in (0, 1).
        split: which split the rows are of; never "test".

    Returns:
        NaN when the rows hold one class only.

    Raises:
        LeakageError: the rows are those of the test split.
        ConfigError: a prevalence outside (0, 1).

    References:
        Saerens, Latinne, Decaestecker (2002), Neural Computation 14, 21-41, equation 2.4.

    Example:
        >>> round(prior_shift([0, 1, 1, 1], prevalence=0.25, split="val"), 4), round(-2 * math.log(3), 4)
        (-2.1972, -2.1972)
    """
    refuse_test(split)
    if not 0 < prevalence < 1:
        raise ConfigError(f"prevalence {prevalence}: expected a number in (0, 1)")
    share = float(np.mean(np.asarray(y_true, dtype=np.float64)))
    if not 0 < share < 1:
        return math.nan
    return math.log(prevalence / (1 - prevalence)) - math.log(share / (1 - share))
