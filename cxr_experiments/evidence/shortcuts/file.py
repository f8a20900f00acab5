"""The lines of the gate, and the swapped predictions, as CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from cxr_experiments.evidence.evaluation.csv_rows import csv_text, odd, parse_float, read_text, records, write_text
from cxr_experiments.evidence.shortcuts.association import Association
from cxr_experiments.evidence.shortcuts.swap import Swapped

COLUMNS = tuple(field.name for field in fields(Association))
SWAP_COLUMNS = tuple(field.name for field in fields(Swapped))


def associations_text(associations: Sequence[Association]) -> str:
    """One line each under a header; a level is empty where nothing is judged."""
    rows = [[_cell(getattr(one, name)) for name in COLUMNS] for one in associations]
    return csv_text([COLUMNS, *rows])


def write_associations(path: Path, associations: Sequence[Association]) -> None:
    """Write under a temporary name and rename."""
    write_text(path, associations_text(associations))


def read_associations(path: Path) -> tuple[Association, ...]:
    """Read what `write_associations` wrote.

    Raises:
        RunError: missing, unreadable or odd; the text names the file, the line and what was expected.
    """
    found = []
    for line, cells in records(read_text(path), COLUMNS, path):
        auroc, low, high = (parse_float(cell, "a number or nan", path, line, may_be_nan=True) for cell in cells[3:6])
        if not all(cell.isascii() and cell.isdigit() for cell in cells[6:8]):
            raise odd(path, line, f"counts {cells[6]!r} and {cells[7]!r}", "two whole numbers")
        level = parse_float(cells[8], "a level or nothing", path, line) if cells[8] else None
        counts = int(cells[6]), int(cells[7])
        found.append(Association(cells[0], cells[1], cells[2], auroc, low, high, *counts, level, cells[9]))
    return tuple(found)


def write_swapped(path: Path, swapped: Swapped) -> None:
    """Write who lent its border to whom, and what the model said, under a temporary name and rename."""
    columns = [getattr(swapped, name).tolist() for name in SWAP_COLUMNS]
    write_text(path, csv_text([SWAP_COLUMNS, *([_cell(cell) for cell in row] for row in zip(*columns, strict=True))]))


def read_swapped(path: Path) -> Swapped:
    """Read what `write_swapped` wrote.

    Raises:
        RunError: missing, unreadable or odd; the text names the file, the line and what was expected.
    """
    rows = list(records(read_text(path), SWAP_COLUMNS, path))
    names = [np.array([cells[column] for _, cells in rows], dtype=str) for column in range(3)]
    logits = [
        np.array([parse_float(cells[column], "a logit or nan", path, line, may_be_nan=True) for line, cells in rows])
        for column in (3, 4)
    ]
    return Swapped(names[0], names[1], names[2], logits[0], logits[1])


def _cell(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
