"""The ensembles of a study's arms as ensembles.csv and ensembles.md, beside a report that they leave as it is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from cxr_experiments.evidence.arm_ensembles import EnsembleScore
from cxr_experiments.evidence.comparison import Comparison, Estimate
from cxr_experiments.record.report.facts import StudyFacts
from cxr_experiments.record.report.tables import Table, interval
from cxr_experiments.record.report.writing import markdown_table, marks_of, write_whole

SHOWN = {
    "auroc": "AUROC",
    "log_loss": "log loss",
    **{f"{name}_at_frozen": f"{name}, frozen threshold" for name in ("accuracy", "sensitivity", "specificity")},
    **{f"{name}_at_half": f"{name}, threshold .5" for name in ("accuracy", "sensitivity", "specificity")},
}


def write_ensembles(
    folder: Path, facts: StudyFacts, comparison: Comparison, scores: Sequence[EnsembleScore], origin: str
) -> Path:
    """Write both files, each under a temporary name first.

    Args:
        folder: of the report.
        facts: the study around the comparison.
        comparison: of the arms' means over seeds; it marks what is synthetic.
        scores: of the ensembles, the baseline's first.
        origin: where the ensembles' thresholds come from, in words.

    Returns:
        The path of ensembles.md.
    """
    table, mark = ensembles_table(facts, scores, origin), marks_of(facts, comparison)
    lines = [f"# {table.title}{mark}", "", "```", *facts.commands, "```", "", table.note, "", *markdown_table(table)]
    write_whole(folder / "ensembles.csv", csv_of(scores, synthetic=comparison.synthetic))
    write_whole(folder / "ensembles.md", "\n".join(lines) + "\n")
    return folder / "ensembles.md"


def ensembles_table(facts: StudyFacts, scores: Sequence[EnsembleScore], origin: str) -> Table:
    """The headline measures of every arm's ensemble, beside the mean of its members."""
    first = scores[0]
    patients = f"{first.num_patients:,} patient keys" if first.num_patients else "patients not verifiable"
    note = (
        f"The mean probability of an arm's {first.num_members} networks, judged as one network on {facts.stage} "
        f"({first.num_images:,} images, {patients}). Threshold: {origin}. Intervals of ensembles and of differences "
        "are pointwise, over random patients for these very networks; the mean's is over random seeds too. "
        "Nothing is decided on them."
    )
    rows = tuple(
        (
            one.arm,
            SHOWN[one.measure],
            interval(one.ensemble),
            interval(one.members),
            interval(one.gain),
            "-" if math.isnan(one.difference.value) else interval(one.difference),
        )
        for one in scores
        if one.measure in SHOWN
    )
    columns = ("arm", "measure", "ensemble", "mean of its networks", "ensemble less mean", "less baseline's ensemble")
    return Table("Ensembles of the seeds", note, columns, rows)


def csv_of(scores: Sequence[EnsembleScore], *, synthetic: bool) -> str:
    """One row per arm and measure at full precision; what is not defined is empty."""
    stream = io.StringIO()
    rows = [{**_flat(one), "synthetic": synthetic} for one in scores]
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _flat(one: EnsembleScore) -> dict[str, object]:
    row: dict[str, object] = {}
    for name in (field.name for field in fields(one)):
        value = getattr(one, name)
        row |= (
            {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            if isinstance(value, Estimate)
            else {name: value}
        )
    return {name: "" if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
