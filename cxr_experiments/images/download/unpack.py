"""From an archive to a folder: first every member is looked at, then what was chosen is written, into a new folder.

The folder is a hidden temporary one until the caller renames it: an unpacking that was interrupted leaves nothing that
looks whole.  Contents are not unpacked again: an archive in the archive stays one, and is chosen by nobody.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from cxr_experiments.errors import DataError
from cxr_experiments.images.download.entries import MIB, Entry, Limits, entries, translated
from cxr_experiments.images.download.names import BadArchiveError, check_clashes


def listed(archive: Path, limits: Limits) -> dict[PurePosixPath, int]:
    """Path -> declared size in bytes of every file of an archive, each of them looked at.

    Raises:
        DataError: the archive is none, is damaged, or holds what is refused.
    """
    sizes: dict[PurePosixPath, int] = {}
    for entry in entries(archive, limits):
        if entry.path in sizes:
            raise BadArchiveError(f"the archive has two members called {str(entry.path)!r}; nothing was unpacked")
        sizes[entry.path] = entry.num_bytes
    return sizes


def unpack(
    archive: Path,
    folder: Path,
    choose: Callable[[Iterable[PurePosixPath]], Mapping[PurePosixPath, PurePosixPath]],
    *,
    limits: Limits = Limits(),  # noqa: B008  # frozen
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[PurePosixPath]:
    """Write the chosen files of an archive into the new folder `folder`; what is there of that name is removed first.

    Args:
        archive: a zip, tar, tar.gz or tar.bz2.
        folder: removed again when this fails.
        choose: given the paths of all files in the archive, those to be written -> their paths below `folder`.
        limits: how much it may be.
        on_progress: called with (files so far, files in all).

    Returns:
        The paths written, below `folder`.

    Raises:
        DataError: the archive holds what is refused, or the disk does not take it.
    """
    sizes = listed(archive, limits)
    chosen = choose(sizes)
    check_clashes(chosen.values())
    _check_sizes({path: sizes[path] for path in chosen}, folder, limits)
    shutil.rmtree(folder, ignore_errors=True)
    written: list[PurePosixPath] = []
    try:
        _made(folder)
        for entry in entries(archive, limits):
            if entry.path in chosen:
                with translated(archive):
                    _write(entry, folder / chosen[entry.path])
                written.append(chosen[entry.path])
                on_progress(len(written), len(chosen))
        if len(written) != len(chosen):
            raise DataError(f"{archive} changed while it was unpacked; let it rest and start again")
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return written


def _check_sizes(sizes: Mapping[PurePosixPath, int], folder: Path, limits: Limits) -> None:
    for path, num_bytes in sizes.items():
        if num_bytes > limits.file_bytes:
            raise BadArchiveError(
                f"the archive's member {str(path)!r} has {num_bytes:,} bytes: no film has; nothing was unpacked"
            )
    total = sum(sizes.values())
    if total > limits.total_bytes:
        raise BadArchiveError(f"the archive's files have {total:,} bytes, at most {limits.total_bytes:,} are expected")
    free = shutil.disk_usage(folder.parent).free
    if total > free:
        raise DataError(
            f"{folder.parent} has {free / MIB:,.0f} MiB free and the images need {total / MIB:,.0f} MiB: make room, or "
            f"choose another place with data.root=DIR"
        )


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error.strerror}") from error


def _write(entry: Entry, path: Path) -> None:
    """The file as declared, no byte more: `x` follows no link and overwrites nothing."""
    _made(path.parent)
    num_bytes = 0
    with entry.open() as packed:
        try:
            file = path.open("xb")
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from error
        with file:
            while chunk := packed.read(MIB):
                num_bytes += len(chunk)
                if num_bytes > entry.num_bytes:
                    raise BadArchiveError(f"the archive's member {str(entry.path)!r} is longer than it says")
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    room = "; make room, or choose another place with data.root=DIR" * (error.errno == errno.ENOSPC)
                    raise DataError(f"cannot write {path}: {error.strerror}{room}") from error
    if num_bytes != entry.num_bytes:
        raise BadArchiveError(
            f"the archive's member {str(entry.path)!r} ends after {num_bytes:,} of {entry.num_bytes:,} bytes"
        )
