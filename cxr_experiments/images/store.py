"""Every image of a manifest, decoded and prepared once, in a memory-mapped uint8 array that runs and processes share.

    folder/<key>/images.npy   (n, size, size, 1) uint8, row i is row i of the usable manifest
    folder/<key>/rows.json    the image ids in that order, and the files that could not be decoded with their reasons

The key names all that decides a pixel: content of the data set, size, resize rule, the source of `decode` and
`prepare`, and the versions of PIL and NumPy; so a changed image or option never meets a stale store.  A store is built
under a file lock into `<key>.partial`, and renamed when it is complete and on disk: a killed build leaves nothing that
could be taken for one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import BadImageError, DataError
from cxr_experiments.images.decode import Gray
from cxr_experiments.images.manifest import ImageRow, Manifest, load_pixels, num_cores, source_digest
from cxr_experiments.images.prepare import prepare

Progress = Callable[[int, int], None]

_FORMAT = 1
_NUM_NAMED = 20  # bad files spelt out in a message; the rest is counted
_NUM_AHEAD = 64  # images decoded before they can be written: at 1024 px, 64 MB
_HEADER_BYTES = 128


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be decoded: its full path, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Store:
    """Prepared images, ready to be read by any number of processes.

    Attributes:
        images: (n, size, size, 1) uint8, memory-mapped and read-only; row i is `manifest.rows[i]`.
        manifest: the usable images: the manifest that was asked for, less the bad files.
        bad_files: what was left out under data.on_bad_file=skip; empty otherwise.
        path: folder of the store.
    """

    images: np.memmap[tuple[int, ...], np.dtype[np.uint8]]
    manifest: Manifest
    bad_files: tuple[BadFile, ...]
    path: Path


def open_store(manifest: Manifest, data: DataConfig, *, folder: Path, on_progress: Progress | None = None) -> Store:
    """The store of a manifest, built now if it does not stand yet; a second process waits for the first and shares it.

    Args:
        manifest: the data set, as `read_manifest` gives it for the same `data`.
        data: image size, resize rule, and what a bad file does.
        folder: where stores are kept.
        on_progress: called with (images done, images in all) while a store is built.

    Raises:
        DataError: files cannot be decoded and data.on_bad_file=stop; no image is usable; the folder cannot be written.
    """
    path = folder / store_key(manifest, data)
    try:
        store = _read(path, manifest)
        if store is None:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{path.name}.lock"):
                store = _read(path, manifest)  # another process may have built it meanwhile
                if store is None:
                    _build(path, manifest, data, on_progress)
                    store = _read(path, manifest)
    except OSError as error:
        raise DataError(
            f"image store {path} cannot be read or written: {error}; free the disk or set CXR_HOME elsewhere"
        ) from error
    if store is None:
        raise DataError(f"image store {path} vanished as soon as it was built; is another program clearing {folder}?")
    if store.bad_files and data.on_bad_file == "stop":
        raise _refusal(store.bad_files)
    return store


def store_key(manifest: Manifest, data: DataConfig) -> str:
    """20 hex digits over everything that decides a pixel of the store or its order."""
    code = source_digest("decode", "prepare")
    tools = [version("pillow"), version("numpy")]
    told = json.dumps([_FORMAT, manifest.digest, data.image_size_px, data.resize, code, tools])
    return hashlib.sha256(told.encode()).hexdigest()[:20]


def _read(path: Path, manifest: Manifest) -> Store | None:
    """The store at `path`, or None when it is absent or damaged (the caller then builds it anew)."""
    paths = {row.image_id: row.path for row in manifest.rows}
    try:
        told = json.loads((path / "rows.json").read_text(encoding="ascii"))
        images = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
        bad_files = tuple(BadFile(path=paths[bad["image_id"]], reason=bad["reason"]) for bad in told["bad_files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, EOFError):
        return None
    usable = manifest.without(bad["image_id"] for bad in told["bad_files"])
    if [row.image_id for row in usable.rows] != told["image_ids"] or len(images) != len(usable.rows):
        return None
    return Store(images=images, manifest=usable, bad_files=bad_files, path=path)


def _build(path: Path, manifest: Manifest, data: DataConfig, on_progress: Progress | None) -> None:
    """Make the store beside its place, and move it there when it is whole.  The caller holds the lock."""
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed build left
    partial.mkdir()
    try:
        bad_files = _write(partial, manifest, data, on_progress)
        if bad_files and data.on_bad_file == "stop":
            raise _refusal(bad_files)
        if path.exists():
            shutil.rmtree(path)  # damaged, or it would have been read
        os.replace(partial, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(partial: Path, manifest: Manifest, data: DataConfig, on_progress: Progress | None) -> tuple[BadFile, ...]:
    """Fill `partial` with images.npy and rows.json; returns the files that could not be decoded."""
    good: list[str] = []
    bad: list[dict[str, str]] = []
    bad_files: list[BadFile] = []
    with open(partial / "images.npy", "wb") as file:
        file.write(b"\0" * _HEADER_BYTES)  # the header comes last: until then this is no array
        prepared = _prepared(manifest, data)
        for num_done, (row, image) in enumerate(zip(manifest.rows, prepared, strict=True), start=1):
            if isinstance(image, BadFile):
                bad_files.append(image)
                bad.append({"image_id": row.image_id, "reason": image.reason})
            else:
                good.append(row.image_id)
                file.write(image.tobytes())
            if on_progress is not None:
                on_progress(num_done, len(manifest.rows))
        if not good:
            raise _refusal(tuple(bad_files))
        file.seek(0)
        file.write(_npy_header(len(good), data.image_size_px))
        file.flush()
        os.fsync(file.fileno())
    with open(partial / "rows.json", "w", encoding="ascii") as file_of_rows:
        json.dump({"image_ids": good, "bad_files": bad}, file_of_rows)
        file_of_rows.flush()
        os.fsync(file_of_rows.fileno())
    _sync_folder(partial)
    return tuple(bad_files)


def _prepared(manifest: Manifest, data: DataConfig) -> Iterator[Gray | BadFile]:
    """One prepared image or bad file per row, in order, all cores at work: PIL and NumPy free the interpreter lock."""
    waiting: deque[Future[Gray | BadFile]] = deque()
    with ThreadPoolExecutor(max_workers=num_cores()) as pool:
        for row in manifest.rows:
            waiting.append(pool.submit(_prepare_row, row, manifest, data))
            if len(waiting) == _NUM_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _prepare_row(row: ImageRow, manifest: Manifest, data: DataConfig) -> Gray | BadFile:
    try:
        return prepare(load_pixels(row, manifest, data), size_px=data.image_size_px, resize=data.resize)
    except BadImageError as error:
        return BadFile(path=row.path, reason=str(error))


def _npy_header(num_images: int, size_px: int) -> bytes:
    """Version 1.0 of NumPy's format, padded to a length that does not depend on the number of images."""
    shape = f"({num_images}, {size_px}, {size_px}, 1)"
    told = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode("ascii")
    magic = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + told.ljust(_HEADER_BYTES - 11) + b"\n"


def _refusal(bad_files: tuple[BadFile, ...]) -> DataError:
    """All that a user needs to mend or to pass over the bad files."""
    named = [f"  {bad.path}: {bad.reason}" for bad in bad_files[:_NUM_NAMED]]
    if len(bad_files) > _NUM_NAMED:
        named.append(f"  and {len(bad_files) - _NUM_NAMED} more")
    first = f"{len(bad_files)} file(s) cannot be used as images:"
    last = "mend or remove them; data.on_bad_file=skip goes on without them and records which, if others are left"
    return DataError("\n".join([first, *named, last]))


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk; Windows neither needs nor allows it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
