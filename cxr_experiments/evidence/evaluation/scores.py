"""From predictions to scores: every metric of a split with its interval, its method and its n."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import DataError
from cxr_experiments.evidence import metrics
from cxr_experiments.evidence.calibration import Threshold, choose_threshold, refuse_test
from cxr_experiments.evidence.evaluation.estimates import Asked, Estimate, estimates, unit_of
from cxr_experiments.evidence.evaluation.predictions import Predictions
from cxr_experiments.evidence.evaluation.score_file import Score
from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats import NUM_DRAWS, patient_clusters, patient_weights, percentile_interval

OF_PROBABILITY = (
    "auroc",
    "average_precision",
    "brier",
    "log_loss",
    "calibration_slope",
    "calibration_intercept",
    "ece",
)
AT_THRESHOLD = (
    *("balanced_accuracy", "sensitivity", "specificity", "f1", "accuracy", "mcc"),
    *("ppv", "npv", "ppv_stated_prevalence", "npv_stated_prevalence"),
)
REDRAWN = {
    "balanced_accuracy": metrics.balanced_accuracy,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
    "accuracy": metrics.accuracy,
}


def score(
    predictions: Predictions,
    threshold: Threshold,
    *,
    patients_verifiable: bool,
    validation: Predictions | None = None,
    seed: int = 0,
) -> tuple[Score, ...]:
    """Every metric of the predictions' split, each with its interval by its own method, and n.

    Args:
        predictions: rows of one split.
        threshold: frozen on validation rows; metrics `_at_frozen` use it, `_at_half` use 0.5.
        patients_verifiable: intervals over patients; otherwise over images, and `num_patients` is 0.
        validation: the rows that the threshold was chosen on, where they are not these; adds `_at_redrawn`, whose
            intervals draw those rows too and choose the threshold anew by the same rule in every draw.
        seed: of the bootstrap draws.

    Raises:
        LeakageError: `validation` holds rows of the test split.
    """
    patients = _patients(predictions, patients_verifiable)
    asked = {name: Asked(name) for name in OF_PROBABILITY}
    for suffix, value in (("at_half", 0.5), ("at_frozen", threshold.value)):
        asked |= {f"{name}_{suffix}": Asked(name, value) for name in AT_THRESHOLD}
    found = estimates(asked, predictions, patients, seed=seed)
    if validation is not None:
        found |= _redrawn(predictions, validation, threshold, patients_verifiable=patients_verifiable, seed=seed)
    num_patients = int(patient_clusters(patients).max()) + 1 if patients_verifiable else 0
    return tuple(
        Score(
            name=f"{predictions.split}_{name}",
            value=one.value,
            low=one.low,
            high=one.high,
            num_images=len(predictions.label),
            num_patients=num_patients,
            note="; ".join([*_judged_at(name, predictions.split, threshold), *one.remarks]),
            method=one.method,
        )
        for name, one in found.items()
    )


def redrawn_thresholds(
    validation: Predictions, threshold: Threshold, patients: NDArray[np.str_], *, seed: int, num_draws: int = NUM_DRAWS
) -> Floats:
    """The threshold that its rule finds in each draw of validation patients.

    Args:
        validation: the rows that the threshold was chosen on.
        threshold: rule and target are used.
        patients: (n,) patient keys of the validation rows, "" where not known.
        seed: of the draws.
        num_draws: how many draws.

    Returns:
        (draws,) float64; NaN where a draw lacks the class that the rule needs.

    Raises:
        LeakageError: the rows are those of the test split.
    """
    refuse_test(validation.split)
    number, found = np.arange(len(validation.label)), []
    for weights in patient_weights(patients, num_draws=num_draws, seed=seed):
        for draw in weights:
            drawn = np.repeat(number, draw.astype(np.int64))
            rows = (validation.label[drawn], validation.probability[drawn])
            try:
                again = choose_threshold(*rows, rule=threshold.rule, value=threshold.target, split=validation.split)
                found.append(again.value)
            except DataError:  # one class only
                found.append(np.nan)
    return np.array(found)


def _redrawn(
    predictions: Predictions,
    validation: Predictions,
    threshold: Threshold,
    *,
    patients_verifiable: bool,
    seed: int,
) -> dict[str, Estimate]:
    """What the frozen threshold's own uncertainty adds; nothing where the threshold was given."""
    refuse_test(validation.split)
    if threshold.rule == "fixed":
        return {}
    # another stream: the two splits share no patient, and so they must not share a draw
    thresholds = redrawn_thresholds(validation, threshold, _patients(validation, patients_verifiable), seed=seed + 1)
    patients = _patients(predictions, patients_verifiable)
    rows = (predictions.label, predictions.probability)
    values: dict[str, Floats] = {name: np.full(len(thresholds), np.nan) for name in REDRAWN}
    begin = 0
    for weights in patient_weights(patients, num_draws=len(thresholds), seed=seed):
        here = thresholds[begin : begin + len(weights)]
        for value in np.unique(here[np.isfinite(here)]):
            same = np.flatnonzero(here == value)
            for name, metric in REDRAWN.items():
                values[name][begin + same] = metric(*rows, threshold=float(value), weights=weights[same])
        begin += len(weights)
    method = f"bootstrap over {unit_of(patients)} of {predictions.split} and {validation.split}, {begin:,} draws"
    found = {}
    for name, metric in REDRAWN.items():
        interval = percentile_interval(values[name])
        left_out = (f"{interval.num_undefined} draws undefined (one class)",) if interval.num_undefined else ()
        value = float(metric(*rows, threshold=threshold.value))
        found[f"{name}_at_redrawn"] = Estimate(value, interval.low, interval.high, method, left_out)
    return found


def _patients(predictions: Predictions, patients_verifiable: bool) -> NDArray[np.str_]:
    return predictions.patient if patients_verifiable else np.full(len(predictions.label), "")


def _judged_at(name: str, split: str, threshold: Threshold) -> tuple[str, ...]:
    """The threshold behind a score, and what its interval takes for granted."""
    if name.endswith("_at_half"):
        return ("P >= 0.5",)
    if name.endswith("_at_redrawn"):
        return (f"P >= {threshold.value:.4g}; interval: {threshold.set_on} drawn and the threshold set anew, too",)
    if not name.endswith("_at_frozen"):
        return ()
    if threshold.rule == "fixed":
        return (f"P >= {threshold.value:.4g}; threshold given",)
    if split == threshold.set_on:
        return (f"P >= {threshold.value:.4g}; threshold set on these rows",)
    return (f"P >= {threshold.value:.4g}; threshold set on {threshold.set_on}, interval conditional on it",)
