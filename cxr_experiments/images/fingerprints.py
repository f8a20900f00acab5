"""Every image decoded once, and what is kept of it: a digest of its pixels, two small copies, and how it is exposed.

One streaming pass on all cores.  Records of fixed size are appended to a file in the order of the manifest, each with a
checksum, so that a pass that was killed goes on where it stopped and memory holds a few images at a time, whatever the
data set's size.  Nothing is judged here.

    folder/fingerprints-<key>.bin     one record per image
    folder/fingerprints-<key>.jsonl   the files that could not be decoded, with their reasons
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import BadImageError, DataError
from cxr_experiments.images.decode import Gray, resize
from cxr_experiments.images.manifest import ImageRow, Manifest, load_pixels, num_cores, source_digest
from cxr_experiments.images.prepare import prepare
from cxr_experiments.images.store import BadFile
from cxr_experiments.images.threads import in_order

Progress = Callable[[int, int], None]

FILM_PX, PREPARED_PX = 64, 32
# Both copies are means over blocks of one square of this side, so that a large film is resized once.
_SQUARE_PX = 256
_RECORD = np.dtype(
    [
        ("readable", "u1"),
        ("pixels", "u1", (32,)),
        ("brightness", "<f4"),
        ("contrast", "<f4"),
        ("sharpness", "<f4"),
        ("film", "u1", (FILM_PX, FILM_PX)),
        ("prepared", "u1", (PREPARED_PX, PREPARED_PX)),
        ("checksum", "<u4"),
    ]
)


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What one pass over a data set has left; row i is `manifest.rows[i]`, and arrays are mapped from disk.

    Attributes:
        readable: (n,) uint8, 1 where the file was decoded; everything below is 0 elsewhere.
        pixels: (n, 32) uint8, SHA-256 over height, width and gray pixels: equal pixels, however they were encoded.
        film: (n, 64, 64) uint8, the whole film squeezed into a square, whatever `data.resize` says.
        prepared: (n, 32, 32) uint8, the square that a model gets, made small.
        brightness, contrast: (n,) float32, mean and standard deviation of the gray values, in [0, 255].
        sharpness: (n,) float32, spread of the Laplacian at 256 x 256 px over the contrast: low is blurred or enlarged.
        bad_files: row number -> the file that could not be decoded, and why.
    """

    readable: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    film: NDArray[np.uint8]
    prepared: NDArray[np.uint8]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    bad_files: dict[int, BadFile]


def take_fingerprints(
    manifest: Manifest,
    data: DataConfig,
    *,
    folder: Path,
    again: bool = False,
    on_progress: Progress | None = None,
) -> Fingerprints:
    """The fingerprints of a manifest, from `folder` when they are there, else from one pass over the images.

    Args:
        manifest: the data set, as `read_manifest` gives it for the same `data`.
        data: the resize rule, and what makes a phantom.
        folder: of this data set; made when missing.
        again: decode every image again although all fingerprints are there.
        on_progress: called with (images done, images in all) while images are decoded.

    Raises:
        DataError: the folder cannot be written, or a file changed after it was listed.
    """
    path = folder / f"fingerprints-{_key(manifest, data)}.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if again:
                path.unlink(missing_ok=True)
            if not path.is_file() or path.stat().st_size != len(manifest.rows) * _RECORD.itemsize:
                _fill(path, manifest, data, on_progress)
            return _read(path, manifest)
    except OSError as error:
        raise DataError(
            f"fingerprints {path} cannot be read or written: {error}; free the disk or set CXR_HOME elsewhere"
        ) from error


def fingerprint_code() -> str:
    """64 hex digits over the code that decides a fingerprint."""
    return source_digest("decode", "prepare", "fingerprints")


def _key(manifest: Manifest, data: DataConfig) -> str:
    tools = [version("pillow"), version("numpy")]
    told = json.dumps([manifest.digest, data.resize, fingerprint_code(), tools, _RECORD.descr])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _read(path: Path, manifest: Manifest) -> Fingerprints:
    records = np.memmap(path, dtype=_RECORD, mode="r", shape=(len(manifest.rows),))
    bad_files = {
        number: BadFile(path=manifest.rows[number].path or manifest.rows[number].image_id, reason=reason)
        for number, reason in _reasons(path).items()
    }
    columns = {name: records[name] for name in _RECORD.names or () if name != "checksum"}
    return Fingerprints(**columns, bad_files=bad_files)


def _fill(path: Path, manifest: Manifest, data: DataConfig, on_progress: Progress | None) -> None:
    """Append what is missing to the partial file, and give it its name when it is whole.  The caller holds the lock."""
    partial = path.with_suffix(".partial")
    num_done = _intact(partial)
    _keep_reasons(path, num_done)
    rows = manifest.rows[num_done:]
    with partial.open("ab") as file, path.with_suffix(".jsonl").open("a", encoding="utf-8") as reasons:
        looked = in_order(lambda row: _look(row, manifest, data), rows, num_threads=num_cores())
        for number, found in enumerate(looked, start=num_done):
            if isinstance(found, BadFile):
                reasons.write(json.dumps({"row": number, "reason": found.reason}) + "\n")
                reasons.flush()
                found = _sealed(np.zeros((), dtype=_RECORD))
            file.write(found.tobytes())
            if on_progress is not None:
                on_progress(number + 1, len(manifest.rows))
        file.flush()
        os.fsync(file.fileno())
        os.fsync(reasons.fileno())
    os.replace(partial, path)


def _intact(partial: Path) -> int:
    """How many whole records a killed pass has left; what follows the first damaged one is cut off."""
    if not partial.is_file():
        return 0
    num_whole = partial.stat().st_size // _RECORD.itemsize
    num_intact = 0
    with partial.open("rb+") as file:
        while num_intact < num_whole:
            record = np.frombuffer(file.read(_RECORD.itemsize), dtype=_RECORD)[0]
            if record["checksum"] != _checksum(record):
                break
            num_intact += 1
        file.truncate(num_intact * _RECORD.itemsize)
    return num_intact


def _keep_reasons(path: Path, num_done: int) -> None:
    """Forget the reasons of rows that will be looked at again."""
    kept = {number: reason for number, reason in _reasons(path).items() if number < num_done}
    lines = [json.dumps({"row": number, "reason": reason}) + "\n" for number, reason in kept.items()]
    path.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")


def _reasons(path: Path) -> dict[int, str]:
    """Row number -> why the file could not be decoded; a last line that was cut off is left out."""
    reasons = path.with_suffix(".jsonl")
    lines = reasons.read_text(encoding="utf-8").splitlines(keepends=True) if reasons.is_file() else []
    told = [json.loads(line) for line in lines if line.endswith("\n")]
    return {int(one["row"]): str(one["reason"]) for one in told}


def _look(row: ImageRow, manifest: Manifest, data: DataConfig) -> NDArray[np.void] | BadFile:
    try:
        image = load_pixels(row, manifest, data)
    except BadImageError as error:
        return BadFile(path=row.path, reason=str(error))
    return _record(image, data.resize)


def _record(image: Gray, resize_rule: str) -> NDArray[np.void]:
    square = resize(image, _SQUARE_PX, _SQUARE_PX)
    prepared = square if resize_rule == "squash" else prepare(image, size_px=_SQUARE_PX, resize=resize_rule)[:, :, 0]
    gray = square.astype(np.int16)
    laplacian = gray[1:-1, :-2] + gray[1:-1, 2:] + gray[:-2, 1:-1] + gray[2:, 1:-1] - 4 * gray[1:-1, 1:-1]
    record = np.zeros((), dtype=_RECORD)
    record["readable"] = 1
    record["pixels"] = np.frombuffer(_pixel_digest(image), dtype=np.uint8)
    record["brightness"], record["contrast"] = gray.mean(), gray.std()
    record["sharpness"] = laplacian.std() / max(float(record["contrast"]), 1.0)
    record["film"], record["prepared"] = _shrunk(square, FILM_PX), _shrunk(prepared, PREPARED_PX)
    return _sealed(record)


def _pixel_digest(image: Gray) -> bytes:
    digest = hashlib.sha256(np.array(image.shape, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _shrunk(square: Gray, size_px: int) -> Gray:
    """Each pixel the mean of the block that it covers."""
    block = _SQUARE_PX // size_px
    sums = square.reshape(size_px, block, size_px, block).sum(axis=(1, 3), dtype=np.uint32)
    means: Gray = ((sums + block * block // 2) // (block * block)).astype(np.uint8)
    return means


def _sealed(record: NDArray[np.void]) -> NDArray[np.void]:
    record["checksum"] = _checksum(record)
    return record


def _checksum(record: NDArray[np.void] | np.void) -> int:
    return zlib.crc32(record.tobytes()[:-4])
