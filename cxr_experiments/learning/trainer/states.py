"""All of a training at the end of an epoch, kept as a file from which it goes on as if it had never stopped.

A state is a zip of NumPy arrays, stored and not compressed, and of what has no array as JSON.  It appears under its
name when it is whole and on the disk; the last two are kept, so that one is there whatever a kill or a full disk does
to the other.  Reading executes nothing, and holds no more than the file is long.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import struct
import tokenize
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import RunError, one_line
from cxr_experiments.learning.trainer.records import EpochRecord

Array = NDArray[Any]
NUM_KEPT = 2
_TOLD = "told.json"
# what zipfile, json and NumPy raise at bytes that are not theirs
_ODD = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError, RecursionError, SyntaxError),
    *(struct.error, zipfile.BadZipFile, NotImplementedError, tokenize.TokenError),
)


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training after `len(history)` epochs.

    Attributes:
        history: one record per epoch.
        kept_epoch: the epoch, from 0, whose weights would be kept if the training ended here.
        patience: best validation loss, best validation accuracy, epochs waited since.
        variables: of the fitted network, seeds of dropout included, then of its optimizer, in Keras' order.
        kept_weights: those of `kept_epoch`.
    """

    history: tuple[EpochRecord, ...]
    kept_epoch: int
    patience: tuple[float, float, int]
    variables: Sequence[Array]
    kept_weights: Sequence[Array]


def write_state(folder: Path, told: Mapping[str, Any], variables: Iterable[Any], kept: Iterable[Any]) -> None:
    """Keep a state in `folder` and remove what is older than the last two.

    Args:
        folder: made when it is not there.
        told: `history`, `kept_epoch` and `patience` as plain JSON.
        variables, kept: whatever NumPy takes; written one after the other, and never held together.

    Raises:
        RunError: the disk is full, or cannot be written; the states before are left as they are.
    """
    path = folder / f"epoch-{len(told['history']):05d}.state"
    draft = folder / f".{path.name}.{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        with draft.open("wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_TOLD, json.dumps(told))
                for group, arrays in (("variable", variables), ("kept", kept)):
                    for number, array in enumerate(arrays):
                        with archive.open(f"{group}-{number:05d}.npy", "w") as entry:
                            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        _sync(folder)
    except OSError as error:
        raise RunError(f"cannot keep the state of the training in {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    for older in _states(folder)[:-NUM_KEPT]:
        older.unlink(missing_ok=True)


def latest_state(folder: Path) -> TrainingState | None:
    """The last state that can be read; None without one."""
    for path in reversed(_states(folder)):
        try:
            return read_state(path)
        except RunError:
            continue  # the one before is as good, an epoch earlier
    return None


def read_state(path: Path) -> TrainingState:
    """One state.

    Raises:
        RunError: missing, broken, or not written by `write_state`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
                raise ValueError("a compressed entry")
            if sum(one.file_size for one in entries) > path.stat().st_size:
                raise ValueError("entries that overlap")
            told = json.loads(archive.read(_TOLD))
            groups = {group: _arrays(archive, group) for group in ("variable", "kept")}
        best_loss, best_accuracy, waited = told["patience"]
        history = tuple(_record(one) for one in told["history"])
        if [record.epoch for record in history] != list(range(len(history))) or not history:
            raise ValueError("epochs are missing")
        return TrainingState(
            history,
            int(told["kept_epoch"]),
            (float(best_loss), float(best_accuracy), int(waited)),
            groups["variable"],
            groups["kept"],
        )
    except _ODD as error:
        raise RunError(f"{path} is not a readable state of a training: {one_line(repr(error))}") from error


def told_of(history: Sequence[EpochRecord], kept_epoch: int, patience: tuple[float, float, int]) -> dict[str, Any]:
    """What `write_state` writes beside the arrays."""
    return {"history": [asdict(one) for one in history], "kept_epoch": kept_epoch, "patience": list(patience)}


def _arrays(archive: zipfile.ZipFile, group: str) -> list[Array]:
    names = sorted(name for name in archive.namelist() if name.startswith(f"{group}-"))
    return [_array(archive.read(name)) for name in names]


def _array(content: bytes) -> Array:
    """One array, once as many bytes follow as it says that it has: NumPy would ask for the memory first."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array of another version of the format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{len(content)} bytes for an array of the shape {shape}")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _record(values: Mapping[str, Any]) -> EpochRecord:
    metrics = {str(name): float(value) for name, value in values["metrics"].items()}
    return EpochRecord(int(values["epoch"]), metrics, float(values["duration_s"]), float(values["images_per_s"]))


def _states(folder: Path) -> list[Path]:
    """The states of a folder, oldest first."""
    return sorted(folder.glob("epoch-*.state"))


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk; Windows neither needs nor allows it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
