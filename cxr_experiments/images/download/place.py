"""The Kermany set from an archive to FOLDER/chest_xray, whole or not at all.

No checksum of these archives is published, so contents are held against the known number of images of each split and
class before anything becomes visible.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxr_experiments.errors import DataError
from cxr_experiments.images.download.entries import ARCHIVE_SUFFIXES
from cxr_experiments.images.download.layout import chosen_images, files_below, shortfall, untold_patients
from cxr_experiments.images.download.names import BadArchiveError
from cxr_experiments.images.download.unpack import unpack

NAME = "chest_xray"


@dataclass(frozen=True)
class Placed:
    """Where the set lies: `images` as train/NORMAL/..., and the names among them that tell no patient."""

    path: Path
    images: tuple[PurePosixPath, ...]
    untold: tuple[str, ...]


def present(folder: Path) -> Placed | None:
    """The set that `folder` (or the chest_xray/ in it) holds already; None where there is none.

    Raises:
        DataError: what is there is not the whole set.
    """
    for path in (folder, folder / NAME):
        if not (path / "train").is_dir() or not (path / "test").is_dir():
            continue
        images = chosen_images(files_below(path), path)
        if wrong := shortfall(images.values()):
            raise DataError(
                f"{path} is there already and is not the whole set: {wrong}. Move it away and start again; it was left "
                f"as it is"
            )
        return _placed(path, images.values())
    if (folder / NAME).exists():
        raise DataError(f"{folder / NAME} is there already, without train and test: move it away and start again")
    return None


def archives_in(folder: Path) -> list[Path]:
    """The archives that somebody put into a folder."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in files if is_archive(path) and not path.name.startswith("."))


def is_archive(path: Path) -> bool:
    """Whether a file claims to be an archive that can be unpacked here."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def place_archive(archive: Path, folder: Path, *, on_progress: Callable[[int, int], None]) -> Placed:
    """Unpack the set's images into `folder`/chest_xray.

    Raises:
        DataError: the archive is damaged, dangerous, or not the whole set.
    """

    def choose(paths: Iterable[PurePosixPath]) -> Mapping[PurePosixPath, PurePosixPath]:
        chosen = chosen_images(paths, archive)
        if wrong := shortfall(chosen.values()):
            raise BadArchiveError(
                f"{archive} is not the whole set: {wrong}; nothing was unpacked. If this is what you want, unpack it "
                f"yourself and name the folder with data.root=DIR"
            )
        return chosen

    staging = folder / f".{NAME}.part"
    images = unpack(archive, staging, choose, on_progress=on_progress)
    return _revealed(staging, folder, images)


def _revealed(staging: Path, folder: Path, images: Iterable[PurePosixPath]) -> Placed:
    """The set under its name: a rename, so that it is there whole or not at all."""
    try:
        os.rename(staging, folder / NAME)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise DataError(f"cannot make {folder / NAME}: {error.strerror}; nothing was kept") from error
    return _placed(folder / NAME, images)


def _placed(path: Path, images: Iterable[PurePosixPath]) -> Placed:
    listed = tuple(sorted(images))
    return Placed(path, listed, untold_patients(listed))
