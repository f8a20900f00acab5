"""A study's cells on disk: what a finished run leaves under results/<study>/cells/, small enough to be committed.

<run_id>.csv holds one row per image (validation rows with their logits under every stress change, a sample of training
rows, and test rows once the study was confirmed), <run_id>.json identity, commit, config, costs and metrics.  The JSON
is written last: a cell is there when its JSON is.  A clone that has the cells needs neither images nor models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import RunError
from cxr_experiments.evidence.evaluation import (
    Predictions,
    Stressed,
    read_predictions,
    read_scores,
    read_stressed,
)
from cxr_experiments.evidence.evaluation.csv_rows import csv_text, odd, parse_float, read_text, records, write_text
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.images.stress import CHANGES
from cxr_experiments.record.results import Costs
from cxr_experiments.record.run_folder import RunFolder, read_json, read_json_lines, read_told, write_json

# Command and paths stay behind: they speak of one machine.
PROVENANCE = ("commit", "dirty", "python", "packages", "processor", "num_cores", "memory_gib")
CELL_COLUMNS = ("image_id", "patient", "split", "label", "logit", *CHANGES)

FACTS = {
    **{"run_id": str, "arm": str, "factor": str, "seed": int, "position": int, "changed": list, "synthetic": bool},
    **{"identity": dict, "provenance": dict, "costs": dict, "threshold": dict, "metrics": dict, "history": list},
}
PARTS = {
    "identity": ("config", "dataset_digest", "replicate", "seeds", "split_digest"),
    "provenance": PROVENANCE,
    "costs": tuple(field.name for field in fields(Costs)),
    "threshold": ("value",),
}


@dataclass(frozen=True)
class CellCard:
    """What the study calls a run: its arm, what it changes, and its place among the repetitions.

    `changed` names the config keys that may differ from the baseline of the same seed; `position` counts the
    repetitions (seeds, or seeds times folds) from 0; `stage` is the folder under results/<study>/ that keeps it.
    """

    study: str
    arm: str
    factor: str
    option: str
    seed: int
    fold: int
    position: int
    changed: tuple[str, ...]
    stage: str = "cells"


@dataclass(frozen=True, eq=False)
class StoredCell:
    """A cell as read back: the JSON's facts, and the predictions of each split that it has, by split."""

    run_id: str
    facts: Mapping[str, Any]
    predictions: Mapping[str, Predictions]
    stressed: Stressed | None


def keep_cell(folder: RunFolder, cells: Path, card: CellCard) -> Path:
    """Write a finished run's cell, and return its JSON; an older one of the same run is replaced.

    Raises:
        RunError: the run's files cannot be read.
    """
    cells.mkdir(parents=True, exist_ok=True)
    parts = [read_predictions(folder.predictions(split)) for split in ("val", "train")]
    if folder.predictions("test").is_file():
        parts.append(read_predictions(folder.predictions("test")))
    rows = [row for part in parts for row in _rows(part, read_stressed(folder.file("stress.csv")))]
    write_text(cells / f"{folder.run_id}.csv", csv_text([CELL_COLUMNS, *rows]))
    provenance = read_json(folder.file("provenance.json"))
    facts = {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in vars(card).items()},
        "run_id": folder.run_id,
        "experiment_name": folder.experiment_name,
        "identity": read_json(folder.file("identity.json")),
        "provenance": {name: provenance[name] for name in PROVENANCE},
        "costs": read_json(folder.file("costs.json")),
        "threshold": read_json(folder.file("threshold.json")),
        "metrics": {one.name: one.value for one in read_scores(folder.file("scores.csv")) if np.isfinite(one.value)},
        "history": list(read_json_lines(folder.file("metrics.jsonl"))),
        "synthetic": folder.experiment_name.startswith("phantom-"),
        "leaking": read_told(folder, "leakage.json"),
        "data_report": read_told(folder, "data_report.json"),
    }
    path = cells / f"{folder.run_id}.json"
    write_json(path, facts)
    return path


def read_cell(path: Path) -> StoredCell:
    """The cell whose JSON lies at `path`.

    Raises:
        RunError: JSON or CSV is missing or odd; the text names the file and the line.
    """
    facts = _facts(path)
    table = path.with_suffix(".csv")
    found: dict[str, list[list[str]]] = {}
    lines: dict[str, list[int]] = {}
    seen: set[tuple[str, str]] = set()
    for line, cells in records(read_text(table), CELL_COLUMNS, table):
        if cells[2] not in ("train", "val", "test") or cells[3] not in ("0", "1"):
            raise odd(table, line, f"split {cells[2]!r} and label {cells[3]!r}", "train, val or test, and 0 or 1")
        if not cells[0] or (cells[0], cells[2]) in seen:
            raise odd(table, line, f"image_id {cells[0]!r}", f"each {cells[2]} image once" if cells[0] else "a name")
        seen.add((cells[0], cells[2]))
        found.setdefault(cells[2], []).append(cells)
        lines.setdefault(cells[2], []).append(line)
    if "val" not in found:
        raise odd(table, 2, "no row of split val", "one for each validation image")
    names = (facts["run_id"], str(facts["identity"]["dataset_digest"]))
    read = {split: _predictions(rows, table, lines[split], names) for split, rows in found.items()}
    return StoredCell(facts["run_id"], facts, read, _stressed(found["val"], table, lines["val"]))


def cell_files(cells: Path) -> list[Path]:
    """The JSON files of the cells in a folder, by name; a half-written one (no JSON yet) is none."""
    return sorted(path for path in cells.glob("*.json") if not path.name.startswith("."))


def _facts(path: Path) -> dict[str, Any]:
    """The JSON of a cell, with all that a comparison and a report read of it."""
    facts = read_json(path)
    for name, kind in FACTS.items():
        if not isinstance(facts.get(name), kind):
            told = repr(facts.get(name))[:60]
            raise RunError(f"{path}: {name} is {told}, expected {kind.__name__}; take the cell from its study")
    for name, keys in PARTS.items():
        if missing := [key for key in keys if key not in facts[name]]:
            raise RunError(f"{path}: {name} lacks {', '.join(missing)}; take the cell from its study")
    if facts["run_id"] != path.stem:
        raise RunError(f"{path} speaks of run {facts['run_id']}: the file was renamed or exchanged")
    return facts


def _rows(part: Predictions, stressed: Stressed) -> Iterable[tuple[str, ...]]:
    """Float32 is what a model computes in; its shortest text reads back to the same number."""
    place = {image_id: row for row, image_id in enumerate(stressed.image_id.tolist())} if part.split == "val" else {}
    for row, image_id in enumerate(part.image_id.tolist()):
        changed = [_short(stressed.logits[name][place[image_id]]) if place else "" for name in CHANGES]
        fixed = (image_id, str(part.patient[row]), part.split, str(int(part.label[row])), _short(part.logit[row]))
        yield (*fixed, *changed)


def _short(value: float) -> str:
    return str(np.float32(value))


def _predictions(rows: list[list[str]], path: Path, lines: list[int], names: tuple[str, str]) -> Predictions:
    logit = _floats([cells[4] for cells in rows], path, lines)
    return Predictions(
        image_id=np.array([cells[0] for cells in rows], dtype=str),
        patient=np.array([cells[1] for cells in rows], dtype=str),
        split=rows[0][2],
        label=np.array([int(cells[3]) for cells in rows], dtype=np.int8),
        logit=logit,
        probability=sigmoid(logit),
        run_id=names[0],
        dataset_digest=names[1],
    )


def _stressed(rows: list[list[str]], path: Path, lines: list[int]) -> Stressed | None:
    if not any(cell for cells in rows for cell in cells[5:]):
        return None
    logits = {name: _floats([cells[5 + at] for cells in rows], path, lines) for at, name in enumerate(CHANGES)}
    return Stressed(np.array([cells[0] for cells in rows], dtype=str), logits)


def _floats(cells: list[str], path: Path, lines: list[int]) -> NDArray[np.float64]:
    return np.array([parse_float(cell, "a logit", path, line) for cell, line in zip(cells, lines, strict=True)])
