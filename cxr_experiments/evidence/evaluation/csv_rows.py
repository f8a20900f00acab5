"""Strict CSV on disk: rows of text in, rows of text with their line numbers out.

The reader accepts what the writer writes and refuses the rest with file, line and what was expected.  What the cells
mean is for the caller to say.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cxr_experiments.errors import RunError, one_line

_DECIMAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """The rows, header included, as CSV text: cells quoted where they must be, lines ended by a line feed."""

    # csv.writer leaves a lone carriage return bare, which no reader takes back: quoted here by hand
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell

    return "".join(",".join(quoted(cell) for cell in row) + "\n" for row in rows)


def write_text(path: Path, text: str) -> None:
    """Write the text under a temporary name in the same folder, then rename it: no reader ever sees half a file."""
    partial_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial_path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        RunError: the file is missing or cannot be read.
    """
    try:
        # a file name that is not UTF-8 reaches us as surrogates and must come back as the same
        return path.read_bytes().decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; expected a CSV file that a run wrote") from error


def records(text: str, columns: Sequence[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row under a header that must be exactly `columns`.

    Raises:
        RunError: anything that is not whole CSV of so many columns.
    """
    if "\0" in text or not text.endswith("\n"):
        line = text[: text.find("\0")].count("\n") + 1 if "\0" in text else text.count("\n") + 1
        raise odd(path, line, "a NUL character or a last line cut short", "lines of text, each ended")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, cells in enumerate(reader):
            if number == 0 and cells != list(columns):
                raise odd(path, 1, f"the header {','.join(cells)!r}", f"{','.join(columns)!r}")
            if len(cells) != len(columns):
                raise odd(path, reader.line_num, f"{len(cells)} cells", f"{len(columns)} ({', '.join(columns)})")
            if number > 0:
                yield reader.line_num, cells
    except csv.Error as error:
        raise odd(path, reader.line_num, f"not CSV ({error})", "comma-separated cells") from error


def parse_float(cell: str, expected: str, path: Path, line: int, *, may_be_nan: bool = False) -> float:
    """The finite number that a cell holds, as `repr` writes it.

    Raises:
        RunError: it holds anything else; the text says that `expected` was wanted.
    """
    if may_be_nan and cell == "nan":
        return np.nan
    if not _DECIMAL.fullmatch(cell) or not np.isfinite(float(cell)):
        raise odd(path, line, repr(cell), expected)
    return float(cell)


def odd(path: Path, line: int, found: str, expected: str) -> RunError:
    """The error for one odd line: file, line, what was found, what was expected."""
    return RunError(f"{path}, line {line}: found {one_line(found)}; expected {one_line(expected)}")
