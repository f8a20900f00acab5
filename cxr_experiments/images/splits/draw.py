"""Which groups of images are held out: about a fraction of them, or one fold of several, each stratum on its own.

What is drawn are groups, by name; which images form one is the caller's.  The order of the draw is that of hashes over
(draw, group), so it depends neither on row order nor on the folder nor on the version of a random generator.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cxr_experiments.errors import DataError
from cxr_experiments.images.manifest import ImageRow

Names = Mapping[str, str]


def draw_fold(rows: Sequence[ImageRow], fold: int, num_folds: int, *, draw: str, names: Names) -> set[str]:
    """Ids of one of `num_folds` parts: whole groups, the largest first, each into the part that lacks most.

    Each stratum (which labels a group holds) is dealt out on its own, so that parts are alike in size and in labels.
    """
    groups: defaultdict[str, list[ImageRow]] = defaultdict(list)
    for row in rows:
        groups[names[row.image_id]].append(row)
    sizes: defaultdict[frozenset[int], list[int]] = defaultdict(lambda: [0] * num_folds)
    taken: set[str] = set()
    for name in sorted(groups, key=lambda name: (-len(groups[name]), text_digest(f"{draw}:{name}"))):
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


def draw_fraction(rows: Sequence[ImageRow], fraction: float, *, draw: str, names: Names) -> set[str]:
    """Ids of about `fraction` of the images, whole groups, each stratum (which labels a group holds) on its own."""
    groups: defaultdict[str, list[ImageRow]] = defaultdict(list)
    for row in rows:
        groups[names[row.image_id]].append(row)
    strata: defaultdict[frozenset[int], list[str]] = defaultdict(list)
    for name in sorted(groups, key=lambda name: text_digest(f"{draw}:{name}")):
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


def text_digest(text: str) -> str:
    """SHA-256 of a text that may hold bytes of strange file names."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
