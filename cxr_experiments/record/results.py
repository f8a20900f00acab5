"""What a training leaves in its run folder beside model and split: predictions, threshold, scores, figures, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.config.schema import ThresholdConfig
from cxr_experiments.errors import RunError, one_line
from cxr_experiments.evidence.calibration import RULES, Threshold, choose_threshold
from cxr_experiments.evidence.evaluation import (
    Predictions,
    Score,
    Stressed,
    calibration_scores,
    read_scores,
    score,
    stress_scores,
    write_predictions,
    write_scores,
    write_stressed,
)
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.record import figures
from cxr_experiments.record.epoch import Epoch
from cxr_experiments.record.run_folder import RunFolder, read_json, write_json


@dataclass(frozen=True)
class Costs:
    """What the training took: counts, epochs from 0, seconds, training images per second, parameters, devices."""

    num_train: int
    num_val: int
    epochs_run: int
    epoch_limit: int
    best_epoch: int
    stopped_early: bool
    images_per_s: float
    duration_s: float
    num_parameters: int
    num_devices: int = 1  # runs from before it was told had one


@dataclass(frozen=True)
class Evidence:
    """One split's predictions, the threshold they are judged at, the scores, and the probabilities' calibration."""

    predictions: Predictions
    threshold: Threshold
    scores: tuple[Score, ...]
    calibration: tuple[Score, ...]
    synthetic: bool


@dataclass(frozen=True)
class Robustness:
    """Validation images under declared changes, a sample of the training images, and what both say in scores."""

    stressed: Stressed
    fitted: Predictions
    scores: tuple[Score, ...]


def judge_robustness(evidence: Evidence, stressed: Stressed, fitted: Predictions) -> Robustness:
    """Score stress validation and the gap from training to validation."""
    verifiable = any(one.num_patients for one in evidence.scores)
    scores = stress_scores(evidence.predictions, stressed, fitted, patients_verifiable=verifiable)
    return Robustness(stressed, fitted, scores)


def judge_validation(predictions: Predictions, rule: ThresholdConfig, manifest: Manifest) -> Evidence:
    """Freeze the threshold on validation predictions and score them with it."""
    rows = (predictions.label, predictions.probability)
    threshold = choose_threshold(*rows, rule=rule.rule, value=rule.value, split=predictions.split)
    known = manifest.patients_verifiable
    scores = score(predictions, threshold, patients_verifiable=known)
    calibration = calibration_scores(predictions, predictions, patients_verifiable=known)
    return Evidence(predictions, threshold, scores, calibration, manifest.synthetic)


def judge_test(
    predictions: Predictions, validation: Predictions | None, threshold: Threshold, *, synthetic: bool
) -> Evidence:
    """Score test predictions at the frozen threshold; threshold and temperature come from `validation`.

    Without it (an ensemble whose members have validation splits of their own) nothing is redrawn or calibrated.
    """
    known = all(predictions.patient) and (validation is None or all(validation.patient))
    scores = score(predictions, threshold, patients_verifiable=known, validation=validation)
    calibration = calibration_scores(predictions, validation, patients_verifiable=known) if validation else ()
    return Evidence(predictions, threshold, scores, calibration, synthetic)


def keep_validation(folder: RunFolder, evidence: Evidence, robustness: Robustness, costs: Costs) -> None:
    """Write what validation left: predictions, threshold, scores.csv, calibration.csv, costs.json, figures.

    Stress logits go to stress.csv, the sample of the training rows to predictions_train.csv.
    """
    write_predictions(folder.predictions("val"), evidence.predictions)
    write_json(folder.file("threshold.json"), asdict(evidence.threshold))
    write_stressed(folder.file("stress.csv"), robustness.stressed)
    write_predictions(folder.predictions("train"), robustness.fitted)
    write_scores(folder.file("scores.csv"), [*evidence.scores, *robustness.scores])
    write_scores(folder.file("calibration.csv"), evidence.calibration)
    draw_evidence(folder, evidence)
    write_json(folder.file("costs.json"), asdict(costs))


def keep_test(folder: RunFolder, evidence: Evidence) -> bool:
    """Write test predictions, threshold, scores, calibration and figures; True when these are the run's test results.

    The first threshold that the test split was judged at stays the run's: its scores stand in scores.csv.  Another one
    goes to a file of its own, scores_test_<rule>_<value>.csv, and nothing is overwritten.
    """
    threshold, judged = evidence.threshold, folder.file("threshold_test.json")
    if judged.is_file() and read_json(judged) != asdict(threshold):
        write_scores(folder.file(f"scores_test_{threshold.rule}_{threshold.target:g}.csv"), evidence.scores)
        return False
    write_predictions(folder.predictions("test"), evidence.predictions)
    write_json(judged, asdict(threshold))
    for name, found in (("scores.csv", evidence.scores), ("calibration.csv", evidence.calibration)):
        kept = read_scores(folder.file(name)) if folder.file(name).is_file() else ()
        validation = [one for one in kept if not one.name.startswith("test_")]
        if validation or found:
            write_scores(folder.file(name), [*validation, *found])
    draw_evidence(folder, evidence)
    return True


def draw_training(
    folder: RunFolder, history: Sequence[Epoch], costs: Costs, sheet: NDArray[np.uint8], *, synthetic: bool
) -> None:
    """Learning curves and the augmentation's contact sheet.

    Args:
        folder: the run's.
        history: one entry per epoch with loss, accuracy, val_loss, val_accuracy.
        costs: the training's.
        sheet: (rows, columns, size, size) uint8, originals in column 0.
        synthetic: the images are phantoms.
    """
    folder.file("figures").mkdir(exist_ok=True)
    figures.draw_curves(
        folder.file("figures/curves.png"),
        [epoch.metrics for epoch in history],
        costs.best_epoch,
        num_train=costs.num_train,
        num_val=costs.num_val,
        synthetic=synthetic,
    )
    labels = [f"film {row + 1}" for row in range(len(sheet))]
    title = "Left column: as prepared; others: as training sees them"
    figures.draw_contact_sheet(folder.file("figures/augmentation.png"), sheet, labels, title, synthetic=synthetic)


def draw_evidence(folder: RunFolder, evidence: Evidence) -> None:
    """ROC, precision-recall, confusion matrix and calibration of one split, figures/<split>_<what>.png."""
    folder.file("figures").mkdir(exist_ok=True)
    predictions, threshold, synthetic = evidence.predictions, evidence.threshold, evidence.synthetic
    stem = f"figures/{predictions.split}_"
    figures.draw_roc(folder.file(f"{stem}roc.png"), predictions, threshold, synthetic=synthetic)
    figures.draw_precision_recall(
        folder.file(f"{stem}precision_recall.png"), predictions, threshold, synthetic=synthetic
    )
    figures.draw_confusion(folder.file(f"{stem}confusion.png"), predictions, threshold, synthetic=synthetic)
    figures.draw_calibration(folder.file(f"{stem}calibration.png"), predictions, synthetic=synthetic)


def final_values(scores: Sequence[Score], **more: float) -> dict[str, float]:
    """Scores by name, with `_lo` and `_hi` for their intervals."""
    values = dict(more)
    for one in scores:
        values |= {one.name: one.value, f"{one.name}_lo": one.low, f"{one.name}_hi": one.high}
    return values


def read_threshold(folder: RunFolder) -> Threshold:
    """The threshold that validation froze at the end of training.

    Raises:
        RunError: missing or not a threshold.
    """
    values: dict[str, Any] = read_json(folder.file("threshold.json"))
    try:
        threshold = Threshold(**values)
        # a file is named by rule and target, so that nothing but these may stand there
        if threshold.rule not in RULES or not 0.0 <= float(threshold.target) <= 1.0:
            raise ValueError(f"rule {threshold.rule!r} and target {threshold.target!r} are none that a threshold has")
        if not 0.0 <= float(threshold.value) <= 1.0:
            raise ValueError(f"value {threshold.value!r} is no probability")
        checked = replace(threshold, value=float(threshold.value), target=float(threshold.target))
        return replace(checked, num_images=int(threshold.num_images), set_on=one_line(threshold.set_on))
    except (TypeError, ValueError, OverflowError) as error:
        raise RunError(f"{folder.file('threshold.json')} is not a frozen threshold: {one_line(error)}") from error
