"""Bands around ROC and precision-recall curves: how far chance could have moved them, point by point, over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cxr_experiments.evidence.metrics import Floats, OperatingCurve, operating_curve
from cxr_experiments.evidence.stats.bootstrap import LEVEL, patient_weights


@dataclass(frozen=True, eq=False)
class Band:
    """Pointwise interval of a curve: `at`, `low`, `high`, each (k,) float64."""

    at: Floats
    low: Floats
    high: Floats


def roc_band(y_true: ArrayLike, y_score: ArrayLike, patients: ArrayLike, *, seed: int) -> Band:
    """Pointwise 95 % band of the sensitivity at each false positive rate, from draws of patients."""
    grid = np.linspace(0.0, 1.0, 201)

    def read(curve: OperatingCurve, draw: int) -> Floats:
        last = np.searchsorted(curve.false_positive_rate[draw], grid, side="right") - 1
        return np.take(curve.sensitivity[draw], last)

    return _band(read, operating_curves(y_true, y_score, patients, seed=seed), grid)


def precision_recall_band(y_true: ArrayLike, y_score: ArrayLike, patients: ArrayLike, *, seed: int) -> Band:
    """Pointwise 95 % band of the precision at each sensitivity (recall), from draws of patients."""
    grid = np.linspace(0.005, 1.0, 200)

    def read(curve: OperatingCurve, draw: int) -> Floats:
        first = np.searchsorted(curve.sensitivity[draw], grid, side="left")
        return np.take(curve.precision[draw], first)

    return _band(read, operating_curves(y_true, y_score, patients, seed=seed), grid)


def operating_curves(
    y_true: ArrayLike, y_score: ArrayLike, patients: ArrayLike, *, seed: int
) -> Iterator[OperatingCurve]:
    """Operating curves of 1,000 draws of patients, in chunks; enough for a band that is looked at."""
    for weights in patient_weights(patients, num_draws=1000, seed=seed):
        yield operating_curve(y_true, y_score, weights=weights)


def _band(read: Callable[[OperatingCurve, int], Floats], curves: Iterator[OperatingCurve], grid: Floats) -> Band:
    """`read(curve, draw)` gives the (k,) values of one draw on the grid; draws of one class are left out."""
    drawn = []
    for curve in curves:
        is_defined = np.isfinite(curve.sensitivity[:, 0]) & np.isfinite(curve.false_positive_rate[:, 0])
        drawn += [read(curve, int(draw)) for draw in np.flatnonzero(is_defined)]
    if not drawn:
        return Band(grid, np.full(grid.shape, np.nan), np.full(grid.shape, np.nan))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Band(grid, low, high)
