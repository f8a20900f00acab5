"""The networks of each arm as one: its scores beside the mean of its members, and its difference from the baseline's.

In: the members' predictions and frozen thresholds, by arm.  Out: estimates with intervals.  They are about these very
networks on other patients; how another training would do is what the mean over seeds tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.comparison import Cell, Estimate, Rows
from cxr_experiments.evidence.ensemble import (
    ensemble_id,
    ensemble_threshold,
    mean_estimate,
    mean_predictions,
    paired_difference,
    share_images,
)
from cxr_experiments.evidence.evaluation import Predictions, score

OF_PROBABILITY = ("auroc", "average_precision", "brier", "log_loss")
AT_THRESHOLD = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "mcc")
# accuracy first at the frozen threshold, then at one half, as published figures have it
MEASURED = (
    *((metric, "") for metric in OF_PROBABILITY),
    *((metric, suffix) for suffix in ("_at_frozen", "_at_half") for metric in AT_THRESHOLD),
)


@dataclass(frozen=True, eq=False)
class ArmEnsemble:
    """An arm's networks and their joint predictions of one split; `joint` is judged at `threshold`."""

    name: str
    members: tuple[Cell, ...]
    joint: Cell
    predictions: Predictions
    threshold: Threshold


@dataclass(frozen=True)
class EnsembleScore:
    """One measure of one arm: its ensemble, the mean of the members, what the ensemble adds, and the difference.

    `gain` is ensemble less mean of its members, `difference` ensemble less the baseline's (the baseline's own: NaN),
    both over random patients for these networks; `members` has its interval over random seeds and random patients.
    """

    arm: str
    measure: str
    ensemble: Estimate
    members: Estimate
    gain: Estimate
    difference: Estimate
    num_members: int
    num_images: int
    num_patients: int
    threshold: float
    method: str


def arm_ensemble(
    name: str, judged: Sequence[Predictions], validations: Sequence[Predictions], thresholds: Sequence[Threshold]
) -> ArmEnsemble:
    """The members' mean, at the threshold that validation gives.

    Args:
        name: of the arm.
        judged: each member's predictions of the same images.
        validations: each member's of its own validation images.
        thresholds: each member's, frozen on them.

    Raises:
        ComparisonError: the members were judged on different images.
    """
    run_id = f"ensemble-{ensemble_id([one.run_id for one in judged])}"
    validation = mean_predictions(validations, run_id) if share_images(validations) else None
    threshold = ensemble_threshold(validation, thresholds)
    joint = mean_predictions(judged, run_id)
    members = tuple(_cell(one, place, own) for place, (one, own) in enumerate(zip(judged, thresholds, strict=True)))
    return ArmEnsemble(name, members, _cell(joint, 0, threshold), joint, threshold)


def ensemble_scores(arms: Sequence[ArmEnsemble]) -> tuple[EnsembleScore, ...]:
    """Every measure of every arm, the baseline first."""
    return tuple(one for arm in arms for one in _scores(arm, arms[0]))


def _scores(arm: ArmEnsemble, baseline: ArmEnsemble) -> list[EnsembleScore]:
    rows = arm.predictions
    own = {one.name: one for one in score(rows, arm.threshold, patients_verifiable=all(rows.patient))}
    found = []
    for metric, suffix in MEASURED:
        members, joint, base = arm.members, arm.joint, baseline.joint
        if suffix == "_at_half":
            members = tuple(replace(cell, threshold=0.5) for cell in members)
            joint, base = (replace(cell, threshold=0.5) for cell in (joint, base))
        told = own[f"{rows.split}_{metric}{suffix}"]
        found.append(
            EnsembleScore(
                arm=arm.name,
                measure=f"{metric}{suffix}",
                ensemble=Estimate(told.value, told.low, told.high),
                members=mean_estimate(members, metric),
                gain=paired_difference(members, [joint] * len(members), metric),
                difference=Estimate(float("nan"), float("nan"), float("nan"))
                if arm is baseline
                else paired_difference([base], [joint], metric),
                num_members=len(members),
                num_images=told.num_images,
                num_patients=told.num_patients,
                threshold=joint.threshold,
                method=told.method,
            )
        )
    return found


def _cell(predictions: Predictions, place: int, threshold: Threshold) -> Cell:
    rows = Rows.of(predictions)
    digest = predictions.dataset_digest
    return Cell(predictions.run_id, place, predictions.split, rows, digest, threshold=threshold.value)
