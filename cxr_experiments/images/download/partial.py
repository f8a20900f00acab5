"""What has arrived of a file, under a hidden temporary name beside its target, and what is needed to go on with it.

    .NAME.part        the bytes so far
    .NAME.part.json   which file they are the beginning of: address, validator, size

Bytes without a readable note are the beginning of nothing known, and are thrown away.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """Which version of a file a transfer began with.

    Attributes:
        address: where it came from, without anything secret.
        validator: a strong ETag or a Last-Modified date, for If-Range; "" when the server gave neither.
        num_bytes: size of the whole file; None when the server did not say.
    """

    address: str
    validator: str
    num_bytes: int | None


@dataclass(frozen=True)
class Partial:
    """The beginning of `target`, which does not exist yet."""

    target: Path

    @property
    def path(self) -> Path:
        """The bytes that have arrived."""
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def note_path(self) -> Path:
        """What they are the beginning of."""
        return self.target.with_name(f".{self.target.name}.part.json")

    @property
    def num_bytes(self) -> int:
        """How many bytes have arrived; 0 without a file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def note(self) -> Note | None:
        """The note of the transfer that was begun; None without one that can be read."""
        try:
            told = json.loads(self.note_path.read_text(encoding="utf-8"))
            note = Note(told["address"], told["validator"], told["num_bytes"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        fits = isinstance(note.address, str) and isinstance(note.validator, str)
        return note if fits and isinstance(note.num_bytes, int | None) else None

    def begin(self, note: Note) -> None:
        """Throw away what was there; the note stands before the first byte does."""
        self.remove()
        self.note_path.write_text(json.dumps(asdict(note)), encoding="utf-8")

    def remove(self) -> None:
        """Leave nothing."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Make it the target, whole on disk before it is visible."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.note_path.unlink(missing_ok=True)
