"""A score as a value, as a row of a CSV file and as a line of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from cxr_experiments.evidence.evaluation.csv_rows import csv_text, odd, parse_float, read_text, records, write_text


@dataclass(frozen=True)
class Score:
    """One number with its 95 % interval and n.

    `name` is `{split}_{metric}`, then `_at_half`, `_at_frozen` or `_at_redrawn` where a threshold enters; value, low
    and high are NaN where undefined; `num_patients` is 0 when patients are not verifiable: the interval is then over
    images.  `method` says how the interval was made; "" in a file from before methods were stated.
    """

    name: str
    value: float
    low: float
    high: float
    num_images: int
    num_patients: int
    note: str
    method: str = ""


COLUMNS = tuple(field.name for field in fields(Score))


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write scores as CSV, one row each, under a temporary name and rename it."""
    rows = [tuple(repr(cell) if isinstance(cell, float) else str(cell) for cell in astuple(one)) for one in scores]
    write_text(path, csv_text([COLUMNS, *rows]))


def read_scores(path: Path) -> tuple[Score, ...]:
    """Read what `write_scores` wrote, or what it wrote before scores had a method.

    Raises:
        RunError: missing, unreadable or odd; the text names the file, the line and what was expected.
    """
    text, found = read_text(path), []
    columns = COLUMNS[:-1] if text.startswith(",".join(COLUMNS[:-1]) + "\n") else COLUMNS
    for line, cells in records(text, columns, path):
        value, low, high = (parse_float(cell, "a number or nan", path, line, may_be_nan=True) for cell in cells[1:4])
        if not all(re.fullmatch("[0-9]{1,12}", cell) for cell in cells[4:6]):
            raise odd(path, line, f"counts {cells[4]!r} and {cells[5]!r}", "two whole numbers")
        found.append(Score(cells[0], value, low, high, int(cells[4]), int(cells[5]), *cells[6:]))
    return tuple(found)


def score_table(scores: Sequence[Score], *, synthetic: bool) -> list[str]:
    """The scores as aligned lines for a terminal, with intervals, n and notes, then the method of each interval.

    Every line begins with "SYNTHETIC " for phantoms; intervals over images are named so.
    """
    over_patients = all(one.num_patients for one in scores)
    rows = [("metric", "value", "95 % interval", "images", "patients", "")]
    for one in scores:
        interval = "not defined" if np.isnan(one.low) else f"[{one.low:.4f}, {one.high:.4f}]"
        value = "-" if np.isnan(one.value) else f"{one.value:.4f}"
        patients = str(one.num_patients) if one.num_patients else "-"
        rows.append((one.name, value, interval, str(one.num_images), patients, one.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]:>{widths[4]}}  {row[5]}".rstrip()
        for row in rows
    ]
    unit = "patients" if over_patients else "images (patients not verifiable)"
    lines += [*_methods(scores), f"95 % intervals over {unit}"]
    return [f"SYNTHETIC {line}" for line in lines] if synthetic else lines


def _methods(scores: Sequence[Score]) -> list[str]:
    """One line per method: which scores have their interval by it, without the split in front."""
    named: dict[str, list[str]] = {}
    for one in scores:
        if one.method:
            named.setdefault(one.method, []).append(one.name.partition("_")[2])
    return [f"intervals: {method}: {', '.join(names)}" for method, names in named.items()]
