"""A data report as lines for a terminal: how many findings, each with what to do, then the tables."""

from __future__ import annotations

from cxr_experiments.record.data_report.finding import DataReport, Finding
from cxr_experiments.record.report.tables import counted
from cxr_experiments.record.report.terminal import aligned

NUM_NAMED = 5  # files or groups spelt out under a finding; report.json has them all


def terminal_lines(report: DataReport) -> list[str]:
    """Header, findings by level, tables."""
    lines = [
        f"{report.source}: {counted(report.num_images, 'image')}, digest {report.digest[:12]}, looked at "
        f"{report.made} in {report.duration_s:g} s (data.resize={report.resize})",
        f"{report.told}, {counted(report.count('info'), 'note')}",
    ]
    for finding in report.findings:
        lines += ["", *_finding_lines(finding)]
    for table in report.tables:
        lines += ["", *aligned(table)]
    return lines


def _printable(name: str) -> str:
    """A file's name may hold what colours or clears a terminal; it is shown as an escape."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in name)


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"{finding.level.upper()} {finding.code}: {finding.sentence}", f"    {finding.advice}"]
    lines += [f"    {_printable(line)}" for line in finding.listed(NUM_NAMED)]
    rest = len(finding.files) - NUM_NAMED
    return [*lines, f"    and {rest:,} more"] if rest > 0 else lines
