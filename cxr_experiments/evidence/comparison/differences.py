"""Arms -> verdicts: the deciding interval of every option against the baseline, over random seeds and random patients.

The interval is Obuchowski and Rockette's with Hillis' degrees of freedom; several options share one family, whose level
is kept by the joint distribution of its differences.  What stands beside a verdict (`checks`, `subgroups`) never
changes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cxr_experiments.config.compose import nearest
from cxr_experiments.errors import ComparisonError
from cxr_experiments.evidence.comparison.arms import Arm, check_comparable
from cxr_experiments.evidence.comparison.checks import Check, Overlap, checks_of
from cxr_experiments.evidence.comparison.family import ROUNDING, Pair, family_of
from cxr_experiments.evidence.comparison.measures import MEASURES, Measured, measure_arm, patient_numbers
from cxr_experiments.evidence.comparison.subgroups import Subgroup, subgroups_of
from cxr_experiments.evidence.comparison.verdicts import sentence, verdict
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.evidence.stats import LEVEL, Contrast, random_reader_mean


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
    of the two arms on the same patients.  `num_seeds` counts repetitions, which `repetitions` tells as seeds and folds.
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
    repetitions: str
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
    measured = [measure_arm(arm, metric, numbers) for arm in arms]
    pairs = family_of(measured[0], list(zip(options, measured[1:], strict=True)), metric)
    differences = [_difference(baseline, pair, metric, margin) for pair in pairs]
    if thorough:
        paired = zip(differences, options, strict=True)
        differences = [_beside(one, baseline, arm, metric, overlap) for one, arm in paired]
    cells = [cell for arm in arms for cell in arm.cells]
    return Comparison(
        metric=metric,
        label=MEASURES[metric].label,
        higher_is_better=MEASURES[metric].higher_is_better,
        margin=margin,
        split=next((cell.split for cell in cells if cell.split), ""),
        level=LEVEL,
        family_size=len(options),
        differences=tuple(differences),
        arms=tuple((arm.name, _mean(found, metric)) for arm, found in zip(arms, measured, strict=True)),
        synthetic=any(cell.synthetic for cell in cells),
        dataset_digest=next((cell.dataset_digest for cell in cells if cell.dataset_digest), ""),
        notes=_notes(baseline, pairs),
    )


def _difference(baseline: Arm, pair: Pair, metric: str, margin: float) -> Difference:
    contrast, per_seed, measure = pair.contrast, pair.per_seed, MEASURES[metric]
    value, half, own = float(per_seed.mean()), pair.half_width, pair.own_half_width
    sign = 1.0 if measure.higher_is_better else -1.0
    word = verdict(sign * value - half, sign * value + half, margin)
    num_images, num_patients = _counts(baseline)
    basis = _basis(measure.label, baseline, num_images, num_patients)
    basis = f"{pair.why_not}; {basis}" if pair.why_not else basis
    training, patients = _parts(contrast, len(per_seed))
    return Difference(
        arm=pair.option.name,
        factor=pair.option.factor,
        baseline=_mean(pair.base, metric),
        option=_mean(pair.measured, metric),
        difference=Estimate(value, value - half, value + half),
        pointwise=Estimate(value, value - own, value + own),
        standard_error=contrast.standard_error,
        degrees_of_freedom=contrast.degrees_of_freedom,
        p_value=contrast.p_value,
        adjusted_p_value=pair.adjusted_p,
        verdict=word,
        sentence=sentence(pair.option.name, word, (value, value - half, value + half), margin, basis),
        num_seeds=len(per_seed),
        repetitions=baseline.repetitions,
        num_images=num_images,
        num_patients=num_patients,
        training_error=training,
        patient_error=patients,
        seed_sd=math.sqrt(contrast.seed_variance + contrast.arm_seed_variance),
        correlation=contrast.cov1 / contrast.error_variance if contrast.error_variance > 0 else math.nan,
        per_seed=tuple(float(one) for one in per_seed),
        checks=(),
        subgroups=(),
        run_ids_baseline=tuple(cell.run_id for cell in baseline.cells),
        run_ids_option=tuple(cell.run_id for cell in pair.option.cells),
    )


def _parts(contrast: Contrast, num_seeds: int) -> tuple[float, float]:
    """Standard errors of the difference that are due to training and to patients; their squares sum to the whole."""
    if math.isnan(contrast.standard_error):
        return math.nan, math.nan
    patients = contrast.error_variance - contrast.cov1 + (num_seeds - 1) * (contrast.cov2 - contrast.cov3)
    patients = min(max(0.0, 2 * patients / num_seeds), contrast.standard_error**2)
    return math.sqrt(contrast.standard_error**2 - patients), math.sqrt(patients)


def _beside(one: Difference, baseline: Arm, option: Arm, metric: str, overlap: Overlap | None) -> Difference:
    checks = checks_of(baseline, option, metric, one.per_seed, overlap)
    return replace(one, checks=checks, subgroups=subgroups_of(baseline, option, metric))


def arm_mean(arm: Arm, metric: str) -> Estimate:
    """One arm's mean over its seeds, with its interval over random seeds and random patients (none with one seed)."""
    return _mean(measure_arm(arm, metric, patient_numbers(arm.cells)), metric)


def _mean(measured: Measured, metric: str) -> Estimate:
    """An arm's mean over seeds; on the logit scale where the measure ends at 0 and 1, as no share lies beyond."""
    if len(measured.values) < 2 or not measured.defined:
        return Estimate(float(measured.values.mean()))
    found = random_reader_mean(measured.values, measured.deviations)
    value, half = found.value, found.high - found.value
    if not MEASURES[metric].is_share or not 0 < value < 1:
        return Estimate(value, found.low, found.high)
    logit, reach = math.log(value / (1 - value)), half / (value * (1 - value))
    low, high = sigmoid([logit - reach, logit + reach])
    return Estimate(value, float(low), float(high))


def _counts(baseline: Arm) -> tuple[int, int]:
    """Distinct images and known patients over all seeds; 0 patients where they are not known."""
    images = {image for cell in baseline.cells for image in cell.rows.image_id.tolist()}
    patients = {patient for cell in baseline.cells for patient in cell.rows.patient.tolist()}
    return len(images), 0 if "" in patients else len(patients)


def _basis(label: str, baseline: Arm, num_images: int, num_patients: int) -> str:
    over = f"{num_patients} patient keys" if num_patients else f"{num_images} images, patients not verifiable"
    split = baseline.cells[0].split
    where = {"val": "validation", "test": "test"}.get(split, split) or "split not told"
    return f"{label} on {where}, {baseline.repetitions}, {over}"


def _notes(baseline: Arm, pairs: Sequence[Pair]) -> tuple[str, ...]:
    sets = {frozenset(cell.rows.image_id.tolist()) for cell in baseline.cells}
    notes = []
    if len(sets) > 1:
        notes.append("each seed is judged on images of its own; arms are paired within a seed")
    if any("" in cell.rows.patient.tolist() for cell in baseline.cells):
        notes.append("patient independence: not verifiable; intervals are over images")
    if still := [pair.option.name for pair in pairs if pair.contrast.standard_error < ROUNDING]:
        told = "no seed and no patient moves the difference, so that its interval has no width; it is not that certain"
        notes.append(f"{', '.join(still)}: {told}")
    return tuple(notes)
