"""A manifest is divided into train, validation and test rows by patient, and the division is proven before it goes out.

Where the source names a test split, that one stays untouched, and its train and val images are pooled and cut anew;
otherwise the test rows are drawn first, from `data.test_seed` alone, so that runs with different seeds share them.
What is cut are groups of images: connected components over strict patient key, loose key and equal content.
The order of the draw is that of hashes over (seed, group), so a split depends neither on row order nor on the folder
nor on the version of a random generator.  No pixel is read here.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError, LeakageError
from cxr_experiments.images.duplicates import content_key
from cxr_experiments.images.manifest import ImageRow, Manifest

COLUMNS = ["image_id", "split", "patient", "group", "label"]
_NUM_NAMED = 5  # leaks spelt out in a message; the rest is counted

Key = Callable[[ImageRow], str]


def _strict_key(row: ImageRow) -> str:
    return row.patient


def _loose_key(row: ImageRow) -> str:
    return row.loose_key or row.patient


# The first word says what the rows of a message share.
_KEYS: dict[str, Key] = {"patient": _strict_key, "bare patient number": _loose_key, "file content": content_key}
_ACROSS_OFFICIAL = {
    "strict": ("patient", "file content"),
    "loose": ("patient", "bare patient number", "file content"),
    "none": ("file content",),
}


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows of a manifest train, validate and test.

    Attributes:
        train, val, test: (k,) int64 row numbers into `manifest.rows`, rising, read-only; each row stands in one.
        digest: 64 hex digits over the image ids of the three parts.
        test_digest: 64 hex digits over id, label and content of the test rows: what the test ledger knows a split by.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    digest: str
    test_digest: str


def make_split(manifest: Manifest, data: DataConfig, *, seed: int) -> Split:
    """Train, validation and test rows by patient, stratified by label.

    Args:
        manifest: the data set.
        data: `val_fraction` of the images that are not test are held out for validation, or fold `fold` of `num_folds`
            where that is not 0; `patient_rule` says which key may not cross official splits; `test_fraction` and
            `test_seed` draw the test rows where the source has none.
        seed: of the validation cut; any integer.

    Raises:
        DataError: too few patients to divide.
        LeakageError: an official test split shares a patient or a file with the training images.
    """
    if any(row.split for row in manifest.rows):
        test = {row.image_id for row in manifest.rows if row.split == "test"}
    else:
        test = _held_out(manifest.rows, data.test_fraction, draw=f"test:{data.test_seed}")
    pool = [row for row in manifest.rows if row.image_id not in test]
    if data.num_folds:
        val = _fold(pool, data.fold, data.num_folds, draw=f"fold:{seed}")
    else:
        val = _held_out(pool, data.val_fraction, draw=f"val:{seed}")
    parts = {
        row.image_id: "test" if row.image_id in test else "val" if row.image_id in val else "train"
        for row in manifest.rows
    }
    split = _assemble(manifest, parts)
    prove_disjoint(manifest, split, patient_rule=data.patient_rule)
    return split


def prove_disjoint(manifest: Manifest, split: Split, *, patient_rule: str) -> None:
    """Check that each row stands in one part, and that no patient and no file stands in two.

    Train and validation share no strict key, no bare number and no content; test shares with neither what
    `patient_rule` (strict, loose, none) forbids, nor a file.

    Raises:
        LeakageError: they do; the images are named.
    """
    placed = np.concatenate([split.train, split.val, split.test])
    if not np.array_equal(np.sort(placed), np.arange(len(manifest.rows))):
        raise LeakageError(
            f"the split places {len(placed)} rows of {len(manifest.rows)}, some of them twice or not at all"
        )
    train, val, test = ([manifest.rows[i] for i in part] for part in (split.train, split.val, split.test))
    for shared in _KEYS:
        _refuse_shared(train, val, shared, "train and val")
    for shared in _ACROSS_OFFICIAL[patient_rule]:
        _refuse_shared(train + val, test, shared, "the training images and test")


def group_names(rows: Sequence[ImageRow]) -> dict[str, str]:
    """Image id -> name of its group, the smallest image id in it.

    A group is a connected component over strict patient key, loose key and equal content: if A shares a patient with
    B and B's file is a copy of C's, all three stay together.
    """
    parent = {row.image_id: row.image_id for row in rows}

    def find(image_id: str) -> str:
        while parent[image_id] != image_id:
            parent[image_id] = parent[parent[image_id]]
            image_id = parent[image_id]
        return image_id

    for kind, key in _KEYS.items():
        first: dict[str, str] = {}
        for row in rows:
            if value := key(row):
                one, other = find(first.setdefault(f"{kind}:{value}", row.image_id)), find(row.image_id)
                parent[max(one, other)] = min(one, other)
    return {row.image_id: find(row.image_id) for row in rows}


def write_split(path: Path, manifest: Manifest, split: Split) -> None:
    """Write image_id,split,patient,group,label: one CSV line per image in manifest order, a temporary name first."""
    rows = manifest.rows
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    lines: dict[str, list[str]] = {}
    for name, part in (("train", split.train), ("val", split.val), ("test", split.test)):
        groups = group_names([rows[i] for i in part])  # a group of train or val never counts test rows in
        for row in (rows[i] for i in part):
            lines[row.image_id] = [row.image_id, name, row.patient, groups[row.image_id], str(row.label)]
    with open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(lines[row.image_id] for row in rows)
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
        raise DataError(f"split file {path} cannot be read: {error}") from error
    if not lines or lines[0] != COLUMNS:
        raise DataError(f"split file {path}, line 1: expected the columns {','.join(COLUMNS)}")
    parts: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS) or line[1] not in ("train", "val", "test") or line[0] in parts:
            raise DataError(
                f"split file {path}, line {number}: expected a new image and train, val or test, got {line}"
            )
        parts[line[0]] = line[1]
    known = {row.image_id for row in manifest.rows}
    if strange := sorted(known ^ set(parts)):
        raise DataError(
            f"split file {path} was made from other images: {len(strange)} stand in it or in the data set alone, "
            f"the first is {strange[0]}; point data.root at the images it was made from"
        )
    return _assemble(manifest, parts)


def _fold(rows: Sequence[ImageRow], fold: int, num_folds: int, *, draw: str) -> set[str]:
    """Ids of one of `num_folds` parts: whole groups, the largest first, each into the part that lacks most.

    Each stratum (which labels a group holds) is dealt out on its own, so that parts are alike in size and in labels.
    """
    groups: defaultdict[str, list[ImageRow]] = defaultdict(list)
    for row, name in zip(rows, group_names(rows).values(), strict=True):
        groups[name].append(row)
    sizes: defaultdict[frozenset[int], list[int]] = defaultdict(lambda: [0] * num_folds)
    taken: set[str] = set()
    for name in sorted(groups, key=lambda name: (-len(groups[name]), _sha256(f"{draw}:{name}"))):
        of_stratum = sizes[frozenset(row.label for row in groups[name])]
        part = min(range(num_folds), key=of_stratum.__getitem__)
        of_stratum[part] += len(groups[name])
        if part == fold:
            taken.add(name)
    ids = {row.image_id for name in taken for row in groups[name]}
    for label in (0, 1):
        if {row.image_id in ids for row in rows if row.label == label} != {True, False}:
            raise DataError(
                f"data.num_folds={num_folds}: fold {fold}, or the rest without it, has no image of label {label}: "
                "take fewer folds"
            )
    return ids


def _held_out(rows: Sequence[ImageRow], fraction: float, *, draw: str) -> set[str]:
    """Ids of about `fraction` of the images, whole groups, each stratum (which labels a group holds) on its own."""
    groups: defaultdict[str, list[ImageRow]] = defaultdict(list)
    for row, name in zip(rows, group_names(rows).values(), strict=True):
        groups[name].append(row)
    strata: defaultdict[frozenset[int], list[str]] = defaultdict(list)
    for name in sorted(groups, key=lambda name: _sha256(f"{draw}:{name}")):
        strata[frozenset(row.label for row in groups[name])].append(name)
    sizes = {name: len(group) for name, group in groups.items()}
    taken = {name for names in strata.values() for name in _about(names, sizes, fraction)}
    for label in (0, 1):
        if not any(label in labels and name in taken for labels, names in strata.items() for name in names):
            taken.add(_smallest_spare(label, strata, taken, sizes))
    return {row.image_id for name in taken for row in groups[name]}


def _smallest_spare(label: int, strata: dict[frozenset[int], list[str]], taken: set[str], sizes: dict[str, int]) -> str:
    """The smallest group with images of `label` whose loss still leaves both labels on the other side."""
    holders = [{name for labels, names in strata.items() if wanted in labels for name in names} for wanted in (0, 1)]
    spare = [name for name in holders[label] if all(others - taken - {name} for others in holders)]
    if not spare:
        raise DataError(
            f"label {label} stands in {len(holders[label])} of {len(sizes)} patient groups, too few to hold some out: "
            f"each class needs images of at least 2 patients besides the test split, and 3 where that is drawn as well"
        )
    return min(spare, key=lambda name: (sizes[name], name))


def _about(names: Iterable[str], sizes: dict[str, int], fraction: float) -> list[str]:
    """In the order given, every group that brings the number of images nearer to `fraction` of them all."""
    names = list(names)
    target = fraction * sum(sizes[name] for name in names)
    taken: list[str] = []
    total = 0
    for name in names:
        if abs(total + sizes[name] - target) < abs(total - target):
            taken.append(name)
            total += sizes[name]
    return taken


def _refuse_shared(left: Sequence[ImageRow], right: Sequence[ImageRow], shared: str, between: str) -> None:
    key = _KEYS[shared]
    seen = {key(row): row.image_id for row in left if key(row)}
    leaks = [(key(row), seen[key(row)], row.image_id) for row in right if key(row) in seen]
    if not leaks:
        return
    named = "; ".join(f"{value[:16]} in {one} and {other}" for value, one, other in leaks[:_NUM_NAMED])
    rest = f"; and {len(leaks) - _NUM_NAMED} more" if len(leaks) > _NUM_NAMED else ""
    raise LeakageError(
        f"{between} share a {shared} in {len({value for value, _, _ in leaks})} case(s): {named}{rest}. "
        f"Scores on such a split would be too good: remove one side, or say with data.patient_rule which keys count"
    )


def _assemble(manifest: Manifest, parts: dict[str, str]) -> Split:
    """Image id -> part, as sorted row numbers and the two digests."""
    rows = manifest.rows
    where = {
        name: [i for i, row in enumerate(rows) if parts[row.image_id] == name] for name in ("train", "val", "test")
    }
    told = {name: sorted(rows[i].image_id for i in part) for name, part in where.items()}
    test = sorted((rows[i].image_id, rows[i].label, rows[i].sha256) for i in where["test"])
    arrays = {name: np.array(part, dtype=np.int64) for name, part in where.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return Split(
        train=arrays["train"],
        val=arrays["val"],
        test=arrays["test"],
        digest=_sha256(json.dumps([told["train"], told["val"], told["test"]])),
        test_digest=_sha256(json.dumps(test)),
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
