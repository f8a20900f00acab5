"""Prediction files of any framework become cells: one CSV file per trained network, one row per image.

Required columns: image_id, label (0 or 1), and logit or probability.  Known besides: patient, split, seed, run_id,
dataset_digest, synthetic (true or false), threshold.  Other columns are left alone.  Nothing is unpickled or executed.
"""

from __future__ import annotations

import csv
import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxr_experiments.errors import ComparisonError, RunError
from cxr_experiments.evidence.comparison.arms import Arm, Cell, Rows
from cxr_experiments.evidence.evaluation.csv_rows import odd, parse_float, read_text
from cxr_experiments.evidence.metrics import sigmoid

WHOLE = ("seed", "run_id", "dataset_digest", "synthetic", "threshold")  # one value for a file


def read_arm(name: str, pattern: str, *, split: str | None = None) -> Arm:
    """The files that a pattern names, in the order of their names, as one arm.

    Seeds are read from a `seed` column; without one in every file, files are paired by their order.

    Args:
        name: of the arm.
        pattern: path with `*` and `?`.
        split: which rows to take where files hold several.

    Raises:
        ComparisonError: no file fits, or they hold several splits and none was named.
        RunError: a file is unreadable or odd; the text names file, line and what was expected.
    """
    paths = [Path(found) for found in sorted(glob.glob(pattern, recursive=True)) if Path(found).is_file()]
    if not paths:
        raise ComparisonError(f"{name}: no file fits {pattern!r} (looked from {Path.cwd()})")
    read = [read_cell_file(path, split=split) for path in paths]
    told = [cell.seed for cell in read]
    if all(seed >= 0 for seed in told):
        cells = sorted(read, key=lambda cell: cell.seed)
    else:
        cells = [_with_seed(cell, number) for number, cell in enumerate(read)]
    return Arm(name, tuple(cells), factor=name)


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
        raise odd(path, 1, f"the columns {', '.join(header)}", wanted)
    chosen = _of_split(path, header, lines, split)
    seen: dict[str, int] = {}
    for line, cells in chosen:
        image = cells[header.index("image_id")]
        if not image or seen.setdefault(image, line) != line:
            raise odd(path, line, f"image_id {image!r}", "each image once" if image else "a name")
    column = {name: [(line, cells[header.index(name)]) for line, cells in chosen] for name in header}
    whole = {name: _one_value(path, name, column.get(name, [])) for name in (*WHOLE, "split")}
    return Cell(
        run_id=whole["run_id"] or path.stem,
        seed=_seed(path, whole["seed"]),
        split=whole["split"],
        rows=_rows(path, column),
        dataset_digest=whole["dataset_digest"],
        synthetic=_truth(path, whole["synthetic"]),
        threshold=parse_float(whole["threshold"], "a threshold", path, 2) if whole["threshold"] else 0.5,
    )


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    text = read_text(path)
    if "\0" in text:
        raise odd(path, text[: text.find("\0")].count("\n") + 1, "a NUL character", "CSV text")
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
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
    if split is None and len(splits) > 1:
        raise ComparisonError(f"{path} holds rows of {', '.join(splits)}: say which with split=NAME")
    if split is not None and split not in splits:
        raise ComparisonError(f"{path} has no rows of split={split}; there are: {', '.join(splits)}")
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


def _floats(path: Path, column: Sequence[tuple[int, str]]) -> np.ndarray | None:
    """The column as numbers; None where it is absent or blank on every row."""
    if not any(cell for _, cell in column):
        return None
    return np.array([parse_float(cell, "a number", path, line) for line, cell in column])


def _seed(path: Path, text: str) -> int:
    if text and not text.isdecimal():
        raise RunError(f"{path}: seed {text!r}, expected a whole number")
    return int(text) if text else -1


def _truth(path: Path, text: str) -> bool | None:
    if text.lower() not in ("", "true", "false"):
        raise RunError(f"{path}: synthetic {text!r}, expected true or false")
    return None if not text else text.lower() == "true"


def _with_seed(cell: Cell, seed: int) -> Cell:
    values = {name: getattr(cell, name) for name in cell.__dataclass_fields__}
    return Cell(**{**values, "seed": seed})
