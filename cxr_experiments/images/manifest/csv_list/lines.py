"""The lines of a list as text: its header, the cells of the columns that the config names, and where each line stands.

Commas, or tabs in a file that ends in .tsv; UTF-8, with or without a byte order mark; cells in quotes may hold either.
Read line by line: a list of a million images is never whole in memory.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_experiments.config.compose import nearest
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import ConfigError, DataError

_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list: the cells that matter, as written but for blanks around them.

    Attributes:
        number: of the line in the file, from 1; the last one when a cell in quotes spans several.
        path: of the image, put together from one or more columns.
        label, patient, split: the cells; "" where no column is named.
    """

    number: int
    path: str
    label: str
    patient: str
    split: str


def read_lines(path: Path, data: DataConfig) -> Iterator[Line]:
    """Every line of a list that is not blank.

    Raises:
        ConfigError: a column that the list does not have, or a template that names none.
        DataError: not UTF-8, no header, a line of another length than the header, or an empty cell in a path.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    number = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            header = [name.strip() for name in next(rows, [])]
            columns = _columns(header, path, data)
            for row in rows:
                number = rows.line_num
                if row:
                    yield _line(number, _cells(row, header, number, path), columns, path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} near line {number + 1}); save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"{path} line {number + 1} cannot be read as a line of cells: {error}") from error


@dataclass(frozen=True)
class _Columns:
    """Where the cells stand: positions in a row; None where no column is named."""

    template: str
    in_path: Mapping[str, int]
    label: int
    patient: int | None
    split: int | None


def _columns(header: Sequence[str], path: Path, data: DataConfig) -> _Columns:
    if not any(header):
        raise DataError(f"{path} is empty; its first line must name the columns")
    template = data.csv_path if "{" in data.csv_path or "}" in data.csv_path else f"{{{data.csv_path}}}"
    names = _FIELD.findall(template)
    if not names or set("{}") & set(_FIELD.sub("", template)):
        raise ConfigError(
            f"data.csv_path={data.csv_path}: expected a column, or a template such as '{{Folder}}/{{Id}}.png'"
        )
    return _Columns(
        template=template,
        in_path={name: _position(name, "csv_path", header, path) for name in names},
        label=_position(data.csv_label, "csv_label", header, path),
        patient=_position(data.csv_patient, "csv_patient", header, path) if data.csv_patient else None,
        split=_position(data.csv_split, "csv_split", header, path) if data.csv_split else None,
    )


def _position(name: str, option: str, header: Sequence[str], path: Path) -> int:
    places = [place for place, column in enumerate(header) if column == name.strip()]
    if len(places) == 1:
        return places[0]
    if places:
        raise DataError(
            f"{path} has {len(places)} columns called {name!r}; data.{option} cannot tell which one is meant"
        )
    joined = len([column for column in header if column]) == 1 and next((c for c in ";\t|" if c in header[0]), None)
    if joined:
        told = "tabs; give the file the suffix .tsv" if joined == "\t" else f"{joined!r}; save it with commas"
        raise DataError(f"{path} has one column only, {header[0][:60]!r}: its cells seem to be divided by {told}")
    listed = ", ".join(column for column in header[:40] if column)
    hint = nearest(name, [column for column in header if column]).partition(" (allowed")[0]
    raise ConfigError(f"data.{option}={name}: {path} has no such column{hint} (columns: {listed})")


def _cells(row: Sequence[str], header: Sequence[str], number: int, path: Path) -> Sequence[str]:
    """A row as long as the header; empty cells beyond it are commas at the line's end."""
    if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
        raise DataError(
            f"{path} line {number} has {len(row)} cells, the header {len(header)}: "
            f"does a cell hold a comma and stand without quotes?"
        )
    return row


def _line(number: int, row: Sequence[str], columns: _Columns, path: Path) -> Line:
    told = {name: row[place].strip() for name, place in columns.in_path.items()}
    for name, cell in told.items():
        if not cell:
            raise DataError(f"{path} line {number}: column {name!r}, part of the path, is empty")
    return Line(
        number=number,
        path=_FIELD.sub(lambda field: told[field[1]], columns.template),
        label=row[columns.label].strip(),
        patient="" if columns.patient is None else row[columns.patient].strip(),
        split="" if columns.split is None else row[columns.split].strip(),
    )
