"""PneumoniaMNIST's .npz files as a manifest: the Kermany films cropped to small squares, their file names lost.

A file is known by its published MD5, and read as carefully as if it were not: what archive and arrays say of
themselves is compared with the published shapes before anything is inflated, no more is inflated than these shapes
hold, and nothing is unpickled.  Without file names nobody can tell whose films stand on two sides of a split: patients
are not verifiable.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.config.compose import datasets
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError
from cxr_experiments.images.decode import Gray
from cxr_experiments.images.manifest.rows import ImageRow, Manifest
from cxr_experiments.images.published import PNEUMONIAMNIST, Known, PublishedFile, known

_SPLITS = ("train", "val", "test")
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[|<][iu][1248])', 'fortran_order': False, 'shape': \((?P<shape>[0-9, ]{1,80})\), \}\s*"
)
# What zipfile and zlib raise on damaged or hostile archives.
_DAMAGED = (
    *(OSError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, KeyError, IndexError),
    *(NotImplementedError, RuntimeError, OverflowError, UnicodeDecodeError),
)
_LOADING = threading.Lock()


@dataclass(frozen=True)
class _Array:
    """One member of the archive: where its numbers begin and of which kind and shape they are."""

    member: zipfile.ZipInfo
    start: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


def read_pneumoniamnist(data: DataConfig) -> Manifest:
    """The file of `data.npz_size_px` in `data.root`, or where `download` puts it, as a manifest.

    Raises:
        DataError: there is none, it is not the published one, or it is damaged.
    """
    return read_npz(_find_file(data), PNEUMONIAMNIST[data.npz_size_px], data)


def read_npz(path: Path, published: PublishedFile, data: DataConfig) -> Manifest:
    """A file that must be `published`, its pixels hashed image by image and not kept.

    Raises:
        DataError: another MD5, other members, shapes, types or counts than published, or damage.
    """
    _check_md5(path, published)
    facts, size_px = _facts(), data.npz_size_px
    rows: list[ImageRow] = []
    with _opened(path, size_px) as archive:
        arrays = _arrays(archive, facts, size_px)
        for split in _SPLITS:
            labels = _labels(archive, arrays[f"{split}_labels"])
            for label in (0, 1):
                if (num_images := labels.count(label)) != facts.counts[split, label]:
                    expected = facts.counts[split, label]
                    raise ValueError(f"{split} has {num_images} images of label {label}, published are {expected}")
            images = _images(archive, arrays[f"{split}_images"], size_px)
            rows += [_row(split, index, *told) for index, told in enumerate(zip(labels, images, strict=True))]
    return Manifest(
        source=data.source,
        rows=tuple(rows),
        classes=data.classes,
        patients_verifiable=False,
        synthetic=False,
        root=str(path),
    )


def load_npz_row(row: ImageRow, manifest: Manifest) -> Gray:
    """The pixels of one row: (side, side) uint8.

    All images of the file are inflated once and held by the process, 5 MB at 28 px and 294 MB at 224 px; any number of
    threads share them.

    Raises:
        DataError: the file is no longer the one that the manifest lists.
    """
    path = Path(manifest.root)
    try:
        status = os.stat(path)
        with _LOADING:
            held = _held(path, row.width, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    split, _, index = row.image_id.partition("/")
    image: Gray = held[split][int(index)].copy()
    if _digest(image) != row.sha256:
        raise DataError(f"{path} changed after it was listed; let the data set rest and start again")
    return image


@lru_cache(maxsize=1)
def _held(path: Path, size_px: int, _mtime_ns: int, _num_bytes: int) -> dict[str, Gray]:
    """Split -> (n, side, side) uint8.  Time and size of the file stand in the key, so that a new file is read anew."""
    held: dict[str, Gray] = {}
    with _opened(path, size_px) as archive:
        arrays = _arrays(archive, _facts(), size_px)
        for split in _SPLITS:
            array = arrays[f"{split}_images"]
            held[split] = np.empty((array.shape[0], size_px, size_px), dtype=np.uint8)
            for index, image in enumerate(_images(archive, array, size_px)):
                held[split][index] = image
    return held


def _row(split: str, index: int, label: int, image: Gray) -> ImageRow:
    height, width = image.shape
    return ImageRow(
        image_id=f"{split}/{index:06d}",
        path="",
        label=label,
        patient="",
        loose_key="",
        split=split,
        width=width,
        height=height,
        mode="L",
        num_bytes=image.nbytes,
        sha256=_digest(image),
    )


def _digest(image: Gray) -> str:
    """64 hex digits over shape and pixels: the same whatever the archive's compression."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _facts() -> Known:
    facts = known("pneumoniamnist")
    assert facts is not None
    return facts


def _check_md5(path: Path, published: PublishedFile) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest == published.md5:
        return
    for size_px, other in PNEUMONIAMNIST.items():
        if digest == other.md5:
            raise DataError(f"{path} holds the images of {size_px} px: read it with data.npz_size_px={size_px}")
    raise DataError(
        f"{path} is not the published {published.name}: its MD5 is {digest}, expected {published.md5}. It was cut "
        f"short or changed: remove it and fetch it again, python -m cxr_experiments.download data=pneumoniamnist, or "
        f"by hand from {published.url}"
    )


@contextmanager
def _opened(path: Path, size_px: int) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever is wrong with it is told as one DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGED as error:
        cause = ascii(str(error)[:200])[1:-1]  # it may quote a name of 64 KB, or control characters
        raise DataError(f"{path} is no whole PneumoniaMNIST file of {size_px} px: {cause}; fetch it again") from error


def _arrays(archive: zipfile.ZipFile, facts: Known, size_px: int) -> dict[str, _Array]:
    """The six arrays by name, once every one is known to be of the published type and shape."""
    num_images = {split: facts.counts[split, 0] + facts.counts[split, 1] for split in _SPLITS}
    shapes: dict[str, tuple[int, ...]] = {f"{split}_images": (num_images[split], size_px, size_px) for split in _SPLITS}
    shapes |= {f"{split}_labels": (num_images[split], 1) for split in _SPLITS}
    members = archive.infolist()
    if sorted(member.filename for member in members) != sorted(f"{name}.npy" for name in shapes):
        told = ", ".join(member.filename[:40] for member in members[:8])
        raise ValueError(f"it holds {told or 'nothing'}; expected {', '.join(shapes)}")
    arrays = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is encrypted or compressed in an unknown way")
        with archive.open(member) as file:
            arrays[name] = _described(file, member)
        _check_array(name, arrays[name], shapes[name])
    return arrays


def _described(file: IO[bytes], member: zipfile.ZipInfo) -> _Array:
    """What NumPy's format, version 1.0, says of the array before its numbers begin."""
    start = file.read(10)
    length = int.from_bytes(start[8:10], "little")
    if start[:8] != b"\x93NUMPY\x01\x00" or length > _MAX_HEADER_BYTES:
        raise ValueError(f"{member.filename} is no array of NumPy's format 1.0")
    told = _HEADER.fullmatch(header := file.read(length))
    if told is None:
        raise ValueError(f"{member.filename} describes itself as {header[:80]!r}, no plain array of whole numbers")
    shape = tuple(int(side) for side in told["shape"].decode("ascii").split(",") if side.strip())
    return _Array(member, 10 + length, np.dtype(told["dtype"].decode("ascii")), shape)


def _check_array(name: str, array: _Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected or (name.endswith("_images") and array.dtype != np.uint8):
        raise ValueError(f"{name} is {array.dtype} {array.shape}; expected uint8 {expected}")
    num_bytes = array.start + int(np.prod(expected)) * array.dtype.itemsize
    if array.member.file_size != num_bytes:
        raise ValueError(f"{name} would inflate to {array.member.file_size:,} bytes; expected {num_bytes:,}")


def _labels(archive: zipfile.ZipFile, array: _Array) -> list[int]:
    (chunk,) = _chunks(archive, array, array.shape[0] * array.dtype.itemsize)
    labels: NDArray[np.generic] = np.frombuffer(chunk, dtype=array.dtype)
    return [int(label) for label in labels.tolist()]


def _images(archive: zipfile.ZipFile, array: _Array, size_px: int) -> Iterator[Gray]:
    for chunk in _chunks(archive, array, size_px * size_px):
        yield np.frombuffer(chunk, dtype=np.uint8).reshape(size_px, size_px)


def _chunks(archive: zipfile.ZipFile, array: _Array, num_bytes: int) -> Iterator[bytes]:
    """The array's bytes, `num_bytes` at a time; reading its end proves the checksum of the archive."""
    with archive.open(array.member) as file:
        file.read(array.start)
        for _ in range((array.member.file_size - array.start) // num_bytes):
            chunk = file.read(num_bytes)
            if len(chunk) != num_bytes:
                raise EOFError(f"{array.member.filename} ends early")
            yield chunk
        file.read(1)


def _find_file(data: DataConfig) -> Path:
    """`data.root` as a file or the folder of one, else what `download` left."""
    published = PNEUMONIAMNIST[data.npz_size_px]
    root = Path(data.root).expanduser().resolve() if data.root else datasets() / "pneumoniamnist"
    if root.is_file():
        return root
    if (path := root / published.name).is_file():
        return path
    others = [size_px for size_px, other in PNEUMONIAMNIST.items() if (root / other.name).is_file()]
    hint = f"; there is one of {others[0]} px: data.npz_size_px={others[0]}" if others else ""
    raise DataError(
        f"data=pneumoniamnist needs {published.name}, and {root} has none{hint}\n"
        f"fetch it: python -m cxr_experiments.download data=pneumoniamnist data.npz_size_px={data.npz_size_px}; or by "
        f"hand from {published.url} (MD5 {published.md5}), then data.root=DIR\n"
        "to try everything without a download, use the synthetic phantoms: data=phantom"
    )
