"""Every image of a manifest, decoded and prepared once, in a memory-mapped uint8 array that runs and processes share.

    folder/<key>/images.npy   (n, size, size, 1) uint8, row i is row i of the usable manifest
    folder/<key>/rows.json    how many images, the files that could not be decoded with their reasons, by which code and
                              libraries it was made, and the digest of images.npy

The key names all that decides a pixel: content of the data set, size, resize rule, the source of `decode` and
`prepare`, and the versions of PIL and NumPy; so a changed image or option never meets a stale store.  A store is built
under a file lock into `<key>.partial`, and renamed when it is complete and on disk: a killed build leaves nothing that
could be taken for one, and the next one goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.images.store.building import BadFile, build, made_by, refusal

__all__ = ["BadFile", "Progress", "Store", "open_store", "store_key"]

Progress = Callable[[int, int], None]


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

    A build that was killed, by SIGKILL, Ctrl-C or a power cut, is taken up where its journal ends.  A build that fails
    (full disk, bad files, a file that changes) leaves nothing.

    Args:
        manifest: the data set, as `read_manifest` gives it for the same `data`.
        data: image size, resize rule, and what a bad file does.
        folder: where stores are kept.
        on_progress: called with (images done, images in all) while a store is built; a build that is taken up begins
            with those that were done.

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
                    build(path, manifest, data, on_progress)
                    store = _read(path, manifest)
    except OSError as error:
        raise DataError(
            f"image store {path} cannot be read or written: {error}; free the disk or set CXR_HOME elsewhere"
        ) from error
    if store is None:
        raise DataError(f"image store {path} vanished as soon as it was built; is another program clearing {folder}?")
    if store.bad_files and data.on_bad_file == "stop":
        raise refusal(store.bad_files)
    return store


def store_key(manifest: Manifest, data: DataConfig) -> str:
    """20 hex digits over everything that decides a pixel of the store or its order."""
    told = json.dumps([made_by(), manifest.digest, data.image_size_px, data.resize])
    return hashlib.sha256(told.encode()).hexdigest()[:20]


def _read(path: Path, manifest: Manifest) -> Store | None:
    """The store at `path`, or None when it is absent or damaged (the caller then builds it anew).

    The key stands for the ids and their order, so that a store of a million images need not repeat them.
    """
    try:
        told = json.loads((path / "rows.json").read_text(encoding="ascii"))
        images = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
        bad = {one["image_id"]: str(one["reason"]) for one in told["bad_files"]}
        num_images = told["num_images"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, EOFError):
        return None
    bad_files = tuple(BadFile(row.path, bad[row.image_id]) for row in manifest.rows if row.image_id in bad)
    if len(bad_files) != len(bad) or not len(images) == num_images == len(manifest.rows) - len(bad):
        return None
    usable = manifest.without(bad) if bad else manifest
    return Store(images=images, manifest=usable, bad_files=bad_files, path=path)
