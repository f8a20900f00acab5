"""A division on disk: image_id,split,patient,group,label, one CSV line per image in manifest order."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from cxr_experiments.errors import DataError, one_line
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.images.splits.groups import group_names
from cxr_experiments.images.splits.rows import Split, assemble

COLUMNS = ["image_id", "split", "patient", "group", "label"]


def write_split(path: Path, manifest: Manifest, split: Split) -> None:
    """Write image_id,split,patient,group,label: one CSV line per image in manifest order, a temporary name first."""
    rows = manifest.rows
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    side = [""] * len(rows)
    groups: dict[str, str] = {}
    for name, part in (("train", split.train), ("val", split.val), ("test", split.test)):
        groups |= group_names([rows[i] for i in part])  # a group of train or val never counts test rows in
        for number in part.tolist():
            side[number] = name
    with open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            (row.image_id, name, row.patient, groups[row.image_id], row.label)
            for row, name in zip(rows, side, strict=True)
        )
    os.replace(partial, path)


def read_split(path: Path, manifest: Manifest) -> Split:
    """The split that `write_split` wrote, as row numbers of the same data set.

    Raises:
        DataError: the file cannot be read, or speaks of other images than the manifest.
    """
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, csv.Error) as error:
        raise DataError(f"split file {path} cannot be read: {one_line(error)}") from error
    if not lines or lines[0] != COLUMNS:
        raise DataError(f"split file {path}, line 1: expected the columns {','.join(COLUMNS)}")
    parts: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS) or line[1] not in ("train", "val", "test") or line[0] in parts:
            got = one_line(line)
            raise DataError(f"split file {path}, line {number}: expected a new image and train, val or test, got {got}")
        parts[line[0]] = line[1]
    known = {row.image_id for row in manifest.rows}
    if strange := sorted(known ^ set(parts)):
        raise DataError(
            f"split file {path} was made from other images: {len(strange)} stand in it or in the data set alone, "
            f"the first is {one_line(strange[0])}; point data.root at the images it was made from"
        )
    return assemble(manifest, parts)
