"""The Kermany set ("Chest X-Ray Images (Pneumonia)"): its official folders, and the patient keys in its file names.

    person12_bacteria_46.jpeg       family bacteria      patient 12, image 46
    person1374_virus_2365.jpeg      family virus         patient 1374
    IM-0115-0001.jpeg               family IM            patient 115
    NORMAL2-IM-0095-0001.jpeg       family NORMAL2-IM    patient 95

The families number their patients independently of each other, so a patient is (family, number).  The bare number,
which joins `bacteria` with `virus` and `IM` with `NORMAL2-IM`, is no patient: as a rule between official train and test
it reports 170 (person) and 94 (IM) collisions that are none.  Within train it is a rule of caution that costs nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cxr_experiments.config.compose import datasets
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError
from cxr_experiments.images.manifest.files import Contents, contents_of, files_by_class, folder_names
from cxr_experiments.images.manifest.folder import has_image_suffix
from cxr_experiments.images.manifest.rows import ImageRow, Manifest

SPLITS = ("train", "val", "test")
_SICK = re.compile(r"person(?P<number>\d+)_(?P<family>bacteria|virus)_\d+(_\d+)?\.jpe?g", re.ASCII | re.IGNORECASE)
_WELL = re.compile(r"(?P<family>NORMAL2-IM|IM)-(?P<number>\d+)-\d+(-\d+)?\.jpe?g", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class KermanyKeys:
    """Patient keys of one file name: `strict` is family and number, `loose` the number joined over related families."""

    strict: str
    loose: str


def kermany_keys(filename: str) -> KermanyKeys:
    """The patient keys in an official file name.

    Example:
        >>> kermany_keys("person12_bacteria_46.jpeg")
        KermanyKeys(strict='bacteria:12', loose='person:12')
        >>> kermany_keys("NORMAL2-IM-0095-0001.jpeg")
        KermanyKeys(strict='NORMAL2-IM:95', loose='IM-number:95')

    Raises:
        DataError: the name is not one of the four families.
    """
    if match := _SICK.fullmatch(filename):
        number = int(match["number"])
        return KermanyKeys(strict=f"{match['family'].lower()}:{number}", loose=f"person:{number}")
    if match := _WELL.fullmatch(filename):
        number = int(match["number"])
        return KermanyKeys(strict=f"{match['family'].upper()}:{number}", loose=f"IM-number:{number}")
    raise DataError(
        f"file name {filename!r} tells no patient: data=kaggle knows personN_bacteria_M.jpeg, personN_virus_M.jpeg, "
        f"IM-N-M.jpeg and NORMAL2-IM-N-M.jpeg. For another data set use data=folder with data.patient_regex"
    )


def read_kermany(data: DataConfig, environment: Mapping[str, str] = os.environ) -> Manifest:
    """The official train/val/test x NORMAL/PNEUMONIA folders as a manifest; `val` may be absent.

    Raises:
        DataError: no root, another layout, an empty class, or a file name that tells no patient.
    """
    root = _find_root(data, environment)
    listed: list[tuple[Path, str, int]] = []
    for split in SPLITS:
        if split == "val" and not (root / split).is_dir():
            continue  # the first publication has train and test alone
        for label, files in enumerate(files_by_class(root / split, data.classes)):
            listed += [(path, split, label) for path in files]
    contents = contents_of([path for path, _, _ in listed])
    rows = [_row(root, path, split, label, read) for (path, split, label), read in zip(listed, contents, strict=True)]
    return Manifest(
        source=data.source,
        rows=tuple(rows),
        classes=data.classes,
        patients_verifiable=True,
        synthetic=False,
        root=str(root),
    )


def _row(root: Path, path: Path, split: str, label: int, contents: Contents) -> ImageRow:
    # A stray file of another kind has no patient; the store names it as a bad one.
    keys = kermany_keys(path.name) if has_image_suffix(path) else KermanyKeys(strict="", loose="")
    return ImageRow(
        image_id=path.relative_to(root).as_posix(),
        path=str(path),
        label=label,
        patient=keys.strict,
        loose_key=keys.loose,
        split=split,
        width=contents.header.width,
        height=contents.header.height,
        mode=contents.header.mode,
        num_bytes=contents.num_bytes,
        sha256=contents.sha256,
    )


def _find_root(data: DataConfig, environment: Mapping[str, str]) -> Path:
    """The folder that holds train/ and test/: the one named, else the one that `download` left; or the chest_xray/ that
    the Kaggle archive has inside."""
    named, origin = data.root, "data.root"
    if not named:
        named, origin = environment.get("CXR_DATA"), "CXR_DATA"
    where = "no folder was named: give data.root=DIR, or set CXR_DATA"
    root = Path(named).expanduser().resolve() if named else datasets() / "kaggle"
    for candidate in (root, root / "chest_xray"):
        if (candidate / "train").is_dir() and (candidate / "test").is_dir():
            return candidate
    if named:
        where = f"looked for it in {root} (from {origin})"
        if root.is_dir():
            names = folder_names(root)
            told = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            where += f", which holds {told or 'no folders'} instead of train and test"
        else:
            where += ", which is no folder"
    raise DataError(
        'data=kaggle needs "Chest X-Ray Images (Pneumonia)": python -m cxr_experiments.download data=kaggle, '
        "or by hand from Kaggle or Mendeley Data, doi:10.17632/rscbjbr9sj\n"
        f"{where}\n"
        "to try everything without a download, use the synthetic phantoms: data=phantom"
    )
