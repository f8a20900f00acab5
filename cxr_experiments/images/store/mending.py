"""Stores that no run can use any more, and those whose pixels are no longer what was written, taken away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_experiments.images.store.building import file_sha256, made_by

OTHER = "made by other code or libraries: this version cannot use it"


def mend_stores(folder: Path) -> Iterator[str]:
    """Read every store through, remove the unusable ones, and say which and why; the next run builds its own anew.

    A store that is being built at this moment is passed over.  An unfinished one stays: its command goes on with it.

    Args:
        folder: where stores are kept.
    """
    keys = {path.name.removesuffix(".partial") for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else ()
    for key in sorted(keys):
        try:
            with FileLock(folder / f"{key}.lock", timeout=0):
                for path, judge in ((folder / key, _unusable), (folder / f"{key}.partial", _never_finished)):
                    if path.is_dir() and (why := judge(path)):
                        yield f"removed image store {path} ({_remove(path)} MiB): {why}"
        except Timeout:
            continue


def _unusable(store: Path) -> str:
    try:
        told = json.loads((store / "rows.json").read_text(encoding="ascii"))
        if told["made_by"] != made_by():
            return OTHER
        same = told["sha256"] == file_sha256(store / "images.npy")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {error}"
    return "" if same else "its pixels do not match their digest"


def _never_finished(store: Path) -> str:
    """Why no command will go on with an unfinished store; "" where the one that began it does."""
    try:
        with (store / "journal.jsonl").open(encoding="utf-8") as lines:
            told = json.loads(next(lines))
        return "" if told["store"] == f"{made_by()}/{store.name.removesuffix('.partial')}" else OTHER
    except (OSError, StopIteration, ValueError, KeyError, TypeError) as error:
        return f"its journal cannot be read: {error!r}"


def _remove(folder: Path) -> int:
    """Take a folder away; its size in MiB."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return size // 2**20
