"""A published file from the network to its place: resumed, tried again, checked, and only then visible under its name.

Until then the bytes lie beside it under a hidden temporary name (`partial`), which no source reads.  A lock keeps a
second process waiting, which then finds the file there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_experiments.errors import DataError
from cxr_experiments.images.download.addresses import shown
from cxr_experiments.images.download.partial import Partial
from cxr_experiments.images.download.transfer import MIB, Broken, Patience, Transfer, receive
from cxr_experiments.images.published import PublishedFile

MAX_TRIES = 200  # a server that cuts this often is no use
MIN_GAIN = 64 * 1024  # bytes that a try must bring to count as progress: who drips gives up as who is silent


@dataclass(frozen=True)
class Listener:
    """Who is told of a download: `on_progress(bytes so far, bytes in all or 0)`, and `note(line)` about its mishaps."""

    on_progress: Callable[[int, int], None] = lambda done, total: None
    note: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Fetched:
    """Where a file lies, and whether it lay there before."""

    path: Path
    was_there: bool


def fetch(
    file: PublishedFile,
    folder: Path,
    *,
    url: str | None = None,
    max_bytes: int,
    patience: Patience = Patience(),  # noqa: B008  # frozen
    listener: Listener = Listener(),
) -> Fetched:
    """Have `folder` hold the published file, under its name.

    Args:
        file: what is wanted; without an MD5 (`md5=""`) only its size is checked, and a file of that name is refused.
        folder: made when it is missing.
        url: a mirror's address of the file, in place of the publisher's.
        max_bytes: a larger file is refused.
        patience: waiting and trying again.
        listener: who is told.

    Raises:
        DataError: the file could not be had, has other bytes than published, or another one stands in its place.  What
            had arrived of it is kept when the same command can go on with it, and removed when it was wrong.
    """
    target = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(target, listener.note):
            if target.exists():
                return _present(file, target)
            partial = Partial(target)
            transfer = Transfer(
                url=url or file.url,
                partial=partial,
                has_checksum=bool(file.md5),
                max_bytes=max_bytes,
                by_hand=f"or fetch {shown(file.url)} by hand to {target}, and start again to check it",
                patience=patience,
                on_progress=listener.on_progress,
            )
            _receive_all(file, transfer, listener)
            partial.finish()
            return Fetched(target, was_there=False)
    except OSError as error:
        raise DataError(
            f"cannot write to {folder}: {error.strerror or type(error).__name__}; make room or mend its "
            f"permissions and start again (what has arrived is kept), or choose another place with data.root=DIR"
        ) from error


@contextmanager
def alone(target: Path, note: Callable[[str], None]) -> Iterator[None]:
    """One process at a time works on `target`; the others say that they wait, and wait."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"another process is busy with {target}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def md5_of(path: Path) -> str:
    """32 hex digits over a file; MD5 because publishers state it, against damage and not against malice."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _present(file: PublishedFile, target: Path) -> Fetched:
    found = md5_of(target) if target.is_file() and file.md5 else ""
    if found and found == file.md5:
        return Fetched(target, was_there=True)
    told = f"its MD5 is {found}, published is {file.md5}" if found else "it cannot be checked"
    raise DataError(f"{target} is there already, and {told}: move it away and start again; it was left as it is")


def _receive_all(file: PublishedFile, transfer: Transfer, listener: Listener) -> None:
    """The whole file in the partial, right to the last byte; joined pieces that do not fit are fetched anew once."""
    was_joined = transfer.partial.num_bytes > 0
    was_joined = _insist(file, transfer, listener) or was_joined
    found = md5_of(transfer.partial.path) if file.md5 else ""
    if found != file.md5 and was_joined:
        transfer.partial.remove()
        listener.note(f"{file.name}: the pieces do not fit together; fetching it from the beginning")
        _insist(file, transfer, listener)
        found = md5_of(transfer.partial.path)
    if found != file.md5:
        transfer.partial.remove()
        raise DataError(
            f"{shown(transfer.url)} sent other bytes than published: MD5 {found}, expected {file.md5}; nothing was kept"
        )


def _insist(file: PublishedFile, transfer: Transfer, listener: Listener) -> bool:
    """Try until the file is whole, waiting longer each time that brings next to nothing; whether pieces were joined."""
    partial, patience = transfer.partial, transfer.patience
    idle = 0
    was_reached = was_joined = False
    for _ in range(MAX_TRIES):
        before = partial.num_bytes
        try:
            receive(transfer)
            return was_joined
        except Broken as broken:
            was_reached = was_reached or broken.was_reached
            was_joined = was_joined or partial.num_bytes > 0
            idle = 0 if partial.num_bytes - before >= MIN_GAIN else idle + 1
            if idle > (patience.num_retries if was_reached else patience.num_knocks):
                raise DataError(_given_up(transfer, str(broken))) from broken
            wait_s = min(60.0, max(broken.wait_s, patience.backoff_s * 2 ** max(0, idle - 1)))
            after = f" after {partial.num_bytes / MIB:.1f} MiB" if partial.num_bytes else ""
            listener.note(f"{file.name}: {broken}{after}; again in {wait_s:g} s")
            time.sleep(wait_s)
    raise DataError(_given_up(transfer, f"the connection was cut {MAX_TRIES} times"))


def _given_up(transfer: Transfer, reason: str) -> str:
    kept = transfer.partial.num_bytes
    begun = f"{kept / MIB:.1f} MiB are kept, and the same command goes on from there" if kept else "nothing was fetched"
    return f"{shown(transfer.url)}: {reason}; {begun}; {transfer.by_hand}"
