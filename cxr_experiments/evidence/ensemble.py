"""Predictions of several networks on the same images become those of one: the mean of their probabilities.

Probabilities are averaged, not logits: log loss is convex in the probability, so the mean is never worse than the
members' are on average (Jensen), and one member that is very sure and wrong cannot outweigh the others.  The logit of
the mean is computed from the members' logits, which tell images apart whose probabilities round to 1.  Nothing here
reads a file or opens a split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from cxr_experiments.errors import ComparisonError
from cxr_experiments.evidence.calibration import Threshold, choose_threshold
from cxr_experiments.evidence.comparison import Arm, Cell, Estimate, arm_mean
from cxr_experiments.evidence.comparison.measures import measure_cell, patient_numbers
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.metrics import Floats, sigmoid
from cxr_experiments.evidence.stats import LEVEL, auroc_interval

EACH_VALIDATION = "each member's val"  # what a mean of thresholds was set on


def ensemble_id(run_ids: Sequence[str], tta: int = 0) -> str:
    """12 hex digits over the members' ids, in any order, and the number of augmented copies of each image.

    Example:
        >>> ensemble_id(["b", "a"]) == ensemble_id(["a", "b"]) != ensemble_id(["a", "b"], tta=4)
        True
    """
    return hashlib.sha256(f"{' '.join(sorted(run_ids))} tta={tta}".encode()).hexdigest()[:12]


def logit_of_mean(logits: Floats) -> Floats:
    """(members, n) logits -> (n,) logits of the mean probability.

    Example:
        >>> logit_of_mean(np.array([[0.0, 800.0], [0.0, 800.0]])).tolist()
        [0.0, 800.0]
    """
    positive = np.logaddexp.reduce(-np.logaddexp(0.0, -logits), axis=0)
    negative = np.logaddexp.reduce(-np.logaddexp(0.0, logits), axis=0)
    return np.asarray(positive - negative, dtype=np.float64)


def mean_predictions(members: Sequence[Predictions], run_id: str) -> Predictions:
    """The ensemble's predictions, in the order of the first member's images.

    Args:
        members: of the same images with the same labels and patients, in any order of rows; logits finite.
        run_id: what the ensemble is called.

    Raises:
        ComparisonError: the members were judged on different images.
    """
    first, rows = members[0], [_in_order(one, members[0]) for one in members]
    logit = logit_of_mean(np.stack(rows))
    return replace(first, logit=logit, probability=sigmoid(logit), run_id=run_id)


def share_images(members: Sequence[Predictions]) -> bool:
    """Whether all members were judged on the very same images."""
    return len({frozenset(one.image_id.tolist()) for one in members}) == 1


def ensemble_threshold(validation: Predictions | None, members: Sequence[Threshold]) -> Threshold:
    """The ensemble's threshold, by the members' rule; the test split is not needed for it.

    Args:
        validation: the ensemble's own predictions of images that no member was trained on; None where each member has
            a validation split of its own, as one member's validation images were another's training images.
        members: their frozen thresholds, of one rule.

    Returns:
        A given threshold as it was given; else chosen on `validation`; else the mean of the members' thresholds.
    """
    first = members[0]
    if first.rule == "fixed":
        return first
    if validation is not None:
        rows = (validation.label, validation.probability)
        return choose_threshold(*rows, rule=first.rule, value=first.target, split=validation.split)
    mean = float(np.mean([one.value for one in members]))
    return replace(first, value=mean, num_images=sum(one.num_images for one in members), set_on=EACH_VALIDATION)


def mean_estimate(cells: Sequence[Cell], metric: str) -> Estimate:
    """The mean over networks with its interval over random seeds and patients; of one network, over patients alone.

    Args:
        cells: judged networks; the same rows in each are one network.
        metric: a name in `comparison.MEASURES`.
    """
    if len({id(cell.rows) for cell in cells}) > 1:
        return arm_mean(Arm("", tuple(cells)), metric)
    rows = cells[0].rows
    if metric == "auroc":
        found = auroc_interval(rows.label, rows.score, rows.patient)
        return Estimate(found.value, found.low, found.high)
    value, deviations = measure_cell(cells[0], metric, patient_numbers(cells[:1]))
    return _over_patients(value, float(np.linalg.norm(deviations)))


def paired_difference(before: Sequence[Cell], after: Sequence[Cell], metric: str) -> Estimate:
    """Mean over pairs of networks, after less before, with its 95 % interval over random patients.

    The networks are fixed: it says how sure these very ones differ, not how another training would do.

    Args:
        before: judged networks.
        after: as many, each on the images of its partner.
        metric: a name in `comparison.MEASURES`.

    Raises:
        ComparisonError: a network's images are of one class.

    References:
        Efron and Stein (1981), Ann. Statist. 9, 586-596 (the jackknife's variance, here over patients).
    """
    numbers = patient_numbers([*before, *after])
    pairs = [[measure_cell(cell, metric, numbers) for cell in pair] for pair in zip(before, after, strict=True)]
    value = float(np.mean([other[0] - one[0] for one, other in pairs]))
    error = float(np.linalg.norm(np.mean([other[1] - one[1] for one, other in pairs], axis=0)))
    return _over_patients(value, error)


def _over_patients(value: float, error: float) -> Estimate:
    """The value and its interval at this standard error; none where a patient's absence leaves it undefined."""
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    return Estimate(value, value - half, value + half) if math.isfinite(error) else Estimate(value)


def _in_order(one: Predictions, first: Predictions) -> Floats:
    """(n,) the member's logits in the order of `first`."""
    place = {image_id: row for row, image_id in enumerate(one.image_id.tolist())}
    ids = first.image_id.tolist()
    runs = f"runs {first.run_id} and {one.run_id}"
    if set(place) != set(ids):
        alone = sorted(set(place) ^ set(ids))
        raise ComparisonError(f"{runs} were judged on different images: {len(alone)} stand in one alone, as {alone[0]}")
    order = np.array([place[image_id] for image_id in ids])
    for what in ("label", "patient"):
        if (getattr(one, what)[order] != getattr(first, what)).any():
            raise ComparisonError(f"{runs} disagree on the {what} of an image: they are not of the same data")
    if not np.isfinite(one.logit).all():
        raise ComparisonError(f"run {one.run_id} has no logits: an ensemble is computed from them")
    ordered: Floats = one.logit[order]
    return ordered


def told_origin(frozen: Threshold) -> str:
    """Which of the three ways the threshold was found, such as `sensitivity_at 0.95, set on 105 val images`."""
    if frozen.rule == "fixed":
        return "given beforehand"
    rule = f"{frozen.rule} {frozen.target:g}"
    if frozen.set_on == EACH_VALIDATION:
        return f"mean of the members' thresholds, {rule}, each frozen on its own validation images"
    return f"{rule}, set on {frozen.num_images:,} {frozen.set_on} images"
