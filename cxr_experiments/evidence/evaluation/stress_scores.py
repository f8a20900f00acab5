"""Robustness in numbers: AUROC under each declared change, their mean and worst, and the gap to training.

None of them foresees how a model does on films from elsewhere; they say how it bears what was declared.
"""

from __future__ import annotations

import numpy as np

from cxr_experiments.evidence.evaluation.predictions import Predictions
from cxr_experiments.evidence.evaluation.scores import Score
from cxr_experiments.evidence.evaluation.stressed import Stressed
from cxr_experiments.evidence.metrics import Floats, auroc
from cxr_experiments.evidence.stats import Interval, patient_clusters, patient_weights, percentile_interval

NUM_DRAWS = 1000


def stress_scores(
    validation: Predictions, stressed: Stressed, fitted: Predictions, *, patients_verifiable: bool, seed: int = 0
) -> tuple[Score, ...]:
    """`stress_auroc_mean`, `stress_auroc_worst`, one `stress_auroc_<change>` each, and `gap_train_val`.

    The gap is the AUROC of a sample of the training images less that of the validation images, in AUROC.  Intervals:
    bootstrap over patients, all changes in the same draws; training and validation patients drawn apart.

    Args:
        validation: predictions of the unchanged validation images.
        stressed: the same images, in the same order, under each change.
        fitted: predictions of a sample of the training images, unaugmented.
        patients_verifiable: draw patients; otherwise images.
        seed: of the draws.
    """
    draws = {name: _drawn(validation, logits, patients_verifiable, seed) for name, logits in stressed.logits.items()}
    values = {name: auroc(validation.label, logits) for name, logits in stressed.logits.items()}
    table, plain = np.array(list(values.values())), auroc(validation.label, validation.probability)
    stacked = np.array(list(draws.values()))
    gap_draws = _drawn(fitted, fitted.logit, patients_verifiable, seed + 1)
    gap_draws = gap_draws - _drawn(validation, validation.logit, patients_verifiable, seed)
    worst = str(list(values)[int(np.argmin(table))]) if np.all(np.isfinite(table)) else "-"
    found = [
        ("stress_auroc_mean", float(table.mean()), stacked.mean(axis=0), f"mean over {len(table)} changes"),
        ("stress_auroc_worst", float(table.min()), stacked.min(axis=0), f"worst change: {worst}"),
        *((f"stress_auroc_{name}", float(value), draws[name], f"under {name}") for name, value in values.items()),
        ("gap_train_val", auroc(fitted.label, fitted.logit) - plain, gap_draws, f"{len(fitted.label)} training images"),
    ]
    num_patients = int(patient_clusters(validation.patient).max()) + 1 if patients_verifiable else 0
    return tuple(
        _score(name, value, percentile_interval(drawn), (len(validation.label), num_patients), note)
        for name, value, drawn, note in found
    )


def _score(name: str, value: float, interval: Interval, counts: tuple[int, int], note: str) -> Score:
    return Score(
        name=name,
        value=value,
        low=interval.low,
        high=interval.high,
        num_images=counts[0],
        num_patients=counts[1],
        note=note,
    )


def _drawn(rows: Predictions, scores: Floats, patients_verifiable: bool, seed: int) -> Floats:
    """(draws,) AUROC over draws of patients; the same seed draws the same patients."""
    patients = rows.patient if patients_verifiable else np.full(len(rows.label), "")
    chunks = patient_weights(patients, num_draws=NUM_DRAWS, seed=seed)
    return np.concatenate([auroc(rows.label, scores, weights=weights) for weights in chunks])
