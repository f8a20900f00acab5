"""Names inside an archive: which may become a path, on any file system, below the folder that they are unpacked to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from cxr_experiments.errors import DataError


class BadArchiveError(DataError):
    """The archive itself is at fault: damaged, dangerous or another one than expected."""


MAX_DEPTH = 32
MAX_NAME_BYTES = 255  # of one folder or file, on every common file system
# What Windows opens as a device, whatever the suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_FORBIDDEN = {"\\": "a backslash", ":": "a colon, as drives have"}


def safe_path(name: str) -> PurePosixPath:
    """The relative path that a member's name stands for; a trailing / (a folder) and a leading ./ are left out.

    Example:
        >>> safe_path("./chest_xray/train/")
        PurePosixPath('chest_xray/train')

    Raises:
        BadArchiveError: it would lead out of the folder, or means another thing on another system.
    """
    parts = name.removesuffix("/").split("/")
    while len(parts) > 1 and parts[0] == ".":
        parts = parts[1:]
    if parts == ["."] and name != "":
        return PurePosixPath()
    if reason := next(filter(None, map(_reason_against, parts)), ""):
        raise BadArchiveError(f"the archive has a member called {name[:200]!r} ({reason}); nothing was unpacked")
    if len(parts) > MAX_DEPTH:
        raise BadArchiveError(
            f"the archive has a member {len(parts)} folders deep ({name[:80]!r}...), at most {MAX_DEPTH} are expected; "
            f"nothing was unpacked"
        )
    return PurePosixPath(*parts)


def check_clashes(paths: Iterable[PurePosixPath]) -> None:
    """That no two files are one where case and composed letters count for nothing, and no file is also a folder.

    Raises:
        BadArchiveError: some do.
    """
    files: dict[str, PurePosixPath] = {}
    folders: dict[str, PurePosixPath] = {}
    for path in paths:
        key = _folded(path)
        if key in files:
            raise _clash(files[key], path)
        files[key] = path
        for parent in path.parents[:-1]:
            known = folders.setdefault(_folded(parent), parent)
            if known != parent:
                raise _clash(known, parent)
    for key in files.keys() & folders.keys():
        raise _clash(files[key], folders[key])


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def _clash(one: PurePosixPath, other: PurePosixPath) -> BadArchiveError:
    return BadArchiveError(
        f"the archive has members {str(one)!r} and {str(other)!r}, which are one file on some systems; "
        f"nothing was unpacked"
    )


def _reason_against(part: str) -> str:
    """Why a part of a path is refused; "" for a good one."""
    if part == "":
        return "an absolute or an empty path"
    if part == "..":
        return "it leads out of the folder"
    for character in part:
        if character in _FORBIDDEN:
            return _FORBIDDEN[character]
        if unicodedata.category(character) in ("Cc", "Cs"):
            return "a control character or bytes that are no text"
    if part[-1] in ". ":
        return "it ends in a dot or a space"
    if _DEVICE.match(part):
        return "the name of a device"
    return f"longer than {MAX_NAME_BYTES} bytes" if len(part.encode()) > MAX_NAME_BYTES else ""
