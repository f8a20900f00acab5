"""Robustness in numbers: AUROC under each declared change, their mean and worst, and the gap to training.

None of them foresees how a model does on films from elsewhere; they say how it bears what was declared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.evaluation.estimates import auroc_remarks, bootstrap_method, draw_remarks
from cxr_experiments.evidence.evaluation.predictions import Predictions
from cxr_experiments.evidence.evaluation.score_file import Score
from cxr_experiments.evidence.evaluation.stressed import Stressed
from cxr_experiments.evidence.metrics import Floats, auroc
from cxr_experiments.evidence.stats import auroc_interval, patient_clusters, patient_weights, percentile_interval

NUM_DRAWS = 1000


def stress_scores(
    validation: Predictions, stressed: Stressed, fitted: Predictions, *, patients_verifiable: bool, seed: int = 0
) -> tuple[Score, ...]:
    """`stress_auroc_mean`, `stress_auroc_worst`, one `stress_auroc_<change>` each, and `gap_train_val`.

    The gap is the AUROC of a sample of the training images less that of the validation images, in AUROC.  Intervals: of
    the AUROC under one change, as of any AUROC, in closed form; of the others, bootstrap over patients, all changes in
    the same draws, training and validation patients drawn apart.

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
        ("gap_train_val", auroc(fitted.label, fitted.logit) - plain, gap_draws, f"{len(fitted.label)} training images"),
    ]
    patients = _patients(validation, patients_verifiable)
    counts = len(validation.label), int(patient_clusters(patients).max()) + 1 if patients_verifiable else 0
    summaries = [_drawn_score(*one, counts, bootstrap_method(patients, NUM_DRAWS)) for one in found]
    changes = [_change_score(name, validation, logits, patients, counts) for name, logits in stressed.logits.items()]
    return (*summaries[:2], *changes, summaries[2])


def _drawn_score(name: str, value: float, draws: Floats, note: str, counts: tuple[int, int], method: str) -> Score:
    interval = percentile_interval(draws)
    notes = "; ".join((note, *draw_remarks(name, interval)))
    return Score(name, value, interval.low, interval.high, *counts, notes, method)


def _change_score(
    name: str, validation: Predictions, logits: Floats, patients: NDArray[np.str_], counts: tuple[int, int]
) -> Score:
    one = auroc_interval(validation.label, logits, patients)
    note = "; ".join((f"under {name}", *auroc_remarks(one.value, one.low, one.high)))
    return Score(f"stress_auroc_{name}", one.value, one.low, one.high, *counts, note, one.method)


def _patients(rows: Predictions, patients_verifiable: bool) -> NDArray[np.str_]:
    return rows.patient if patients_verifiable else np.full(len(rows.label), "")


def _drawn(rows: Predictions, scores: Floats, patients_verifiable: bool, seed: int) -> Floats:
    """(draws,) AUROC over draws of patients; the same seed draws the same patients."""
    chunks = patient_weights(_patients(rows, patients_verifiable), num_draws=NUM_DRAWS, seed=seed)
    return np.concatenate([auroc(rows.label, scores, weights=weights) for weights in chunks])
