"""Probabilities as trained, with a temperature, and corrected for a prevalence: the same measures side by side.

Temperature and shift come from validation rows; the measures are taken on whatever split is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from cxr_experiments.evidence import metrics, recalibration
from cxr_experiments.evidence.evaluation.estimates import (
    BIASED,
    STATED_PREVALENCE,
    bootstrap_method,
    draw_remarks,
    of_logit,
)
from cxr_experiments.evidence.evaluation.predictions import Predictions
from cxr_experiments.evidence.evaluation.score_file import Score
from cxr_experiments.evidence.metrics import Floats, Values
from cxr_experiments.evidence.stats import Metric, bootstrap_intervals, patient_clusters
from cxr_experiments.evidence.temperature import fit_temperature, prior_shift

NUM_DRAWS = 1000
OF_PROBABILITY: dict[str, Metric] = {
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
    "ece": recalibration.expected_calibration_error,
}
OF_LOGIT: dict[str, Metric] = {
    "calibration_slope": recalibration.calibration_slope,
    "calibration_intercept": recalibration.calibration_intercept,
}
MEASURES = (*OF_PROBABILITY, *OF_LOGIT)


@dataclass(frozen=True, eq=False)
class _Variant:
    """(n,) logits made from the model's own, the prevalence that rows are weighted to (None: as they are), and how.

    They are the logits of the variant `trained`, of the same prevalence, divided by `temperature` and perhaps shifted.
    """

    logit: Floats
    prevalence: float | None
    trained: str
    temperature: float
    remark: str


def calibration_scores(
    predictions: Predictions, validation: Predictions, *, patients_verifiable: bool, seed: int = 0
) -> tuple[Score, ...]:
    """Log loss, Brier score, expected calibration error, calibration slope and intercept of each kind of probability.

    `{split}_{measure}_as_trained` and `_tempered` are of the rows as they are.  The same and `_prior_corrected`, each
    followed by `_stated_prevalence`, are of the rows weighted so that positives have the stated prevalence: corrected
    probabilities are made for that mixture and mean nothing in another one.  Intervals: bootstrap over patients, with
    temperature and shift held fixed.

    Args:
        predictions: rows of one split, with the model's logits.
        validation: rows that temperature and prevalence are taken from.
        patients_verifiable: draw patients; otherwise images.
        seed: of the draws.

    Raises:
        LeakageError: `validation` holds rows of the test split.
    """
    patients = predictions.patient if patients_verifiable else np.full(len(predictions.label), "")
    counts = len(predictions.label), int(patient_clusters(patients).max()) + 1 if patients_verifiable else 0
    variants = _variants(predictions, validation)
    rows = (predictions.label, predictions.probability)
    asked = [(measure, name) for measure in MEASURES for name in variants]
    # dividing logits by T multiplies their slope by T, in every draw: so the costliest fit is made for as_trained alone
    slopes = {("calibration_slope", name) for name, one in variants.items() if one.trained != name}
    drawn = {f"{one[0]}_{one[1]}": _metric(one[0], variants[one[1]]) for one in asked if one not in slopes}
    found = bootstrap_intervals(
        {name: metric for name, metric in drawn.items() if not name.startswith("ece_")},
        *rows,
        patients,
        num_draws=NUM_DRAWS,
        seed=seed,
    )
    scores = []
    for measure, name in asked:
        one = variants[name]
        source, factor = (one.trained, one.temperature) if (measure, name) in slopes else (name, 1.0)
        value = factor * float(drawn[f"{measure}_{source}"](*rows))
        low, high, method, remarks = np.nan, np.nan, BIASED, [one.remark]
        if measure != "ece":
            interval = found[f"{measure}_{source}"]
            low, high, method = factor * interval.low, factor * interval.high, bootstrap_method(patients, NUM_DRAWS)
            remarks += draw_remarks(measure, interval)
        note = "; ".join(remark for remark in remarks if remark)
        scores.append(Score(f"{predictions.split}_{measure}_{name}", value, low, high, *counts, note, method))
    return tuple(scores)


def _variants(predictions: Predictions, validation: Predictions) -> dict[str, _Variant]:
    temperature = fit_temperature(validation.label, validation.logit, split=validation.split)
    shift = prior_shift(validation.label, prevalence=STATED_PREVALENCE, split=validation.split)
    logit, share, value = predictions.logit, float(np.mean(validation.label)), temperature.value
    number, own = temperature.num_images, predictions.split == validation.split
    where = f"these {number} images" if own else f"{number} {validation.split} images"
    cooled = temperature.remark or f"temperature {value:.4g}, fitted on {where}"
    moved = f"{cooled}; logit {shift:+.4g} for that prevalence instead of {share:.4g}"
    weighted = f"rows weighted to a prevalence of {STATED_PREVALENCE:g}"
    plain, stated = "as_trained", "as_trained_stated_prevalence"
    to = STATED_PREVALENCE
    return {
        plain: _Variant(logit, None, plain, 1.0, ""),
        "tempered": _Variant(logit / value, None, plain, value, cooled),
        stated: _Variant(logit, to, stated, 1.0, weighted),
        "tempered_stated_prevalence": _Variant(logit / value, to, stated, value, f"{weighted}; {cooled}"),
        "prior_corrected_stated_prevalence": _Variant(logit / value + shift, to, stated, value, f"{weighted}; {moved}"),
    }


def _metric(measure: str, variant: _Variant) -> Metric:
    """The measure of a variant as a metric of labels and weights; the scores it is called with are not read."""
    metric = OF_LOGIT[measure] if measure in OF_LOGIT else partial(_of_probability, OF_PROBABILITY[measure])
    return partial(of_logit, partial(_restated, metric, variant.prevalence), variant.logit)


def _of_probability(metric: Metric, y_true: ArrayLike, logit: ArrayLike, *, weights: ArrayLike) -> Values:
    return metric(y_true, metrics.sigmoid(logit), weights=weights)


def _restated(
    metric: Metric, prevalence: float | None, y_true: ArrayLike, logit: ArrayLike, *, weights: ArrayLike | None
) -> Values:
    """The metric with the positives' share of the weight set to `prevalence`; no weight at all where a class lacks."""
    if prevalence is None:
        return metric(y_true, logit, weights=weights)
    labels = np.asarray(y_true, dtype=np.float64)
    table = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    positive, negative = table @ labels, table @ (1 - labels)
    both = (positive > 0) & (negative > 0)
    of_positive = np.divide(prevalence, positive, out=np.zeros_like(positive), where=both)
    of_negative = np.divide(1 - prevalence, negative, out=np.zeros_like(negative), where=both)
    share = of_positive[..., None] * labels + of_negative[..., None] * (1 - labels)
    return metric(y_true, logit, weights=table * share)
