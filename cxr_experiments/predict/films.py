"""From what a command line names to single films: files as they are, folders walked, patterns filled in."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxr_experiments.errors import ConfigError, DataError


def named_films(words: Sequence[str]) -> list[str]:
    """The films that the words name, in their order; those of a folder and of a pattern sorted.

    Of a folder, with all below it, every file counts that may be an image: JPEG, PNG or DICOM by its suffix, or without
    a suffix as archives name DICOM files.  A link to another folder inside is not followed.  A pattern (`*`, `?`, `[`)
    that fits nothing stays as it is and will be told as a file that cannot be read.

    Raises:
        ConfigError: a folder holds no film.
        DataError: a folder cannot be read.
    """
    return [film for word in words for film in _films_of(word)]


def _films_of(word: str) -> Iterator[str]:
    found = [word]
    if glob.has_magic(word) and not os.path.lexists(word):
        found = sorted(glob.glob(word)) or found
    for name in found:
        if os.path.isdir(name):
            yield from _walked(name)
        else:
            yield name


def _walked(folder: str) -> Iterator[str]:
    from cxr_experiments.images.manifest.files import is_strewn
    from cxr_experiments.images.manifest.folder import may_be_image

    def stop(error: OSError) -> None:
        raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}") from error

    num_found = 0
    for place, folders, names in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not is_strewn(name))
        for name in sorted(names):
            if not is_strewn(name) and may_be_image(Path(name)):
                num_found += 1
                yield os.path.join(place, name)
    if not num_found:
        raise ConfigError(f"the folder {folder} holds no JPEG, PNG or DICOM file")
