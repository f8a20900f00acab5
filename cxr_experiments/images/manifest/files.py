"""Folders of images on disk: which class folders stand in one, which files in each, and every file's size, SHA-256,
header and, on request, patient.

No pixel is decoded here.  What the operating systems strew about (`.DS_Store`, `Thumbs.db`, `__MACOSX`, hidden files)
is passed over; every other file is listed, whatever its suffix, so that the store can name it as a bad one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NoReturn

from cxr_experiments.errors import BadImageError, DataError
from cxr_experiments.images.decode import NO_HEADER, Header, read_header, read_image_bytes, read_patient_identity
from cxr_experiments.images.manifest.salted import patient_key
from cxr_experiments.images.threads import in_order

_STREWN = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Contents:
    """What a file is without being decoded.

    Attributes:
        num_bytes, sha256: 0 and "" when the file could not be read.
        header: 0 x 0 px and "" when it is no image or its header is damaged.
        patient: salted key of the patient whom a DICOM file names; "" for none, and where it was not asked for.
    """

    num_bytes: int
    sha256: str
    header: Header
    patient: str = ""


_UNREAD = Contents(0, "", NO_HEADER)


def is_strewn(name: str) -> bool:
    """Whether an operating system, and not a person, put this file or folder there."""
    return name.startswith(".") or name.lower() in _STREWN


def folder_names(folder: Path) -> list[str]:
    """Names of the folders inside `folder`, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_strewn(entry.name))


def files_by_class(folder: Path, classes: tuple[str, str]) -> tuple[list[Path], list[Path]]:
    """The files of the negative and of the positive class folder in `folder`, each sorted, folders below included.

    Raises:
        DataError: the class folders are not exactly those of `classes`, or one of them is empty.
    """
    found = folder_names(folder)
    if set(found) != set(classes):
        told = ", ".join(found) if found else "no folders"
        raise DataError(
            f"{folder} holds {told}; expected exactly the class folders {classes[0]} (label 0) and {classes[1]} "
            f"(label 1). Rename the folders, or name yours: 'data.classes=[negative,positive]'"
        )
    negative, positive = (sorted(_files_below(folder / name)) for name in classes)
    for name, files in zip(classes, (negative, positive), strict=True):
        if not files:
            raise DataError(f"class folder {folder / name} holds no files; each class needs images")
    return negative, positive


def contents_of(paths: Sequence[Path], *, with_patients: bool = False) -> list[Contents]:
    """What every file is, in order; hashing frees the interpreter lock, so threads use all cores.

    Args:
        paths: the files; each is read once.
        with_patients: whether a DICOM file is asked for its patient, which needs a salt.

    Raises:
        ConfigError, DataError: the salt is no secret, or can be neither read nor written.
    """
    return list(in_order(partial(_contents, with_patient=with_patients), paths, num_threads=num_cores()))


def num_cores() -> int:
    """Cores that this process may use, which in a container or a cluster job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _contents(path: Path, *, with_patient: bool) -> Contents:
    """The store meets the same errors, and tells their reasons."""
    try:
        content = read_image_bytes(path)
    except BadImageError:
        return _UNREAD
    header, identity = NO_HEADER, b""
    try:
        header = _one_for_all(read_header(content))
        identity = read_patient_identity(content) if with_patient else b""
    except BadImageError:
        pass
    return Contents(len(content), hashlib.sha256(content).hexdigest(), header, patient_key(identity))


@lru_cache(maxsize=4096)
def _one_for_all(header: Header) -> Header:
    """Files of one detector share one header in memory."""
    return header


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file under `folder`, linked folders included; a link that leads back up is followed once."""
    visited: set[str] = set()
    for current, folders, files in os.walk(folder, onerror=_stop, followlinks=True):
        real = os.path.realpath(current)
        folders[:] = [] if real in visited else [name for name in folders if not is_strewn(name)]
        if real not in visited:
            yield from (Path(current, name) for name in files if not is_strewn(name))
        visited.add(real)


def _stop(error: OSError) -> NoReturn:
    """`os.walk` would pass over a folder that it may not read, and its images would be missing unseen."""
    raise error
