"""One image file, JPEG, PNG or DICOM, becomes gray pixels, (height, width) uint8.

The only door to PIL and pydicom.  `raster` reads JPEG and PNG and holds PIL's resize and PNG writer, `changes` moves
and blurs whole images, `dicom` reads DICOM; which of them is asked is decided by a file's first bytes, never by its
name.  A file that cannot be decoded whole raises BadImageError with the reason, without the path and without anything
that a file says of a person.
Labels and the size that a model wants are none of this wing's business.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode.dicom import decode_dicom, is_dicom, read_dicom_header, read_patient_identity
from cxr_experiments.images.decode.limits import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    MAX_SIDE_PX,
    MIN_SIDE_PX,
    NO_HEADER,
    Film,
    Gray,
    Header,
)
from cxr_experiments.images.decode.raster import (
    decode_raster,
    decode_raster_reduced,
    encode_png,
    is_raster,
    read_raster_header,
    resize,
)

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE_PX",
    "MIN_SIDE_PX",
    "NO_HEADER",
    "Film",
    "Gray",
    "Header",
    "decode_bytes",
    "decode_file",
    "decode_reduced",
    "encode_png",
    "is_dicom",
    "read_header",
    "read_image_bytes",
    "read_patient_identity",
    "resize",
]


def decode_file(path: Path) -> Gray:
    """The gray pixels of one JPEG, PNG or DICOM file: (height, width) uint8 in [0, 255].

    Raises:
        BadImageError: missing, not a regular file, empty, none of the three kinds, truncated, damaged, or of absurd
            dimensions.
    """
    return decode_bytes(read_image_bytes(path))


def read_image_bytes(path: Path) -> bytes:
    """The bytes of an image file; pipes, folders, empty and monstrous files are refused before they are read.

    Raises:
        BadImageError: the file cannot be read, or is none that could hold a radiograph.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadImageError("not a regular file")
        if status.st_size == 0:
            raise BadImageError("empty file (0 bytes)")
        if status.st_size > MAX_FILE_BYTES:
            raise BadImageError(f"file of {status.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        return Path(path).read_bytes()
    except OSError as error:
        raise BadImageError(f"cannot be read: {error.strerror or error}") from error


def decode_bytes(data: bytes) -> Gray:
    """The gray pixels of one JPEG, PNG or DICOM file that is already in memory: (height, width) uint8 in [0, 255].

    Raises:
        BadImageError: empty, none of the three kinds, truncated, damaged, or of absurd dimensions.
    """
    if is_raster(data):
        return decode_raster(data)
    if is_dicom(data):
        return decode_dicom(data)
    if not data:
        raise BadImageError("empty file (0 bytes)")
    raise BadImageError("not a JPEG, PNG or DICOM file")  # its first bytes may be somebody's name


def decode_reduced(data: bytes, *, size_px: int, side: Callable[[int, int], int]) -> Film:
    """The pixels of an image in memory for a picture of `size_px`: a JPEG that is far larger is decoded at a fraction.

    Args:
        data: one JPEG, PNG or DICOM file.
        size_px: what the side will be shrunk to, px.
        side: which side: `min` for the shorter, `max` for the longer.

    Raises:
        BadImageError: as `decode_bytes`, and for the same files.
    """
    if is_raster(data):
        return decode_raster_reduced(data, size_px=size_px, side=side)
    pixels = decode_bytes(data)
    return Film(pixels, *pixels.shape)


def read_header(data: bytes) -> Header:
    """Size and mode of one image in memory, without decoding it.

    Raises:
        BadImageError: not an image, or a damaged header.
    """
    if is_raster(data):
        return read_raster_header(data)
    if is_dicom(data):
        return read_dicom_header(data)
    raise BadImageError("not a JPEG, PNG or DICOM file")
