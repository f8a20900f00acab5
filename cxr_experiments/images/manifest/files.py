"""Folders of images on disk: which class folders stand in one, which files in each, and every file's size and SHA-256.

Nothing is decoded here.  What the operating systems strew about (`.DS_Store`, `Thumbs.db`, `__MACOSX`, hidden files) is
passed over; every other file is listed, whatever its suffix, so that the store can name it as a bad one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cxr_experiments.errors import DataError

_STREWN = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Contents:
    """Size and SHA-256 of a file; 0 and "" when it could not be read."""

    num_bytes: int
    sha256: str


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


def contents_of(paths: Sequence[Path]) -> list[Contents]:
    """Size and SHA-256 of every file, in order; hashing frees the interpreter lock, so threads use all cores."""
    with ThreadPoolExecutor(max_workers=num_cores()) as pool:
        return list(pool.map(_contents, paths))


def num_cores() -> int:
    """Cores that this process may use, which in a container or a cluster job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _contents(path: Path) -> Contents:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Contents(num_bytes=0, sha256="")  # a pipe would block for ever
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Contents(num_bytes=file.tell(), sha256=digest)
    except OSError:
        return Contents(num_bytes=0, sha256="")  # the store meets the same error and tells its reason


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
