"""The official Kermany layout in an archive or a folder, wherever in it that lies, held against what is known of it.

    .../train/NORMAL/*.jpeg  .../train/PNEUMONIA/*.jpeg  .../test/...  and, from Kaggle, .../val/...

Kaggle's archive holds the whole tree twice, the second time inside the first; Mendeley's ZhangLabData holds other
images beside it, and both have no val.  Chosen are the images of the outermost tree, and nothing else.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from cxr_experiments.errors import DataError
from cxr_experiments.images.download.names import BadArchiveError
from cxr_experiments.images.manifest.files import is_strewn
from cxr_experiments.images.manifest.folder import has_image_suffix
from cxr_experiments.images.manifest.kermany import SPLITS, kermany_keys
from cxr_experiments.images.published import known

CLASSES = ("NORMAL", "PNEUMONIA")  # of the published files, whatever data.classes calls them


def chosen_images(paths: Iterable[PurePosixPath], origin: Path) -> dict[PurePosixPath, PurePosixPath]:
    """Path of each image of the set -> its path below the set's folder, as train/NORMAL/IM-0115-0001.jpeg.

    Args:
        paths: every file of an archive or a folder, relative to it.
        origin: that archive or folder, for the message.

    Raises:
        DataError: no tree with train and test is among them, or two equally far out.
    """
    trees: dict[PurePosixPath, dict[PurePosixPath, PurePosixPath]] = {}
    for path in paths:
        is_image = has_image_suffix(Path(path)) and not any(map(is_strewn, path.parts))
        if is_image and len(path.parts) >= 3 and path.parts[-3] in SPLITS and path.parts[-2] in CLASSES:
            trees.setdefault(path.parents[2], {})[path] = PurePosixPath(*path.parts[-3:])
    whole = {top: tree for top, tree in trees.items() if {"train", "test"} <= {to.parts[0] for to in tree.values()}}
    if not whole:
        raise BadArchiveError(
            f"{origin} holds no images below train/NORMAL, train/PNEUMONIA, test/NORMAL and test/PNEUMONIA; expected "
            f'is "Chest X-Ray Images (Pneumonia)" as Kaggle or Mendeley Data gives it'
        )
    depth = min(len(top.parts) for top in whole)
    outermost = [top for top in whole if len(top.parts) == depth]
    if len(outermost) > 1:
        raise BadArchiveError(
            f"{origin} holds the set twice, below {outermost[0]} and {outermost[1]}: unpack one by hand"
        )
    return whole[outermost[0]]


def files_below(folder: Path) -> list[PurePosixPath]:
    """Every file in a folder, relative to it; links and what operating systems strew about are left out."""
    found: list[PurePosixPath] = []
    for current, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_strewn(name)]
        here = Path(current)
        found += [PurePosixPath((here / name).relative_to(folder)) for name in files if not (here / name).is_symlink()]
    return found


def shortfall(images: Iterable[PurePosixPath]) -> str:
    """How the images (train/NORMAL/...) differ in number from the published set; "" when they do not.

    Without val, as Mendeley has it, val's images are expected in train.
    """
    found = Counter((path.parts[0], CLASSES.index(path.parts[1])) for path in images)
    told = known("kaggle")
    expected = dict(told.counts) if told else {}
    if not any(split == "val" for split, _ in found):
        expected = _without_val(expected)
    wrong = [
        f"{split}/{CLASSES[label]} {found[split, label]:,} instead of {number:,}"
        for (split, label), number in expected.items()
        if found[split, label] != number
    ]
    return ", ".join(wrong)


def untold_patients(images: Iterable[PurePosixPath]) -> tuple[str, ...]:
    """The file names that tell no patient, as those of later versions on Mendeley Data (NORMAL-1003233-0001.jpeg)."""
    return tuple(path.name for path in images if not _tells_patient(path.name))


def _tells_patient(name: str) -> bool:
    try:
        kermany_keys(name)
    except DataError:
        return False
    return True


def _without_val(counts: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    pooled: Counter[tuple[str, int]] = Counter()
    for (split, label), number in counts.items():
        pooled["train" if split == "val" else split, label] += number
    return dict(pooled)
