"""What a verdict may be about: each measure of a cell, with what every patient contributes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import ComparisonError
from cxr_experiments.evidence import metrics, predictive
from cxr_experiments.evidence.comparison.arms import Arm, Cell, Rows
from cxr_experiments.evidence.metrics import Floats, Values
from cxr_experiments.evidence.stats import auroc_deviations, jackknife, placements

Weighted = Callable[..., Values]


@dataclass(frozen=True)
class Measure:
    """A metric as people call it, which way is better, whether a threshold enters, and whether it is a share of 1."""

    label: str
    higher_is_better: bool = True
    at_threshold: Weighted | None = None
    of_probability: Weighted | None = None
    validation_only: bool = False
    is_share: bool = True


MEASURES = {
    "auroc": Measure("AUROC"),
    "average_precision": Measure("average precision", of_probability=metrics.average_precision),
    "balanced_accuracy": Measure("balanced accuracy", at_threshold=metrics.balanced_accuracy),
    "sensitivity": Measure("sensitivity", at_threshold=metrics.sensitivity),
    "specificity": Measure("specificity", at_threshold=metrics.specificity),
    "accuracy": Measure("accuracy", at_threshold=metrics.accuracy),
    "f1": Measure("F1", at_threshold=metrics.f1),
    "mcc": Measure("MCC", at_threshold=predictive.mcc, is_share=False),
    "brier": Measure("Brier score", higher_is_better=False, of_probability=metrics.brier),
    "log_loss": Measure("log loss", higher_is_better=False, of_probability=metrics.log_loss, is_share=False),
    "stress_auroc_mean": Measure("mean AUROC under stress", validation_only=True),
    "stress_auroc_worst": Measure("worst AUROC under stress", validation_only=True),
    "gap_train_val": Measure("AUROC train - val", higher_is_better=False, validation_only=True, is_share=False),
}


@dataclass(frozen=True, eq=False)
class Measured:
    """An arm in numbers: `values` (seeds,) and `deviations` (seeds, patients), scaled jackknife deviations."""

    values: Floats
    deviations: Floats

    @property
    def defined(self) -> bool:
        """Whether every run has the metric, and keeps it without any one patient."""
        return bool(np.isfinite(self.values).all() and np.isfinite(self.deviations).all())


def patient_numbers(cells: Sequence[Cell]) -> dict[str, int]:
    """Patient key -> number, over all cells; an image without a patient is one of its own, the same in every cell."""
    parts = [rows for cell in cells for rows in (cell.rows, cell.train) if rows is not None]
    keys = dict.fromkeys(key for rows in parts for key in patient_keys(rows))
    return {key: number for number, key in enumerate(keys)}


def measure_arm(arm: Arm, metric: str, numbers: dict[str, int]) -> Measured:
    """The metric of each cell and every patient's part in it.

    Raises:
        ComparisonError: a cell lacks what the metric needs, or one of the classes.
    """
    pairs = [measure_cell(cell, metric, numbers) for cell in arm.cells]
    # equal runs are equal whatever the order of their rows: the last digits of a sum are not
    values = np.round([value for value, _ in pairs], 12)
    return Measured(values, np.array([deviations for _, deviations in pairs]))


def measure_cell(cell: Cell, metric: str, numbers: dict[str, int]) -> tuple[float, Floats]:
    """Value and deviations (patients,) of one cell."""
    if len(np.unique(cell.rows.label)) < 2:
        its = f"its {cell.split} images" if cell.split else "its images"
        raise ComparisonError(f"run {cell.run_id}: {its} are of one class, {metric} is not defined")
    measure = MEASURES[metric]
    if measure.validation_only and (cell.split == "test" or not cell.stress or cell.train is None):
        raise ComparisonError(f"{metric} is measured on validation images alone, and run {cell.run_id} has none of it")
    if metric == "gap_train_val" and cell.train is not None:
        seen, held_out = (_auroc(rows, rows.score, numbers) for rows in (cell.train, cell.rows))
        return seen[0] - held_out[0], seen[1] - held_out[1]
    if metric.startswith("stress_auroc"):
        changed = [_auroc(cell.rows, logits, numbers) for logits in cell.stress.values()]
        if metric == "stress_auroc_worst":
            return min(changed, key=lambda pair: pair[0])
        mean = np.mean([deviations for _, deviations in changed], axis=0)
        return float(np.mean([value for value, _ in changed])), mean
    if metric == "auroc":
        return _auroc(cell.rows, cell.rows.score, numbers)
    function = measure.of_probability or partial(_needed(measure.at_threshold), threshold=cell.threshold)
    patients = numbers_of(cell.rows, numbers)
    deviations = jackknife(function, cell.rows.label, cell.rows.probability, patients, len(numbers))
    return float(function(cell.rows.label, cell.rows.probability)), deviations


def numbers_of(rows: Rows, numbers: dict[str, int]) -> NDArray[np.int64]:
    """(n,) the patient number of each row."""
    return np.array([numbers[key] for key in patient_keys(rows)], dtype=np.int64)


def patient_keys(rows: Rows) -> list[str]:
    """Whom each row belongs to; where no patient is told, to its image, which is the same in every cell."""
    pairs = zip(rows.patient.tolist(), rows.image_id.tolist(), strict=True)
    return [f"patient {patient}" if patient else f"image {image}" for patient, image in pairs]


def _auroc(rows: Rows, scores: Floats, numbers: dict[str, int]) -> tuple[float, Floats]:
    deviations = auroc_deviations(rows.label, scores, numbers_of(rows, numbers), len(numbers))
    return placements(rows.label, scores).auroc, deviations


def _needed(function: Weighted | None) -> Weighted:
    if function is None:
        raise TypeError("a measure needs a function")
    return function
