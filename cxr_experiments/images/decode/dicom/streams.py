"""What a compressed stream inside a DICOM file says of itself, read before a C library gets to see it.

A stream whose dimensions differ from the file's header, or whose header is out of shape, is refused here: the libraries
would allocate by what the stream says, whatever that is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode.dicom.layout import Layout
from cxr_experiments.images.decode.dicom.syntaxes import Codec
from cxr_experiments.images.decode.raster import bare_jpeg

_SOC_SIZ, _END = b"\xff\x4f\xff\x51", b"\xff\xd9"
_FRAMES = {"jpeg": (0xC0, 0xC1, 0xC3), "jpeg_ls": (0xF7,)}
_ALL_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # without tables and what is reserved
MAX_TILES = 4_096


@dataclass(frozen=True)
class _Shape:
    """px, components per pixel, bits per component."""

    width: int
    height: int
    components: int
    precision: int


def checked_stream(stream: bytes, layout: Layout, codec: Codec) -> bytes:
    """The stream as a codec may have it: whole, of the size and depth that the file's header states.

    Raises:
        BadImageError: truncated, damaged, or at odds with the header.
    """
    if codec.stream == "rle":
        _check_segments(stream, layout)
        return stream
    if codec.stream == "jpeg_2000":
        start = stream.find(_SOC_SIZ)  # some wrap the codestream into a JP2 file
        stream = stream[start:] if start >= 0 else b""
    if not stream.rstrip(b"\0\xff").endswith(_END):
        raise BadImageError(f"truncated or damaged {codec.name}: its stream has no end marker")
    try:
        shape = _codestream_shape(stream) if codec.stream == "jpeg_2000" else _frame_shape(stream, codec)
    except (struct.error, IndexError):
        raise BadImageError(f"damaged {codec.name}: the header of its stream breaks off") from None
    if (shape.width, shape.height, shape.components) != (layout.columns, layout.rows, layout.samples):
        raise BadImageError(
            f"damaged {codec.name}: its stream is {shape.width:,} x {shape.height:,} pixels of {shape.components} "
            f"samples, the file's header says {layout.columns:,} x {layout.rows:,} of {layout.samples}"
        )
    if not 2 <= shape.precision <= layout.bits_allocated:
        raise BadImageError(f"damaged {codec.name}: {shape.precision} bits in {layout.bits_allocated}")
    return bare_jpeg(stream) if codec.plugin == "pillow" else stream


def _frame_shape(stream: bytes, codec: Codec) -> _Shape:
    """Walk the segments of a JPEG or JPEG-LS stream up to the image data; there must be one frame header."""
    if not stream.startswith(b"\xff\xd8"):
        raise BadImageError(f"damaged {codec.name}: its stream does not begin as one")
    position, shapes = 2, []
    while True:
        if stream[position] != 0xFF:
            raise BadImageError(f"damaged {codec.name}: its segments do not lead to image data")
        while stream[position] == 0xFF:
            position += 1
        marker = stream[position]
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", stream, position + 1)
        if marker in _ALL_FRAMES:
            if marker not in _FRAMES[codec.stream]:
                raise BadImageError(f"{codec.name} of a kind that the transfer syntax does not have")
            precision, height, width, components = struct.unpack_from(">BHHB", stream, position + 3)
            shapes.append(_Shape(width, height, components, precision))
        if length < 2 or 0xD0 <= marker <= 0xD9 or marker in (0xDC, 0xDE, 0xDF):
            raise BadImageError(f"damaged {codec.name}: a marker out of place")
        position += 1 + length
    if len(shapes) != 1:
        raise BadImageError(f"damaged {codec.name}: {len(shapes)} frame headers instead of one")
    return shapes[0]


def _codestream_shape(stream: bytes) -> _Shape:
    """The SIZ segment that every JPEG 2000 codestream begins with (ISO 15444-1, A.5.1)."""
    x_size, y_size, x_start, y_start, x_tile, y_tile, _, _, components = struct.unpack_from(">8IH", stream, 8)
    if not components or not x_tile or not y_tile:
        raise BadImageError("damaged JPEG 2000: no components or empty tiles")
    if -(-x_size // x_tile) * -(-y_size // y_tile) > MAX_TILES:
        raise BadImageError(f"damaged JPEG 2000: more than {MAX_TILES:,} tiles")
    depths = {stream[42 + 3 * i] for i in range(components)}
    steps = {stream[43 + 3 * i] for i in range(components)} | {stream[44 + 3 * i] for i in range(components)}
    if len(depths) != 1 or steps != {1}:
        raise BadImageError("damaged JPEG 2000: components of different depth or density")
    return _Shape(x_size - x_start, y_size - y_start, components, (depths.pop() & 0x7F) + 1)


def _check_segments(stream: bytes, layout: Layout) -> None:
    """The header of an RLE frame: how many segments, and where each begins (PS3.5, G.5)."""
    if len(stream) < 64:
        raise BadImageError("truncated RLE Lossless: its header breaks off")
    num_segments, *offsets = struct.unpack_from("<16I", stream)
    expected = layout.samples * layout.bits_allocated // 8
    starts = offsets[:expected]
    if num_segments != expected or starts[0] != 64 or starts != sorted(starts) or starts[-1] >= len(stream):
        raise BadImageError(f"damaged RLE Lossless: its header does not lead to {expected} segments")
