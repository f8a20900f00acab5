"""A comparison as lines for a terminal: the verdict first, what it rests on, and what stands beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cxr_experiments.evidence.comparison import Comparison
from cxr_experiments.record.report.tables import (
    Table,
    checks_table,
    degrees_text,
    difference_text,
    interval,
    limits,
    noise_table,
    p_text,
    subgroups_table,
)


def terminal_lines(comparison: Comparison) -> list[str]:
    """Verdict, means, difference, noise, sensitivity table and subgroups."""
    lines = [one.sentence for one in comparison.differences]
    lines += ["", *(f"{name}: {comparison.label} {interval(estimate)}" for name, estimate in comparison.arms)]
    for one in comparison.differences:
        found = f"{one.arm} - {comparison.arms[0][0]}: {difference_text(one, comparison)}"
        if not math.isnan(one.p_value):
            own = limits(one.pointwise.low, one.pointwise.high) if comparison.family_size > 1 else ""
            found += f", p {p_text(one.adjusted_p_value)}{', alone ' * bool(own)}{own}"
            found += f", {degrees_text(one.degrees_of_freedom)} degrees of freedom"
        lines.append(found)
    for table in (noise_table(comparison), subgroups_table(comparison), checks_table(comparison)):
        if table.rows:
            lines += ["", *aligned(table)]
    return [*lines, *comparison.notes]


def aligned(table: Table) -> list[str]:
    """A table as lines: title with note, column names, rows, each column as wide as its widest cell."""
    rows: Sequence[tuple[str, ...]] = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [f"{table.title}: {table.note}", *body]
