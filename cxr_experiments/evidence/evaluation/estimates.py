"""A metric of one split with its interval, by the one method that each metric has.

AUROC: closed form over patients on the logit scale.  Proportions: Wilson, clustered by patient.  Expected calibration
error: no interval.  Everything else: percentile bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_experiments.evidence import metrics, predictive, recalibration
from cxr_experiments.evidence.evaluation.predictions import Predictions
from cxr_experiments.evidence.metrics import Values
from cxr_experiments.evidence.stats import (
    NUM_DRAWS,
    Interval,
    Metric,
    auroc_interval,
    bootstrap_intervals,
    proportion_interval,
)

# Predictive values at the prevalence of the rows say how the set was collected.  16 % is what an emergency department
# saw among 2,574 children whose chest was radiographed because pneumonia was suspected: Neuman et al. (2011),
# Pediatrics 128, 246-253.
STATED_PREVALENCE = 0.16

PROPORTIONS = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
OF_LOGIT: dict[str, Metric] = {
    "calibration_slope": recalibration.calibration_slope,
    "calibration_intercept": recalibration.calibration_intercept,
}
OF_PROBABILITY: dict[str, Metric] = {
    "average_precision": metrics.average_precision,
    "brier": metrics.brier,
    "log_loss": metrics.log_loss,
    "balanced_accuracy": metrics.balanced_accuracy,
    "f1": metrics.f1,
    "mcc": predictive.mcc,
    "ppv_stated_prevalence": partial(predictive.ppv, prevalence=STATED_PREVALENCE),
    "npv_stated_prevalence": partial(predictive.npv, prevalence=STATED_PREVALENCE),
}
# Why a draw may have no value beside holding one class only.
LACKING = {
    "calibration_slope": ", or classes that do not overlap: no bound",
    "calibration_intercept": ", or every probability 0 or 1",
    "mcc": ", or one call",
    "ppv_stated_prevalence": ", or nothing called positive",
    "npv_stated_prevalence": ", or nothing called negative",
}
BIASED = "none, biased upwards by chance"


@dataclass(frozen=True)
class Asked:
    """A metric by name, and the threshold that enters it (None for those without)."""

    metric: str
    threshold: float | None = None


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval (NaN where there is none), how that was made, and what must be said beside it."""

    value: float
    low: float
    high: float
    method: str
    remarks: tuple[str, ...]


def estimates(
    asked: Mapping[str, Asked], predictions: Predictions, patients: NDArray[np.str_], *, seed: int
) -> dict[str, Estimate]:
    """Each metric asked for, under the key it was asked with.

    Args:
        asked: key -> metric.
        predictions: rows of one split.
        patients: (n,) patient keys; all "" where images stand for themselves.
        seed: of the bootstrap draws, which all bootstrapped metrics share.
    """
    in_closed_form: dict[str, Callable[..., Estimate]] = {
        "auroc": _auroc,
        "ece": _calibration_error,
        **{name: partial(_proportion, name) for name in PROPORTIONS},
    }
    drawn = {key: _weighted(one, predictions) for key, one in asked.items() if one.metric not in in_closed_form}
    rows = (predictions.label, predictions.probability)
    intervals = bootstrap_intervals(drawn, *rows, patients, seed=seed)
    return {
        key: _bootstrapped(one.metric, float(drawn[key](*rows)), intervals[key], patients)
        if key in drawn
        else in_closed_form[one.metric](predictions, patients, one.threshold)
        for key, one in asked.items()
    }


def bootstrap_method(patients: NDArray[np.str_], num_draws: int = NUM_DRAWS) -> str:
    """How a bootstrap interval is called."""
    return f"bootstrap over {unit_of(patients)}, {num_draws:,} draws"


def unit_of(patients: NDArray[np.str_]) -> str:
    """What is drawn or counted: patients, or images where patients are not verifiable."""
    return "patients" if np.any(patients != "") else "images"


def draw_remarks(metric: str, interval: Interval) -> tuple[str, ...]:
    """What a bootstrap interval hides: draws left out, and draws that are all the same."""
    remarks = []
    if interval.num_undefined:
        why = f"one class{LACKING.get(metric, '')}"
        remarks.append(f"{interval.num_undefined} of {interval.num_draws} draws undefined ({why})")
    if interval.low == interval.high:
        remarks.append("the same in every draw: the interval says too little")
    return tuple(remarks)


def auroc_remarks(value: float, low: float, high: float) -> tuple[str, ...]:
    """Why an AUROC has no interval on the logit scale, or one that says too little."""
    if np.isnan(value):
        return ("one class only",)
    if value in (0.0, 1.0):
        return (f"an AUROC of {value:g} has no logit, hence no interval by this method",)
    if np.isnan(low):
        return ("too few patients in a class: no standard error",)
    return ("no image is placed otherwise than the others: the interval says too little",) if low == high else ()


def _weighted(one: Asked, predictions: Predictions) -> Metric:
    if one.metric in OF_LOGIT:
        return partial(of_logit, OF_LOGIT[one.metric], predictions.logit)
    function = OF_PROBABILITY[one.metric]
    return function if one.threshold is None else partial(function, threshold=one.threshold)


def of_logit(
    metric: Metric, logit: Any, y_true: ArrayLike, _: ArrayLike, *, weights: ArrayLike | None = None
) -> Values:
    """The metric of the model's own logits, NaN where a file does not give them: they are never computed back."""
    if np.isfinite(logit).all():
        return metric(y_true, logit, weights=weights)
    return np.full(np.shape(weights)[:-1], np.nan) if weights is not None else np.nan


def _bootstrapped(metric: str, value: float, interval: Interval, patients: NDArray[np.str_]) -> Estimate:
    remarks = draw_remarks(metric, interval)
    if metric.endswith("_stated_prevalence"):
        remarks = (f"at a prevalence of {STATED_PREVALENCE:g}", *remarks)
    if metric == "calibration_intercept":
        remarks = ("slope held at 1", *remarks)
    return Estimate(value, interval.low, interval.high, bootstrap_method(patients), remarks)


def _auroc(predictions: Predictions, patients: NDArray[np.str_], _: float | None) -> Estimate:
    found = auroc_interval(predictions.label, predictions.probability, patients)
    remarks = auroc_remarks(found.value, found.low, found.high)
    return Estimate(found.value, found.low, found.high, found.method, remarks)


def _calibration_error(predictions: Predictions, _: NDArray[np.str_], __: float | None) -> Estimate:
    value = recalibration.expected_calibration_error(predictions.label, predictions.probability)
    return Estimate(value, np.nan, np.nan, BIASED, (f"{recalibration.NUM_BINS} bins of equal width",))


def _proportion(name: str, predictions: Predictions, patients: NDArray[np.str_], threshold: float | None) -> Estimate:
    """A share of the images that the metric speaks of."""
    is_called, is_positive = (
        predictions.probability >= (0.5 if threshold is None else threshold),
        predictions.label == 1,
    )
    hits, among, what = {
        "accuracy": (is_called == is_positive, np.full(len(is_called), True), "images"),
        "sensitivity": (is_called, is_positive, "positive images"),
        "specificity": (~is_called, ~is_positive, "negative images"),
        "ppv": (is_positive, is_called, "images called positive"),
        "npv": (~is_positive, ~is_called, "images called negative"),
    }[name]
    interval = proportion_interval(hits[among], patients[among])
    value = float(hits[among].mean()) if among.any() else np.nan
    method = f"Wilson at the effective number of images (Rao and Scott 1992) over {unit_of(patients)}"
    remarks = (f"{int(hits[among].sum())} of {int(among.sum())} {what}",)
    return Estimate(value, interval.low, interval.high, method, remarks)
