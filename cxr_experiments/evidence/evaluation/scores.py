"""From predictions to scores: every metric with its interval and n, as values, as a CSV file and as a table to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from cxr_experiments.evidence import metrics
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.evaluation.csv_rows import csv_text, odd, parse_float, read_text, records, write_text
from cxr_experiments.evidence.evaluation.predictions import Predictions
from cxr_experiments.evidence.stats import Interval, Metric, bootstrap_intervals, patient_clusters

RANKING = ("auroc", "average_precision", "brier", "log_loss")
AT_THRESHOLD = ("balanced_accuracy", "sensitivity", "specificity", "f1", "accuracy")


@dataclass(frozen=True)
class Score:
    """One number with its 95 % interval and n.

    `name` is `{split}_{metric}`, then `_at_half` or `_at_frozen` where a threshold enters; value, low and high are
    NaN where undefined; `num_patients` is 0 when patients are not verifiable: the interval is then over images.
    """

    name: str
    value: float
    low: float
    high: float
    num_images: int
    num_patients: int
    note: str


def score(
    predictions: Predictions, threshold: Threshold, *, patients_verifiable: bool, seed: int = 0
) -> tuple[Score, ...]:
    """Every metric of the predictions' split, each with its bootstrap interval and n.

    Args:
        predictions: rows of one split.
        threshold: frozen on validation rows; metrics `_at_frozen` use it, `_at_half` use 0.5.
        patients_verifiable: draw patients; otherwise images, and `num_patients` is 0.
        seed: of the bootstrap draws.
    """
    patients = predictions.patient if patients_verifiable else np.full(len(predictions.label), "")
    num_patients = int(patient_clusters(patients).max()) + 1 if patients_verifiable else 0
    wanted: dict[str, Metric] = {name: getattr(metrics, name) for name in RANKING}
    for suffix, value in (("at_half", 0.5), ("at_frozen", threshold.value)):
        wanted |= {f"{name}_{suffix}": partial(getattr(metrics, name), threshold=value) for name in AT_THRESHOLD}
    rows = (predictions.label, predictions.probability)
    intervals = bootstrap_intervals(wanted, *rows, patients, seed=seed)
    return tuple(
        Score(
            name=f"{predictions.split}_{name}",
            value=metric(*rows),
            low=intervals[name].low,
            high=intervals[name].high,
            num_images=len(predictions.label),
            num_patients=num_patients,
            note=_note(name, predictions.split, threshold, intervals[name]),
        )
        for name, metric in wanted.items()
    )


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write scores as CSV, one row each, under a temporary name and rename it."""
    rows = [tuple(repr(cell) if isinstance(cell, float) else str(cell) for cell in astuple(one)) for one in scores]
    write_text(path, csv_text([tuple(field.name for field in fields(Score)), *rows]))


def read_scores(path: Path) -> tuple[Score, ...]:
    """Read what `write_scores` wrote.

    Raises:
        RunError: missing, unreadable or odd; the text names the file, the line and what was expected.
    """
    found = []
    for line, cells in records(read_text(path), tuple(field.name for field in fields(Score)), path):
        value, low, high = (parse_float(cell, "a number or nan", path, line, may_be_nan=True) for cell in cells[1:4])
        if not all(re.fullmatch("[0-9]{1,12}", cell) for cell in cells[4:6]):
            raise odd(path, line, f"counts {cells[4]!r} and {cells[5]!r}", "two whole numbers")
        found.append(Score(cells[0], value, low, high, int(cells[4]), int(cells[5]), cells[6]))
    return tuple(found)


def score_table(scores: Sequence[Score], *, synthetic: bool) -> list[str]:
    """The scores as aligned lines for a terminal, with intervals, n and notes.

    Every line begins with "SYNTHETIC " for phantoms; intervals over images are named so.
    """
    over_patients = all(one.num_patients for one in scores)
    rows = [("metric", "value", "95 % interval", "images", "patients", "")]
    for one in scores:
        interval = "not defined" if np.isnan(one.low) else f"[{one.low:.4f}, {one.high:.4f}]"
        value = "-" if np.isnan(one.value) else f"{one.value:.4f}"
        patients = str(one.num_patients) if one.num_patients else "-"
        rows.append((one.name, value, interval, str(one.num_images), patients, one.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]:>{widths[4]}}  {row[5]}".rstrip()
        for row in rows
    ]
    unit = "patients" if over_patients else "images (patients not verifiable)"
    lines.append(f"intervals: bootstrap over {unit}")
    return [f"SYNTHETIC {line}" for line in lines] if synthetic else lines


def _note(name: str, split: str, threshold: Threshold, interval: Interval) -> str:
    notes = []
    if name.endswith("_at_half"):
        notes.append("P >= 0.5")
    elif name.endswith("_at_frozen"):
        source = f"threshold set on {'these rows' if split == threshold.set_on else threshold.set_on}"
        notes.append(f"P >= {threshold.value:.4g}; {source if threshold.rule != 'fixed' else 'threshold given'}")
    if interval.num_undefined:
        notes.append(f"{interval.num_undefined} of {interval.num_draws} draws undefined (one class)")
    if interval.low == interval.high:
        notes.append("the same in every draw: the interval says too little")
    return "; ".join(notes)
