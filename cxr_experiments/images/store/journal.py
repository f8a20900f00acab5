"""How far a build has come: images.npy in the making, and beside it a journal of what is known to be on disk.

    journal.jsonl   {"store": "<code and libraries>/<key>"}
                    {"row": 2048, "num_images": 2046, "crc32": 305419896, "bad_files": [[17, "empty file"], ...]}

A line says that the manifest's rows before `row` are done, that they gave `num_images` images, and the checksum of
those which came since the line before.  It is written after their pixels have reached the disk, so a kill or a power
cut loses what came after the last line, and nothing else.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cxr_experiments.images.decode import Gray

HEADER_BYTES = 128
_CHECKPOINT_S = 5.0  # work that a kill may lose
_MAX_SHARE = 0.02  # of the time, for waiting until pixels are on disk; where that is slow, a kill may lose more
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Refused:
    """A row of the manifest that gave no image, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class Stretch:
    """One line of the journal."""

    row: int
    num_images: int
    crc32: int
    refused: tuple[Refused, ...]


@dataclass
class Journal:
    """The two files of a build at work; `open_journal` makes it.

    Attributes:
        num_rows: rows done, images or not.
        num_images: images among them, all in `images` behind the header.
        refused: the other rows.
    """

    images: IO[bytes]
    lines: IO[bytes]
    num_rows: int
    num_images: int
    refused: list[Refused]
    crc32: int = 0
    told: int = 0  # of `refused`, how many stand in the journal
    due_s: float = 0.0

    def add(self, image: Gray | None, reason: str = "") -> None:
        """The next row: its image, or None and the reason; now and then a line is written."""
        if image is None:
            self.refused.append(Refused(self.num_rows, reason))
        else:
            pixels = image.tobytes()
            self.images.write(pixels)
            self.crc32 = zlib.crc32(pixels, self.crc32)
            self.num_images += 1
        self.num_rows += 1
        if time.monotonic() >= self.due_s:
            self.write_line()

    def write_line(self) -> None:
        """Wait until every pixel is on disk, then say so."""
        began = time.monotonic()
        _sync(self.images)
        bad_files = [[one.row, one.reason] for one in self.refused[self.told :]]
        line = {"row": self.num_rows, "num_images": self.num_images, "crc32": self.crc32, "bad_files": bad_files}
        self.lines.write(json.dumps(line).encode() + b"\n")
        _sync(self.lines)
        self.crc32, self.told = 0, len(self.refused)
        now = time.monotonic()
        self.due_s = now + max(_CHECKPOINT_S, (now - began) / _MAX_SHARE)


@contextmanager
def open_journal(folder: Path, key: str, *, image_bytes: int, num_rows: int) -> Iterator[Journal]:
    """The files of a build in `folder`, empty, or cut to what an earlier build of the same store proves to have done.

    Args:
        folder: the store's partial folder; made when it is missing.
        key: of the store, and what it is made by.
        image_bytes: size of one prepared image.
        num_rows: of the manifest.
    """
    folder.mkdir(exist_ok=True)
    paths = folder / "images.npy", folder / "journal.jsonl"
    for path in paths:
        path.touch()
    with open(paths[0], "r+b") as images, open(paths[1], "r+b") as lines:
        sound, journal_bytes = _sound(images, lines, key, image_bytes, num_rows)
        last = sound[-1] if sound else Stretch(0, 0, 0, ())
        for file, size in ((images, HEADER_BYTES + last.num_images * image_bytes), (lines, journal_bytes)):
            file.truncate(size)
            file.seek(size)
        if not journal_bytes:
            lines.write(json.dumps({"store": key}).encode() + b"\n")
        refused = [one for stretch in sound for one in stretch.refused]
        journal = Journal(images, lines, last.row, last.num_images, refused, told=len(refused))
        journal.due_s = time.monotonic() + _CHECKPOINT_S
        yield journal


def _sound(images: IO[bytes], lines: IO[bytes], key: str, image_bytes: int, num_rows: int) -> tuple[list[Stretch], int]:
    """The journal up to its first line that is torn, odd or not borne out by the pixels; and its bytes up to there."""
    first = lines.readline()
    if first != json.dumps({"store": key}).encode() + b"\n":
        return [], 0
    sound, size, before = [], len(first), Stretch(0, 0, 0, ())
    images.seek(HEADER_BYTES)
    for line in lines:
        stretch = _parse(line, before, num_rows)
        if stretch is None:
            break
        if _crc32(images, (stretch.num_images - before.num_images) * image_bytes) != stretch.crc32:
            break
        sound.append(stretch)
        size, before = size + len(line), stretch
    return sound, size


def _parse(line: bytes, before: Stretch, num_rows: int) -> Stretch | None:
    """A line that follows on the one before it; None when it does not."""
    try:
        told: dict[str, Any] = json.loads(line)
        refused = tuple(Refused(int(row), str(reason)) for row, reason in told["bad_files"])
        stretch = Stretch(int(told["row"]), int(told["num_images"]), int(told["crc32"]), refused)
    except (ValueError, KeyError, TypeError):
        return None
    rows = [one.row for one in refused]
    new = stretch.row - before.row
    whole = line.endswith(b"\n") and before.row <= stretch.row <= num_rows
    counted = stretch.num_images - before.num_images == new - len(rows)
    return stretch if whole and counted and rows == sorted(set(rows) & set(range(before.row, stretch.row))) else None


def _crc32(file: IO[bytes], num_bytes: int) -> int:
    """Of the next `num_bytes`; -1, which no checksum is, where the file ends before."""
    crc32 = 0
    while num_bytes:
        chunk = file.read(min(num_bytes, _CHUNK_BYTES))
        if not chunk:
            return -1
        crc32, num_bytes = zlib.crc32(chunk, crc32), num_bytes - len(chunk)
    return crc32


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
