"""JPEG and PNG become gray pixels, (height, width) uint8; PIL's resize and PNG writer stand here too.

What is decided here, once for every command: colour becomes ITU-R 601 luma; 16-bit gray is scaled over its full range
(65535 becomes 255, division by 257, whatever range the film itself uses); transparency is laid over black, the colour
of air; an EXIF orientation is obeyed, so that the heart lies where a viewer shows it; colour profiles and gamma are
ignored.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode.limits import Film, Gray, Header, check_dimensions

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

# A JPEG is decoded at 1 / key when it is to be shrunk at least so many times, so that resize still has 2 (half size) or
# 1.5 times as many rows as it gives.  Copies of 224 px are decoded in full even for pictures of 64 px (3.5 times).
_REDUCTIONS = {8: 12.0, 4: 6.0, 2: 4.0}

# What PIL and zlib raise on damaged files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    struct.error,
    zlib.error,
)


def is_raster(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG or a PNG does."""
    return data.startswith((_JPEG, _PNG))


def decode_raster(data: bytes) -> Gray:
    """The gray pixels of one JPEG or PNG in memory: (height, width) uint8 in [0, 255].

    Raises:
        BadImageError: truncated, damaged, or of absurd dimensions.
    """
    if data.startswith(_JPEG):
        return _decode(_jpeg_parts(data), JpegImageFile).pixels
    return _decode(_png_parts(data), PngImageFile).pixels


def decode_raster_reduced(data: bytes, *, size_px: int, side: Callable[[int, int], int]) -> Film:
    """The same, but a JPEG whose side will be shrunk to `size_px` may be decoded at a half, a quarter or an eighth.

    libjpeg then leaves out the higher frequencies of each 8 x 8 block, which a shrunk picture cannot show, and the work
    they cost.  An image that is to be turned (EXIF) is decoded in full: it is rare, and its fraction of a last pixel
    would come to lie first.

    Raises:
        BadImageError: as `decode_raster`, and for the same files.
    """
    if not data.startswith(_JPEG):
        return _decode(_png_parts(data), PngImageFile)
    parts = _jpeg_parts(data)
    if _orientation(parts.exif) != 1:
        return _decode(parts, JpegImageFile)
    return _decode(parts, JpegImageFile, lambda width, height: _reduction(side(width, height) / size_px))


def bare_jpeg(data: bytes) -> bytes:
    """A JPEG without its metadata, which PIL would warn of where it is damaged.

    Raises:
        BadImageError: truncated or damaged.
    """
    return _jpeg_parts(data).pixels


def read_raster_header(data: bytes) -> Header:
    """Size and mode of one JPEG or PNG in memory, without decoding it.

    Raises:
        BadImageError: a damaged header.
    """
    try:
        if data.startswith(_JPEG):
            image: Image.Image = JpegImageFile(BytesIO(_jpeg_parts(data).pixels))
        else:
            image = PngImageFile(BytesIO(_png_parts(data).pixels))
    except _DECODER_ERRORS as error:
        raise BadImageError(f"damaged header: {error}") from error
    return Header(*image.size, image.mode)


def resize(image: Gray, height: int, width: int, *, box: tuple[float, float, float, float] | None = None) -> Gray:
    """A (h, w) uint8 image as (height, width) uint8: bilinear, anti-aliased (PIL widens the filter when it shrinks).

    Args:
        image: what is shrunk or enlarged.
        height, width: px of the result.
        box: left, top, right, bottom of the part that becomes the result, in px of `image`; without it, all of it.
    """
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box)
    return np.array(resized, dtype=np.uint8)


def encode_png(path: Path, image: Gray, *, compress_level: int = 1, dots_per_inch: int | None = None) -> None:
    """Write an 8-bit PNG, under a temporary name first.

    Args:
        path: where to.
        image: (height, width) uint8 for a gray one, (height, width, 3) for one of red, green and blue.
        compress_level: zlib's, from 0 to 9.
        dots_per_inch: how large it is printed, told in the file; None tells nothing.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        told = {"dpi": (dots_per_inch, dots_per_inch)} if dots_per_inch else {}
        Image.fromarray(image).save(partial, format="PNG", compress_level=compress_level, **told)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Parts:
    """An image file stripped of its metadata, and the EXIF block that stood in it (empty without one).

    PIL is handed no profiles, comments, previews and animation: their damage would become warnings, which cannot be
    silenced in one thread alone, and they are where a small file hides large data.
    """

    pixels: bytes
    exif: bytes


def _decode(
    parts: _Parts,
    opener: type[JpegImageFile] | type[PngImageFile],
    reduction_of: Callable[[int, int], int] = lambda width, height: 1,
) -> Film:
    """By the opener of one format: `Image.open` would warn about a large file before it can be refused."""
    try:
        image = opener(BytesIO(parts.pixels))
        width, height = image.size
        check_dimensions(width, height)
        reduction = reduction_of(width, height)
        # JPEG in colour: libjpeg hands out the luma channel itself, and skips the two others
        image.draft("L", (width // reduction, height // reduction) if reduction > 1 else None)
        if image.format == "JPEG":
            image.decodermaxblock = len(parts.pixels)  # one call instead of one per 64 KiB, each with its own copy
        image.load()
        pixels = _oriented(_gray(image), _orientation(parts.exif))
        return Film(pixels, height, width, reduction) if reduction > 1 else Film(pixels, *pixels.shape)
    except _DECODER_ERRORS as error:
        raise BadImageError(f"damaged or unsupported {opener.format}: {error}") from error


def _reduction(shrinking: float) -> int:
    """The fraction of its size at which a JPEG is decoded that is to be shrunk so many times."""
    return next((reduction for reduction, least in _REDUCTIONS.items() if shrinking >= least), 1)


def _png_parts(data: bytes) -> _Parts:
    """Walk the chunks up to the last; PIL itself checks neither all their checksums nor that there is a last one."""
    kept, exif, position, kind = [data[:8]], b"", 8, b""
    while kind != b"IEND":
        start, kind = position, data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[start : start + 4], "big")
        if position > len(data):
            raise BadImageError("truncated PNG: it breaks off before its end chunk")
        chunk = data[start:position]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise BadImageError(f"damaged PNG: the checksum of chunk {kind!r} does not fit")
        if kind == b"eXIf":
            exif = chunk[8:-4]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(chunk)
    return _Parts(pixels=b"".join(kept), exif=exif)


def _jpeg_parts(data: bytes) -> _Parts:
    """Walk the segments up to the image data; JFIF and Adobe segments stay, for they say how colour is coded.

    libjpeg fills a stream that breaks off with gray, so the end marker is looked for here.
    """
    kept, exif, position, marker = [data[:2]], b"", 2, 0
    while marker != 0xDA:
        start = position
        while data[position : position + 1] == b"\xff":
            position += 1
        marker = data[position] if start < position < len(data) else 0
        length = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 1 + length
        if marker < 0xC0 or length < 2 or position > len(data):
            raise BadImageError("damaged or truncated JPEG: its segments do not lead to image data")
        segment = data[start:position]
        if marker == 0xE1 and b"Exif\x00\x00" in segment[:16]:
            exif = segment[segment.index(b"Exif") + 6 :]
        if not 0xE1 <= marker <= 0xED and marker not in (0xEF, 0xFE):
            kept.append(segment)
    if data.rfind(b"\xff\xd9", position) < 0:
        raise BadImageError("truncated JPEG: it has no end marker")
    return _Parts(pixels=b"".join([*kept, data[position:]]), exif=exif)


def _gray(image: Image.Image) -> Gray:
    """Any mode that JPEG and PNG know -> (height, width) uint8."""
    if image.mode.startswith("I"):
        wide: NDArray[np.uint32] = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        return np.floor_divide(wide + 128, 257).astype(np.uint8)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return np.array(Image.alpha_composite(black, colour).convert("L"), dtype=np.uint8)
    if image.mode not in ("L", "1"):
        image = image.convert("RGB")
    return np.array(image if image.mode == "L" else image.convert("L"), dtype=np.uint8)


def _orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 (as stored) where there is none or the block is damaged."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (num_entries,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * num_entries, 12):
            tag, kind, _count, value = struct.unpack_from(order + "HHIH", exif, entry)
            if (tag, kind) == (0x0112, 3):  # Orientation, SHORT
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _oriented(image: Gray, orientation: int) -> Gray:
    """Turn and mirror the stored pixels the way EXIF 2.3, tag 0x0112 says."""
    if orientation in (5, 6, 7, 8):
        image = image.T
    if orientation in (3, 4, 7, 8):
        image = image[::-1, :]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
