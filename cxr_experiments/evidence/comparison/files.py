"""Prediction files of any framework become cells: one CSV file per trained network, one row per image.

Required columns: image_id, label (0 or 1), and logit or probability.  Known besides: patient, split, seed, run_id,
dataset_digest, synthetic (true or false), threshold.  Other columns are left alone.  Nothing is unpickled or executed.
"""

from __future__ import annotations

import csv
import glob
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxr_experiments.errors import ComparisonError, one_line
from cxr_experiments.evidence.comparison.arms import Arm, Cell, Rows
from cxr_experiments.evidence.evaluation.csv_rows import odd, read_text
from cxr_experiments.evidence.metrics import Floats, sigmoid

WHOLE = ("seed", "run_id", "dataset_digest", "synthetic", "threshold")  # one value for a file
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)  # as any framework writes it


def read_arm(name: str, pattern: str, *, split: str | None = None) -> Arm:
    """The files that a pattern names, in the order of their names (run_2 before run_10), as one arm.

    Seeds are read from a `seed` column; where no file has one, files are paired by their order.

    Args:
        name: of the arm.
        pattern: path with `*` and `?`.
        split: which rows to take where files hold several.

    Raises:
        ComparisonError: no file fits, they hold several splits and none was named, or only some tell a seed.
        RunError: a file is unreadable or odd; the text names file, line and what was expected.
    """
    found = sorted(glob.glob(pattern, recursive=True), key=_by_number)
    paths = [Path(path) for path in found if Path(path).is_file()]
    if not paths:
        advice = f"; {pattern!r} is a folder: give its files, as '{pattern}/*.csv'" if Path(pattern).is_dir() else ""
        raise ComparisonError(f"{name}: no file fits {pattern!r} (looked from {Path.cwd()}){advice}")
    cells = [read_cell_file(path, split=split) for path in paths]
    without = [path for path, cell in zip(paths, cells, strict=True) if cell.seed < 0]
    if without and len(without) < len(paths):
        raise ComparisonError(
            f"{name}: {without[0]} tells no seed and others do: a seed column in every file, or in none"
        )
    if without:
        cells = [replace(cell, seed=number) for number, cell in enumerate(cells)]
    return Arm(name, tuple(sorted(cells, key=lambda cell: cell.seed)), factor=name)


def read_cell_file(path: Path, *, split: str | None = None) -> Cell:
    """One file as a cell; its seed is -1 where no column tells it.

    Raises:
        RunError: as in `read_arm`.
        ComparisonError: it holds several splits and none, or an absent one, was named.
    """
    header, lines = _table(path)
    missing = [name for name in ("image_id", "label") if name not in header]
    if missing or not {"logit", "probability"} & set(header):
        wanted = "image_id, label, and logit or probability"
        raise odd(path, 1, f"the columns {', '.join(header)!r}", wanted)
    chosen = _of_split(path, header, lines, split)
    seen: dict[str, int] = {}
    for line, cells in chosen:
        image = cells[header.index("image_id")]
        if not image or seen.setdefault(image, line) != line:
            raise odd(path, line, f"image_id {image!r}", "each image once" if image else "a name")
    column = {name: [(line, cells[header.index(name)]) for line, cells in chosen] for name in header}
    whole = {name: _one_value(path, name, column.get(name, [])) for name in (*WHOLE, "split")}
    return Cell(
        run_id=whole["run_id"] or "/".join(path.with_suffix("").parts[-2:]),  # two folders may hold one name
        seed=_seed(path, whole["seed"]),
        split=whole["split"],
        rows=_rows(path, column),
        dataset_digest=whole["dataset_digest"],
        synthetic=_truth(path, whole["synthetic"]),
        threshold=_threshold(path, whole["threshold"]),
    )


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    text = read_text(path)
    if "\0" in text:
        raise odd(path, text[: text.find("\0")].count("\n") + 1, "a NUL character", "CSV text")
    if text and not text.endswith(("\n", "\r")):  # a number cut short is a number all the same
        raise odd(path, text.count("\n") + 1, "a last line that is not ended", "a line feed; is the file cut short?")
    # lines end at line feeds and carriage returns alone; an id may hold any other mark
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise odd(path, reader.line_num, str(error), "CSV text") from error
    if len(lines) < 2:
        raise odd(path, 1, "no rows", "a header and one row for each image")
    header = [name.strip() for name in lines[0][1]]
    if len(set(header)) != len(header):
        raise odd(path, 1, "a column twice", "each column once")
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise odd(path, line, f"{len(cells)} cells", f"{len(header)}, as in the header; is the file cut short?")
    return header, lines[1:]


def _of_split(
    path: Path, header: list[str], lines: list[tuple[int, list[str]]], split: str | None
) -> list[tuple[int, list[str]]]:
    if "split" not in header:
        return lines
    place = header.index("split")
    splits = sorted({cells[place] for _, cells in lines})
    told = one_line(", ".join(map(repr, splits[:4])) + (", ..." if len(splits) > 4 else ""))
    if split is None and len(splits) > 1:
        raise ComparisonError(f"{path} holds rows of {told}: say which with split=NAME")
    if split is not None and split not in splits:
        raise ComparisonError(f"{path} has no rows of split={split}; there are: {told}")
    return [(line, cells) for line, cells in lines if split in (None, cells[place])]


def _one_value(path: Path, name: str, column: Sequence[tuple[int, str]]) -> str:
    values = {value: line for line, value in reversed(column)}
    if len(values) > 1:
        line, value = next((line, value) for line, value in column if value != column[0][1])
        raise odd(path, line, f"{name} {value!r}", f"{column[0][1]!r} as on the first row: a file is one network")
    return next(iter(values), "")


def _rows(path: Path, column: dict[str, list[tuple[int, str]]]) -> Rows:
    for line, label in column["label"]:
        if label not in ("0", "1"):
            raise odd(path, line, f"label {label!r}", "0 or 1")
    labels = np.array([int(label) for _, label in column["label"]], dtype=np.int8)
    logit = _floats(path, column.get("logit", []))
    given = _floats(path, column.get("probability", []))
    if given is not None and ((given < 0) | (given > 1)).any():
        row = int(np.flatnonzero((given < 0) | (given > 1))[0])
        raise odd(path, column["probability"][row][0], f"probability {given[row]:g}", "a number in [0, 1]")
    if given is None and logit is None:
        raise odd(path, 2, "no logit and no probability", "one of them on every row")
    count = len(labels)
    blank = [(0, "")] * count
    return Rows(
        image_id=np.array([image for _, image in column["image_id"]], dtype=str),
        patient=np.array([patient for _, patient in column.get("patient", blank)], dtype=str),
        label=labels,
        logit=np.full(count, np.nan) if logit is None else logit,
        probability=given if given is not None else np.asarray(sigmoid(logit if logit is not None else [])),
    )


def _floats(path: Path, column: Sequence[tuple[int, str]]) -> Floats | None:
    """The column as numbers; None where it is absent or blank on every row."""
    if not any(cell for _, cell in column):
        return None
    return np.array([_number(path, line, cell, "a finite number") for line, cell in column])


def _number(path: Path, line: int, cell: str, expected: str) -> float:
    if not _NUMBER.fullmatch(cell) or not np.isfinite(float(cell)):
        raise odd(path, line, repr(cell), expected)
    return float(cell)


def _threshold(path: Path, text: str) -> float:
    value = _number(path, 2, text, "a threshold in [0, 1]") if text else 0.5
    if not 0 <= value <= 1:
        raise odd(path, 2, f"threshold {text}", "a probability in [0, 1]")
    return value


def _seed(path: Path, text: str) -> int:
    if text and not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise odd(path, 2, f"seed {text[:40]!r}", "a whole number")
    return int(text) if text else -1


def _truth(path: Path, text: str) -> bool | None:
    if text.lower() not in ("", "true", "false"):
        raise odd(path, 2, f"synthetic {text!r}", "true or false")
    return None if not text else text.lower() == "true"


def _by_number(path: str) -> list[tuple[bool, int, str]]:
    """Sorts digits by their value; the mark keeps numbers and words apart."""
    parts = re.split(r"(\d+)", path, flags=re.ASCII)
    return [(part.isdecimal(), int(part[:18]) if part.isdecimal() else 0, part) for part in parts if part]
