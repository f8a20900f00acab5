"""The files in a zip or tar archive, one after the other, nothing written: what is in it may be made to do harm.

Refused: names that lead elsewhere (`names`), links, devices, encrypted and overlapping members, more members than any
such set has, members that grow beyond belief.  Both formats are read through `_Bounded`, so that no header makes the
reading library take more memory or run on longer than the limits say.
"""

from __future__ import annotations

import bz2
import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cxr_experiments.errors import DataError
from cxr_experiments.images.download.names import BadArchiveError, safe_path

MIB = 1024 * 1024
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2")


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        num_entries: members of every kind; ZhangLabData with all its OCT images has some 230,000.
        total_bytes: of all files that are unpacked, and of a tar archive whole.
        file_bytes: of one file that is unpacked.
        ratio: unpacked size over packed size of one file (of a compressed tar whole); a film's is about 1.
    """

    num_entries: int = 250_000
    total_bytes: int = 16 * 1024 * MIB
    file_bytes: int = 256 * MIB
    ratio: int = 100


@dataclass(frozen=True)
class Entry:
    """One file of an archive: its path, its size as declared, and how its bytes are read, at most that many."""

    path: PurePosixPath
    num_bytes: int
    open: Callable[[], IO[bytes]]


class _Bounded:
    """A file for a reader of headers: no single read above `max_read` bytes, no position beyond `max_position`."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, *, max_read: int, max_position: int) -> None:
        self._file = file
        self._max_read = max_read
        self._max_position = max_position

    def read(self, size: int = -1) -> bytes:
        if size > self._max_read:
            raise BadArchiveError(f"the archive has a header of {size / MIB:,.0f} MiB; nothing was unpacked")
        content = self._file.read(self._max_read + 1 if size < 0 else size)
        if len(content) > self._max_read or self._file.tell() > self._max_position:
            raise BadArchiveError("the archive holds more than any such data set; nothing was unpacked")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self._max_position:
            raise BadArchiveError("the archive holds more than any such data set; nothing was unpacked")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def entries(archive: Path, limits: Limits) -> Iterator[Entry]:
    """Every file of the archive in its order; an entry must be read before the next one is asked for.

    Raises:
        BadArchiveError: the archive is none, is damaged, or holds what is refused.
    """
    with translated(archive), archive.open("rb") as file:
        start = file.read(265)
        file.seek(0)
        if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _zip_entries(file, limits)
        elif start[:2] == b"\x1f\x8b":
            with gzip.open(file) as unzipped:
                yield from _tar_entries(unzipped, limits, limits.ratio * archive.stat().st_size + 64 * MIB)
        elif start[:3] == b"BZh":
            with bz2.open(file) as unzipped:
                yield from _tar_entries(unzipped, limits, limits.ratio * archive.stat().st_size + 64 * MIB)
        elif start[257:262] == b"ustar":
            yield from _tar_entries(file, limits, limits.total_bytes)
        else:
            raise BadArchiveError(f"{archive} is neither a zip nor a tar archive; is it an error page that was saved?")


@contextmanager
def translated(archive: Path) -> Iterator[None]:
    """What the archive libraries say of a damaged file, as an error of ours."""
    try:
        yield
    except NotImplementedError as error:
        raise BadArchiveError(f"{archive} is packed in a way that cannot be read here: {error}") from error
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, struct.error, EOFError),
        *(ValueError, OverflowError, RuntimeError),
    ) as error:
        raise BadArchiveError(f"{archive} is damaged ({error or type(error).__name__}); fetch it again") from error
    except OSError as error:
        if error.errno is None:  # bz2's word for damage
            raise BadArchiveError(f"{archive} is damaged ({error}); fetch it again") from error
        raise DataError(f"{archive} cannot be read: {error.strerror}") from error


def _zip_entries(file: IO[bytes], limits: Limits) -> Iterator[Entry]:
    bounded = _Bounded(file, max_read=48 * MIB, max_position=2**63 - 1)  # the list of members is read at once
    with zipfile.ZipFile(bounded) as opened:
        infos = opened.infolist()
        _check_count(len(infos), limits)
        _check_overlap(infos)
        for info in infos:
            path = safe_path(info.orig_filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused_kind(info.orig_filename)
            if info.is_dir():
                continue
            if info.flag_bits & 0x1:
                raise BadArchiveError(f"the archive's member {str(path)!r} is encrypted; nothing was unpacked")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadArchiveError(
                    f"the archive's member {str(path)!r} is packed by an unusual method; unpack it by hand"
                )
            if info.file_size > max(MIB, limits.ratio * info.compress_size):
                raise BadArchiveError(
                    f"the archive's member {str(path)!r} grows from {info.compress_size:,} to {info.file_size:,} "
                    f"bytes: no film does; nothing was unpacked"
                )
            yield Entry(path, info.file_size, lambda info=info: opened.open(info))  # type: ignore[misc]


def _check_overlap(infos: list[zipfile.ZipInfo]) -> None:
    """Members that share their bytes are how a small archive unpacks to petabytes."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise BadArchiveError(f"the archive's member {info.orig_filename!r} overlaps another; nothing was unpacked")
        end = info.header_offset + 30 + len(info.orig_filename.encode("utf-8", "replace")) + info.compress_size


def _tar_entries(file: IO[bytes] | gzip.GzipFile, limits: Limits, max_position: int) -> Iterator[Entry]:
    bounded = _Bounded(file, max_read=MIB, max_position=min(max_position, limits.total_bytes))
    with tarfile.open(fileobj=bounded, mode="r:") as opened:  # type: ignore[call-overload]  # as above
        for count, info in enumerate(opened, start=1):
            _check_count(count, limits)
            path = safe_path(info.name)
            if info.isdir():
                continue
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
                raise _refused_kind(info.name)
            if info.size < 0:
                raise BadArchiveError(f"the archive's member {str(path)!r} has a size below 0; nothing was unpacked")
            yield Entry(path, info.size, lambda info=info: opened.extractfile(info))  # type: ignore[misc]
    while bounded.read(MIB):
        pass  # the checksum of a compressed file stands behind everything


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.num_entries:
        raise BadArchiveError(f"the archive has more than {limits.num_entries:,} members; nothing was unpacked")


def _refused_kind(name: str) -> BadArchiveError:
    return BadArchiveError(f"the archive's member {name[:200]!r} is a link, a device or the like; nothing was unpacked")
