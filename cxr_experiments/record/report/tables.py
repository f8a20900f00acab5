"""A report's tables as plain rows of text, the same for HTML, Markdown and LaTeX; NaN is shown as a dash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, median

from cxr_experiments.evidence.comparison import Comparison, Difference, Estimate
from cxr_experiments.evidence.comparison.verdicts import number
from cxr_experiments.record.report.facts import ArmFacts, StudyFacts


@dataclass(frozen=True)
class Table:
    """A heading, a line on how to read it, column names and rows."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def results_table(comparison: Comparison, facts: StudyFacts) -> Table:
    """Each arm's mean, and its difference from the baseline with the deciding interval."""
    first = comparison.differences[0]
    by_arm = {one.arm: one for one in comparison.differences}
    rows = []
    for name, estimate in comparison.arms:
        one = by_arm.get(name)
        own = (name, str(first.num_seeds), interval(estimate))
        rows.append((*own, *(_difference_cells(one) if one else ("-", "-", "-", "-", "baseline"))))
    level = "95 %" if comparison.family_size == 1 else f"95 % for all {comparison.family_size} comparisons at once"
    note = (
        f"{comparison.label} on {facts.stage}, mean over {first.num_seeds} seeds; {first.num_images:,} images, "
        f"{_patients(first.num_patients)}; margin {comparison.margin:g}. Deciding interval: {level}, seeds and "
        f"patients random. Run ids stand in the table of costs."
    )
    columns = ("arm", "seeds", comparison.label, "difference", "p", "p adjusted", "df", "verdict")
    return Table(f"{comparison.label} by arm", note, columns, tuple(rows))


def costs_table(facts: StudyFacts) -> Table:
    """What each arm took, beside its effect."""
    rows = tuple(_cost_cells(arm) for arm in facts.arms)
    columns = (
        "arm",
        "changes",
        "parameters",
        "minutes per run",
        "training ms/image",
        "epochs",
        "best epoch",
        "settings",
        "runs",
    )
    return Table("What each arm costs", "Medians over seeds; epochs counted from 1.", columns, rows)


def noise_table(comparison: Comparison) -> Table:
    """Training noise and patient noise apart."""
    rows = tuple(
        (
            one.arm,
            number(one.standard_error, 4),
            number(one.training_error, 4),
            number(one.patient_error, 4),
            number(one.seed_sd, 4),
            number(one.correlation, 2),
        )
        for one in comparison.differences
    )
    note = (
        "Standard error of the difference, and its two parts: more seeds shrink the first, more patients the second. "
        "Seed sd: how far one training lies from another beyond patients. Correlation: of the two arms, same patients."
    )
    columns = ("arm", "standard error", "from training", "from patients", "seed sd", "correlation")
    return Table("Where the uncertainty comes from", note, columns, rows)


def checks_table(comparison: Comparison) -> Table:
    """The sensitivity table of every option."""
    rows = tuple(
        (
            one.arm,
            check.name,
            number(check.estimate, 4),
            limits(check.low, check.high),
            p_text(check.p_value),
            check.note,
        )
        for one in comparison.differences
        for check in one.checks
    )
    note = "Other tests of the same difference, not adjusted for several comparisons. They never change a verdict."
    return Table("Sensitivity analyses", note, ("arm", "test", "difference", "95 % interval", "p", "note"), rows)


def subgroups_table(comparison: Comparison) -> Table:
    """Parts of one class against all images of the other."""
    rows = tuple(
        (
            one.arm,
            part.name,
            f"{part.num_images:,} / {part.num_patients:,}",
            number(part.baseline),
            number(part.option),
            f"{number(part.difference)} {limits(part.low, part.high)}",
        )
        for one in comparison.differences
        for part in one.subgroups
    )
    note = "Each part against all images of the other class; pointwise 95 % intervals, nothing is decided on them."
    columns = ("arm", "part", "images / patient keys", "baseline", "option", "difference")
    return Table("Subgroups", note, columns, rows)


def interval(estimate: Estimate) -> str:
    """`.956 [.939, .970]`."""
    return f"{number(estimate.value)} {limits(estimate.low, estimate.high)}".strip()


def limits(low: float, high: float) -> str:
    """`[.939, .970]`, or nothing where there is no interval."""
    return "-" if math.isnan(low) or math.isnan(high) else f"[{number(low)}, {number(high)}]"


def p_text(value: float) -> str:
    """A p-value to three places."""
    return "-" if math.isnan(value) else "< .001" if value < 0.001 else number(value)


def _difference_cells(one: Difference) -> tuple[str, ...]:
    degrees = "-" if math.isnan(one.degrees_of_freedom) else f"{min(one.degrees_of_freedom, 9999):.0f}"
    return (interval(one.difference), p_text(one.p_value), p_text(one.adjusted_p_value), degrees, one.verdict)


def _cost_cells(arm: ArmFacts) -> tuple[str, ...]:
    costs = arm.costs
    changes = "; ".join(f"{key}: {before} -> {after}" for key, (before, after) in arm.differing.items()) or "-"
    return (
        arm.name,
        changes,
        f"{costs[0].num_parameters:,}",
        f"{median(one.duration_s for one in costs) / 60:.1f}",
        f"{1000 / median(one.images_per_s for one in costs):.1f}",
        f"{mean(one.epochs_run for one in costs):.3g} of {costs[0].epoch_limit}",
        f"{median(one.best_epoch + 1 for one in costs):g}",
        arm.tuned + (f". WARNING: {arm.warning}" if arm.warning else ""),
        " ".join(arm.run_ids),
    )


def _patients(count: int) -> str:
    return f"{count:,} patient keys" if count else "patients not verifiable"
