"""How far probabilities are from what was observed: calibration slope, calibration intercept, expected error.

As in `metrics`: weights of shape (n,) give a float, of shape (draws, n) give (draws,); undefined is NaN, never a
stand-in.  These are measures of the rows they are given: nothing here changes a probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from cxr_experiments.evidence.metrics import Floats, Values

NUM_BINS = 10
MAX_STEPS = 100  # a fit on rows that overlap takes about 6
CLOSE = 1e-6  # the last step moves no row's log-odds by more; what is left then is about its square


@dataclass(frozen=True, eq=False)
class _Fit:
    """One fit per draw: `intercept` and `slope`, each (draws,); NaN where the fit did not settle."""

    intercept: Floats
    slope: Floats


def calibration_slope(y_true: ArrayLike, logit: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """Slope of the logistic regression of the label on the logit: 1 is best, below 1 is too sure of itself.

    Args:
        y_true: (n,) labels in {0, 1}.
        logit: (n,) finite log-odds that the model gave.
        weights: (n,) or (draws, n), at least 0; None weighs every row alike.

    Returns:
        float, or (draws,) float64; NaN where a class has no weight or the classes do not overlap: a threshold that
        tells them apart sends the slope to infinity.

    Raises:
        ValueError: shapes that do not fit, labels other than 0 and 1, or values that are not finite.

    References:
        Cox (1958), Biometrika 45, 562-565; Albert and Anderson (1984), Biometrika 71, 1-10, for when it exists.

    Example:
        >>> rows = ([0, 0, 1, 0, 1, 1], [-2.0, -1.0, -1.0, 1.0, 1.0, 2.0])
        >>> round(calibration_slope(*rows), 4)
        0.7563
        >>> calibration_slope([0, 0, 1, 1], [-2.0, -1.0, 1.0, 2.0])
        nan
    """
    labels, logits, table = _checked(y_true, logit, weights)
    # standardised: the two columns of the fit are then of one size, whatever the model's logits are
    spread = float(logits.std()) or 1.0
    slopes = np.full(len(table), np.nan)
    settled = _overlap(labels, logits, table)
    if settled.any():
        fit = _fit(labels, (logits - logits.mean()) / spread, table[settled], free_slope=True)
        slopes[settled] = fit.slope / spread
    return _as_asked(slopes, weights)


def calibration_intercept(y_true: ArrayLike, logit: ArrayLike, *, weights: ArrayLike | None = None) -> Values:
    """What must be added to every logit, its slope held at 1: 0 is best, below 0 is too much pneumonia promised.

    Args and Raises as in `calibration_slope`.

    Returns:
        float, or (draws,) float64; NaN where a class has no weight, or every probability is 0 or 1.

    References:
        Van Calster et al. (2019), BMC Medicine 17, 230 (calibration in the large).

    Example:
        >>> round(calibration_intercept([0, 0, 0, 1], [0.0, 0.0, 0.0, 0.0]), 4)
        -1.0986
    """
    labels, logits, table = _checked(y_true, logit, weights)
    intercepts = np.full(len(table), np.nan)
    settled = (table @ labels > 0) & (table @ (1 - labels) > 0)
    if settled.any():
        intercepts[settled] = _fit(labels, logits, table[settled], free_slope=False).intercept
    return _as_asked(intercepts, weights)


def expected_calibration_error(
    y_true: ArrayLike, y_score: ArrayLike, *, num_bins: int = NUM_BINS, weights: ArrayLike | None = None
) -> Values:
    """Mean gap of probability and observed share over bins of equal width, weighted by what each bin holds.

    Chance alone keeps it above 0, the more so the fewer images a bin holds: an interval around it would miss the truth.

    Args:
        y_true: (n,) labels in {0, 1}.
        y_score: (n,) probabilities in [0, 1].
        num_bins: how many bins; the same as those of `calibration.reliability`.
        weights: (n,) or (draws, n), at least 0; None weighs every row alike.

    Returns:
        float, or (draws,) float64; NaN without weight.

    References:
        Naeini, Cooper, Hauskrecht (2015), AAAI 29; Nixon et al. (2019), CVPR workshops, for the bias.

    Example:
        >>> expected_calibration_error([0, 1, 1, 1], [0.1, 0.3, 0.5, 1.0], num_bins=2)
        0.275
    """
    labels, scores, table = _checked(y_true, y_score, weights)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_of = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, num_bins - 1)
    gaps = np.zeros((len(labels), num_bins))
    gaps[np.arange(len(labels)), bin_of] = scores - labels
    total = table.sum(axis=1)
    errors = np.divide(np.abs(table @ gaps).sum(axis=1), total, out=np.full(len(table), np.nan), where=total > 0)
    return _as_asked(errors, weights)


def _checked(y_true: ArrayLike, values: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    labels, found = np.asarray(y_true, dtype=np.float64), np.asarray(values, dtype=np.float64)
    table = np.atleast_2d(np.ones(labels.shape) if weights is None else np.asarray(weights, dtype=np.float64))
    if labels.ndim != 1 or not labels.size or found.shape != labels.shape or table.shape[1:] != labels.shape:
        raise ValueError(f"labels {labels.shape}, values {found.shape}, weights {table.shape}: expected n >= 1 of each")
    if not np.isin(labels, (0, 1)).all() or not np.isfinite(found).all():
        raise ValueError("expected labels 0 and 1 only, and finite values")
    return labels, found, table


def _as_asked(found: Floats, weights: ArrayLike | None) -> Values:
    return found if weights is not None and np.ndim(weights) == 2 else float(found[0])


def _overlap(labels: Floats, logits: Floats, table: Floats) -> NDArray[np.bool_]:
    """(draws,) whether some positive lies below some negative and the other way round."""
    low_positive, high_positive = _reach(logits[labels == 1], table[:, labels == 1])
    low_negative, high_negative = _reach(logits[labels == 0], table[:, labels == 0])
    return (low_positive < high_negative) & (low_negative < high_positive)


def _reach(values: Floats, table: Floats) -> tuple[Floats, Floats]:
    """(draws,) the lowest and the highest value that has weight; NaN without any."""
    if not values.size:
        return np.full(len(table), np.nan), np.full(len(table), np.nan)
    order = np.argsort(values)
    present, ordered = table[:, order] > 0, values[order]
    seen = present.any(axis=1)
    low, high = ordered[present.argmax(axis=1)], ordered[::-1][present[:, ::-1].argmax(axis=1)]
    return np.where(seen, low, np.nan), np.where(seen, high, np.nan)


def _fit(labels: Floats, values: Floats, table: Floats, *, free_slope: bool) -> _Fit:
    """sigmoid(intercept + slope * value) fitted to each draw; from the fit of all draws together on."""
    start = _Fit(np.zeros(1), np.ones(1))
    if len(table) > 1:
        start = _newton(labels, values, table.sum(axis=0, keepdims=True), start, free_slope=free_slope)
    if not np.isfinite(start.slope[0]):
        start = _Fit(np.zeros(1), np.ones(1))
    return _newton(labels, values, table, start, free_slope=free_slope)


def _newton(labels: Floats, values: Floats, table: Floats, start: _Fit, *, free_slope: bool) -> _Fit:
    """Newton steps for all draws at once, each shortened to log(1 + r) / r where it moves a row's log-odds by r.

    References:
        Sun and Tran-Dinh (2019), Mathematical Programming 178, 145-213: so shortened they never overshoot a logistic
        loss, from wherever they start.
    """
    intercept, slope = np.repeat(start.intercept, len(table)), np.repeat(start.slope, len(table))
    active = np.arange(len(table))
    for _ in range(MAX_STEPS):
        weights = table if len(active) == len(table) else table[active]
        chance = expit(intercept[active, None] + slope[active, None] * values)
        step = _step(weights * (labels - chance), weights * chance * (1 - chance), values, free_slope=free_slope)
        moved = np.maximum(
            np.abs(step.intercept + step.slope * values.min()), np.abs(step.intercept + step.slope * values.max())
        )
        moved[np.isinf(moved)] = np.nan  # every probability is 0 or 1: no curvature to step by, and no fit
        share = np.divide(np.log1p(moved), moved, out=np.ones_like(moved), where=moved != 0)
        intercept[active] += share * step.intercept
        slope[active] += share * step.slope
        active = active[moved > CLOSE]  # NaN, a flat loss, is not above it
        if not len(active):
            return _Fit(intercept, slope)
    intercept[active], slope[active] = np.nan, np.nan
    return _Fit(intercept, slope)


def _step(residual: Floats, curvature: Floats, values: Floats, *, free_slope: bool) -> _Fit:
    """The whole Newton step: gradient by inverse curvature."""
    pull, stiffness = residual.sum(axis=1), curvature.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if not free_slope:
            return _Fit(pull / stiffness, np.zeros(len(pull)))
        turn, cross, square = residual @ values, curvature @ values, curvature @ values**2
        size = stiffness * square - cross**2
        return _Fit((square * pull - cross * turn) / size, (stiffness * turn - cross * pull) / size)
