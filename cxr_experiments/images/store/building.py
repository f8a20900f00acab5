"""The build of a store: rows -> prepared images on disk, all cores at work, a few images in memory, resumable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import BadImageError, CxrError, DataError
from cxr_experiments.images.decode import Gray
from cxr_experiments.images.manifest import ImageRow, Manifest, load_square, num_cores, source_digest
from cxr_experiments.images.store.journal import HEADER_BYTES, Journal, open_journal
from cxr_experiments.images.threads import in_order

_FORMAT = 3
_NUM_NAMED = 20  # bad files spelt out in a message; the rest is counted


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be decoded: its full path, and why."""

    path: str
    reason: str


def build(path: Path, manifest: Manifest, data: DataConfig, on_progress: Callable[[int, int], None] | None) -> None:
    """Make the store beside its place, and move it there when it is whole.  The caller holds the lock.

    Raises:
        DataError: bad files that data.on_bad_file does not pass over, no good ones, or a file that has changed.
        OSError: the folder cannot be written; the disk is full.
    """
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        _write(unfinished, path.name, manifest, data, on_progress)
        if path.exists():
            shutil.rmtree(path)  # damaged, or it would have been read
        os.replace(unfinished, path)
        _sync(path.parent)
        (path / "journal.jsonl").unlink()  # only now: a kill before leaves either a whole store or a journal
    except (CxrError, OSError):
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write(
    folder: Path, key: str, manifest: Manifest, data: DataConfig, on_progress: Callable[[int, int], None] | None
) -> None:
    """Fill `folder` with images.npy and rows.json."""
    rows, size_px = manifest.rows, data.image_size_px
    with open_journal(folder, f"{made_by()}/{key}", image_bytes=size_px * size_px, num_rows=len(rows)) as journal:
        if on_progress is not None and journal.num_rows:
            on_progress(journal.num_rows, len(rows))
        _add_rows(journal, manifest, data, on_progress)
        bad_files = tuple(BadFile(rows[one.row].path, one.reason) for one in journal.refused)
        if not journal.num_images or (bad_files and data.on_bad_file == "stop"):
            raise refusal(bad_files)
        journal.write_line()
        journal.images.seek(0)  # the header comes last: until then this is no array
        journal.images.write(_npy_header(journal.num_images, size_px))
    told = {
        "num_images": journal.num_images,
        "bad_files": [{"image_id": rows[one.row].image_id, "reason": one.reason} for one in journal.refused],
        "made_by": made_by(),
        "sha256": file_sha256(folder / "images.npy"),
    }
    with open(folder / "rows.json", "w", encoding="ascii") as file:
        json.dump(told, file)
    for name in ("images.npy", "rows.json", "."):
        _sync(folder / name)


def _add_rows(
    journal: Journal, manifest: Manifest, data: DataConfig, on_progress: Callable[[int, int], None] | None
) -> None:
    """Prepare every row that the journal does not hold yet."""
    rows = manifest.rows
    todo = (rows[number] for number in range(journal.num_rows, len(rows)))
    prepare_row = partial(_prepare_row, manifest=manifest, data=data)
    with closing(in_order(prepare_row, todo, num_threads=num_cores())) as prepared:
        for image in prepared:
            if isinstance(image, str):
                journal.add(None, image)
            else:
                journal.add(image)
            if on_progress is not None:
                on_progress(journal.num_rows, len(rows))


def _prepare_row(row: ImageRow, *, manifest: Manifest, data: DataConfig) -> Gray | str:
    """The prepared image, or the reason why there is none."""
    try:
        return load_square(row, manifest, data)
    except BadImageError as error:
        return str(error)


def _npy_header(num_images: int, size_px: int) -> bytes:
    """Version 1.0 of NumPy's format, padded to a length that does not depend on the number of images."""
    shape = f"({num_images}, {size_px}, {size_px}, 1)"
    told = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode("ascii")
    magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + told.ljust(HEADER_BYTES - 11) + b"\n"


def refusal(bad_files: tuple[BadFile, ...]) -> DataError:
    """All that a user needs to mend or to pass over the bad files."""
    named = [f"  {bad.path}: {bad.reason}" for bad in bad_files[:_NUM_NAMED]]
    if len(bad_files) > _NUM_NAMED:
        named.append(f"  and {len(bad_files) - _NUM_NAMED} more")
    first = f"{len(bad_files)} file(s) cannot be used as images:"
    last = "mend or remove them; data.on_bad_file=skip goes on without them and records which, if others are left"
    return DataError("\n".join([first, *named, last]))


def made_by() -> str:
    """12 hex digits over the code and the libraries that decide the pixels of a store, and over its layout."""
    told = [_FORMAT, source_digest("decode", "prepare"), version("pillow"), version("numpy")]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk; for a folder Windows neither needs nor allows it."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
