"""A report's tables as plain rows of text, the same for HTML, Markdown and LaTeX; NaN is shown as a dash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, median

from cxr_experiments.evidence.comparison import Comparison, Difference, Estimate
from cxr_experiments.evidence.comparison.verdicts import digits_of, number, places
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
        rows.append((*own, *(_difference_cells(one, comparison) if one else ("-", "-", "-", "-", "baseline"))))
    level = "95 %" if comparison.family_size == 1 else f"95 % for all {comparison.family_size} comparisons at once"
    note = (
        f"{comparison.label} on {facts.stage}, mean over {_judged(first)}; margin {comparison.margin:g}. Deciding "
        f"interval of the difference: {level}, seeds and patients random; p is that of the comparison alone. Run ids "
        f"stand under Runs."
    )
    columns = ("arm", "seeds", comparison.label, "difference", "p", "p adjusted", "df", "verdict")
    return Table(f"{comparison.label} by arm", note, columns, tuple(rows))


def costs_table(comparison: Comparison, facts: StudyFacts) -> Table:
    """What each arm took, beside its effect."""
    effects = {one.arm: difference_text(one, comparison) for one in comparison.differences}
    rows = tuple((arm.name, effects.get(arm.name, "-"), *_cost_cells(arm)) for arm in facts.arms)
    columns = (
        *("arm", f"difference in {comparison.label}", "parameters", "minutes per run"),
        *("training ms per image", "epochs run", "best epoch"),
    )
    note = (
        f"Medians over {counted(len(facts.arms[0].run_ids), 'run')} of an arm, epochs run their mean, counted from 1. "
        f"The difference has its deciding interval."
    )
    return Table("Effect beside cost", note, columns, rows)


def changes_table(facts: StudyFacts) -> Table:
    """What each arm changes, whether its settings were tuned, and whether its runs ended at the epoch limit."""
    rows = tuple(
        (
            arm.name,
            "; ".join(f"{key}: {before} -> {after}" for key, (before, after) in arm.differing.items()) or "-",
            arm.tuned,
            f"WARNING: {arm.warning}" if arm.warning else "-",
        )
        for arm in facts.arms
    )
    note = "Keys that differ from the baseline's. A run that ended at its epoch limit may not have converged."
    return Table("What each arm changes", note, ("arm", "changes", "settings", "epoch limit"), rows)


def runs_table(comparison: Comparison, facts: StudyFacts) -> Table:
    """Which runs every number above comes from."""
    ids = {one.arm: one.run_ids_option for one in comparison.differences}
    ids[comparison.arms[0][0]] = comparison.differences[0].run_ids_baseline
    rows = tuple((name, str(len(ids[name])), " ".join(ids[name])) for name, _ in comparison.arms)
    note = (
        f"In the order of the repetitions (seeds {', '.join(map(str, facts.seeds))}); results/{facts.name}/ has each."
    )
    return Table("Runs", note, ("arm", "runs", "run ids"), rows)


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
        if not math.isnan(one.standard_error)  # one seed tells nothing of noise
    )
    first = comparison.differences[0]
    note = (
        f"{_judged(first)}. Standard error of the difference, and its two parts: more seeds shrink the first, more "
        "patients the second. Seed sd: how far one training lies from another beyond patients. "
        "Correlation: of the two arms, same patients."
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
            number(part.baseline, places(part.low, part.high)),
            number(part.option, places(part.low, part.high)),
            interval(Estimate(part.difference, part.low, part.high)),
        )
        for one in comparison.differences
        for part in one.subgroups
    )
    note = "Each part against all images of the other class; pointwise 95 % intervals, nothing is decided on them."
    columns = ("arm", "part", "images / patient keys", "baseline", "option", "difference")
    return Table("Subgroups", note, columns, rows)


def interval(estimate: Estimate, digits: int | None = None) -> str:
    """`.956 [.939, .970]`, in as many places as its width needs; the value alone says so."""
    digits = places(estimate.low, estimate.high) if digits is None else digits
    told = limits(estimate.low, estimate.high, digits)
    return f"{number(estimate.value, digits)} {told if told != '-' else '(no interval)'}"


def difference_text(one: Difference, comparison: Comparison) -> str:
    """The difference and its deciding interval, in as many places as its verdict needs."""
    return interval(one.difference, digits_of(one.difference.low, one.difference.high, comparison.margin))


def limits(low: float, high: float, digits: int | None = None) -> str:
    """`[.939, .970]`, or a dash where there is no interval."""
    digits = places(low, high) if digits is None else digits
    return "-" if math.isnan(low) or math.isnan(high) else f"[{number(low, digits)}, {number(high, digits)}]"


def p_text(value: float) -> str:
    """A p-value to three places."""
    return "-" if math.isnan(value) else "< .001" if value < 0.001 else number(value)


def degrees_text(value: float) -> str:
    """Degrees of freedom, whole; beyond ten thousand they are as good as infinite."""
    return "-" if math.isnan(value) else f"{value:.0f}" if value < 10_000 else "> 9999"


def _difference_cells(one: Difference, comparison: Comparison) -> tuple[str, ...]:
    p_values = (p_text(one.p_value), p_text(one.adjusted_p_value))
    return (difference_text(one, comparison), *p_values, degrees_text(one.degrees_of_freedom), one.verdict)


def _cost_cells(arm: ArmFacts) -> tuple[str, ...]:
    costs = arm.costs
    return (
        f"{costs[0].num_parameters:,}",
        f"{median(one.duration_s for one in costs) / 60:.1f}",
        f"{1000 / median(one.images_per_s for one in costs):.1f}",
        f"{mean(one.epochs_run for one in costs):.3g} of {costs[0].epoch_limit}",
        f"{median(one.best_epoch + 1 for one in costs):g}",
    )


def counted(count: int, what: str) -> str:
    """`1 seed`, `8 seeds`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def _judged(one: Difference) -> str:
    patients = f"{one.num_patients:,} patient keys" if one.num_patients else "patients not verifiable"
    return f"{one.repetitions}, {counted(one.num_images, 'image')}, {patients}"
