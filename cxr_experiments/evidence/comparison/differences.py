"""Arms -> verdicts: the deciding interval of every option against the baseline, over random seeds and random patients.

The interval is Obuchowski and Rockette's with Hillis' degrees of freedom; several options share one family, whose level
is kept by the joint distribution of its differences.  What stands beside a verdict (`checks`, `subgroups`) never
changes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from cxr_experiments.config.compose import nearest
from cxr_experiments.errors import ComparisonError
from cxr_experiments.evidence.comparison.arms import Arm, check_comparable
from cxr_experiments.evidence.comparison.checks import Check, Overlap, checks_of
from cxr_experiments.evidence.comparison.measures import MEASURES, Measured, measure_arm, patient_numbers
from cxr_experiments.evidence.comparison.subgroups import Subgroup, subgroups_of
from cxr_experiments.evidence.comparison.verdicts import NOT_RESOLVED, sentence, verdict
from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats import (
    LEVEL,
    Contrast,
    adjusted_p_values,
    random_reader_contrast,
    random_reader_mean,
    simultaneous_p,
)


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; NaN limits where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Difference:
    """One option against the baseline.

    `difference` (option less baseline, in the metric's units) carries the family's simultaneous interval, on which the
    verdict rests; `pointwise` its own.  `training_error` and `patient_error` are the parts of the standard error that
    more seeds and more patients would shrink; `seed_sd` the spread of single runs beyond patients; `correlation` that
    of the two arms on the same patients.
    """

    arm: str
    factor: str
    baseline: Estimate
    option: Estimate
    difference: Estimate
    pointwise: Estimate
    standard_error: float
    degrees_of_freedom: float
    p_value: float
    adjusted_p_value: float
    verdict: str
    sentence: str
    num_seeds: int
    num_images: int
    num_patients: int
    training_error: float
    patient_error: float
    seed_sd: float
    correlation: float
    per_seed: tuple[float, ...]
    checks: tuple[Check, ...]
    subgroups: tuple[Subgroup, ...]
    run_ids_baseline: tuple[str, ...]
    run_ids_option: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A baseline and its options, judged on one metric and one split; `arms` holds each arm's mean over seeds."""

    metric: str
    label: str
    higher_is_better: bool
    margin: float
    split: str
    level: float
    family_size: int
    differences: tuple[Difference, ...]
    arms: tuple[tuple[str, Estimate], ...]
    synthetic: bool
    dataset_digest: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two measured arms and their contrast (None with one seed)."""

    option: Arm
    measured: Measured
    contrast: Contrast | None


def compare_arms(
    baseline: Arm,
    options: Sequence[Arm],
    *,
    metric: str,
    margin: float,
    overlap: Overlap | None = None,
    thorough: bool = True,
) -> Comparison:
    """Judge every option against the baseline.

    Args:
        baseline: cells in seed order.
        options: arms paired with the baseline's seeds, on the same images seed by seed.
        metric: a name in `MEASURES`.
        margin: the smallest difference of interest, in the metric's units.
        overlap: sizes of training and judged sets where repetitions share training images, for the corrected t.
        thorough: with the sensitivity table and subgroups; a simulation of thousands of studies does without.

    Raises:
        ComparisonError: the arms may not be compared; the text says why and in which runs.
    """
    if metric not in MEASURES:
        raise ComparisonError(f"metric={metric}: no such measure{nearest(metric, list(MEASURES))}")
    if not margin > 0:
        raise ComparisonError(f"margin={margin}: expected a difference above 0, in units of {metric}")
    check_comparable(baseline, options)
    arms = (baseline, *options)
    numbers = patient_numbers([cell for arm in arms for cell in arm.cells])
    measured = {arm.name: measure_arm(arm, metric, numbers) for arm in arms}
    base = measured[baseline.name]
    pairs = [_Pair(arm, measured[arm.name], _contrast(base, measured[arm.name])) for arm in options]
    limits = _family(base, pairs)
    paired = zip(pairs, limits, strict=True)
    differences = [_difference(baseline, base, pair, limit, (metric, margin)) for pair, limit in paired]
    if thorough:
        differences = [
            _beside(one, baseline, arm, metric, overlap) for one, arm in zip(differences, options, strict=True)
        ]
    first = baseline.cells[0]
    return Comparison(
        metric=metric,
        label=MEASURES[metric].label,
        higher_is_better=MEASURES[metric].higher_is_better,
        margin=margin,
        split=first.split,
        level=LEVEL,
        family_size=len(options),
        differences=tuple(differences),
        arms=tuple((arm.name, _mean(measured[arm.name])) for arm in arms),
        synthetic=bool(first.synthetic),
        dataset_digest=first.dataset_digest,
        notes=_notes(baseline),
    )


@dataclass(frozen=True)
class _Limit:
    """Critical and adjusted p of one comparison within its family."""

    critical_p: float
    adjusted_p: float


def _contrast(base: Measured, option: Measured) -> Contrast | None:
    if len(base.values) < 2:
        return None
    return random_reader_contrast(
        np.stack([base.values, option.values]), np.stack([base.deviations, option.deviations])
    )


def _family(base: Measured, pairs: Sequence[_Pair]) -> list[_Limit]:
    """The level of each comparison, from how the differences hang together over patients and over seeds."""
    contrasts = [pair.contrast for pair in pairs if pair.contrast is not None]
    if len(contrasts) < len(pairs):
        return [_Limit(math.nan, math.nan) for _ in pairs]
    degrees = [one.degrees_of_freedom for one in contrasts]
    correlation = _correlation(base, pairs)
    critical = simultaneous_p(correlation, degrees)
    adjusted = adjusted_p_values([one.p_value for one in contrasts], correlation, degrees)
    return [_Limit(critical, float(one)) for one in adjusted]


def _correlation(base: Measured, pairs: Sequence[_Pair]) -> Floats:
    """(k, k) of the differences: covariance over patients of the mean over seeds, plus over seeds of what is left."""
    over_patients = np.array([(pair.measured.deviations - base.deviations).mean(axis=0) for pair in pairs])
    per_seed = np.array([pair.measured.values - base.values for pair in pairs])
    count = per_seed.shape[1]
    centred = per_seed - per_seed.mean(axis=1, keepdims=True)
    covariance = over_patients @ over_patients.T + centred @ centred.T / (count * max(1, count - 1))
    spread = np.sqrt(np.diag(covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = covariance / np.outer(spread, spread)
    return np.where(np.isfinite(found), found, np.eye(len(pairs)))


def _difference(baseline: Arm, base: Measured, pair: _Pair, limit: _Limit, judged: tuple[str, float]) -> Difference:
    metric, margin = judged
    per_seed = pair.measured.values - base.values
    value, contrast = float(per_seed.mean()), pair.contrast
    half, own = _halves(contrast, limit)
    measure = MEASURES[metric]
    sign = 1.0 if measure.higher_is_better else -1.0
    ends = sorted((sign * (value - half), sign * (value + half)))
    word = verdict(ends[0], ends[1], margin) if contrast else NOT_RESOLVED
    first = baseline.cells[0]
    num_images, num_patients = _counts(baseline)
    basis = _basis(measure.label, first.split, len(per_seed), (num_images, num_patients))
    if contrast is None:
        basis = f"one seed: how much training alone moves {measure.label} is not known; {basis}"
    training, patients = _parts(contrast, len(per_seed))
    return Difference(
        arm=pair.option.name,
        factor=pair.option.factor,
        baseline=_mean(base),
        option=_mean(pair.measured),
        difference=Estimate(value, value - half, value + half),
        pointwise=Estimate(value, value - own, value + own),
        standard_error=contrast.standard_error if contrast else math.nan,
        degrees_of_freedom=contrast.degrees_of_freedom if contrast else math.nan,
        p_value=contrast.p_value if contrast else math.nan,
        adjusted_p_value=limit.adjusted_p,
        verdict=word,
        sentence=sentence(pair.option.name, word, (sign * value, ends[0], ends[1]), margin, basis),
        num_seeds=len(per_seed),
        num_images=num_images,
        num_patients=num_patients,
        training_error=training,
        patient_error=patients,
        seed_sd=math.sqrt(contrast.seed_variance + contrast.arm_seed_variance) if contrast else math.nan,
        correlation=contrast.cov1 / contrast.error_variance if contrast and contrast.error_variance > 0 else math.nan,
        per_seed=tuple(float(one) for one in per_seed),
        checks=(),
        subgroups=(),
        run_ids_baseline=tuple(cell.run_id for cell in baseline.cells),
        run_ids_option=tuple(cell.run_id for cell in pair.option.cells),
    )


def _halves(contrast: Contrast | None, limit: _Limit) -> tuple[float, float]:
    """Half widths of the simultaneous and of the pointwise interval; identical arms have none."""
    if contrast is None:
        return math.nan, math.nan
    degrees = contrast.degrees_of_freedom
    wide = float(distributions.t.ppf(1 - limit.critical_p / 2, degrees))
    own = float(distributions.t.ppf((1 + LEVEL) / 2, degrees))
    return wide * contrast.standard_error, own * contrast.standard_error


def _parts(contrast: Contrast | None, num_seeds: int) -> tuple[float, float]:
    """Standard errors of the difference that are due to training and to patients; their squares sum to the whole."""
    if contrast is None:
        return math.nan, math.nan
    patients = contrast.error_variance - contrast.cov1 + (num_seeds - 1) * (contrast.cov2 - contrast.cov3)
    patients = min(max(0.0, 2 * patients / num_seeds), contrast.standard_error**2)
    return math.sqrt(contrast.standard_error**2 - patients), math.sqrt(patients)


def _beside(one: Difference, baseline: Arm, option: Arm, metric: str, overlap: Overlap | None) -> Difference:
    values = {field: getattr(one, field) for field in one.__dataclass_fields__}
    values["checks"] = checks_of(baseline, option, metric, one.per_seed, overlap)
    values["subgroups"] = subgroups_of(baseline, option, metric)
    return Difference(**values)


def _mean(measured: Measured) -> Estimate:
    if len(measured.values) < 2:
        return Estimate(float(measured.values.mean()))
    found = random_reader_mean(measured.values, measured.deviations)
    return Estimate(found.value, found.low, found.high)


def _counts(baseline: Arm) -> tuple[int, int]:
    """Distinct images and known patients over all seeds; 0 patients where they are not known."""
    images = {image for cell in baseline.cells for image in cell.rows.image_id.tolist()}
    patients = {patient for cell in baseline.cells for patient in cell.rows.patient.tolist()}
    return len(images), 0 if "" in patients else len(patients)


def _basis(label: str, split: str, num_seeds: int, counts: tuple[int, int]) -> str:
    over = f"{counts[1]} patient keys" if counts[1] else f"{counts[0]} images, patients not verifiable"
    where = {"val": "validation", "test": "test"}.get(split, split) or "split not told"
    return f"{label} on {where}, {num_seeds} seed{'s' if num_seeds != 1 else ''}, {over}"


def _notes(baseline: Arm) -> tuple[str, ...]:
    sets = {frozenset(cell.rows.image_id.tolist()) for cell in baseline.cells}
    notes = []
    if len(sets) > 1:
        notes.append("each seed has validation images of its own; arms are paired within a seed")
    if "" in set(baseline.cells[0].rows.patient.tolist()):
        notes.append("patient independence: not verifiable; intervals are over images")
    return tuple(notes)
