"""The pixel data of a DICOM file become stored values: uncompressed ones by NumPy, others by pydicom's plug-ins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode.dicom.elements import Elements, SparingFile, hush
from cxr_experiments.images.decode.dicom.layout import Layout
from cxr_experiments.images.decode.dicom.streams import checked_stream
from cxr_experiments.images.decode.dicom.syntaxes import CODECS, Codec, require_plugin

PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS = 0x7FE00010, 0x7FE00008, 0x7FE00009
PIXEL_TAGS = frozenset((PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS))

Words = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Stored:
    """Pixels as they are stored.

    Attributes:
        words: (rows, columns) or (rows, columns, samples), uint8 or uint16: the bits of each sample.
        photometric: what the samples are; decompression may have changed it from what the header says.
        packed: whether the bits lie as the header says (bits_stored up to high_bit), as uncompressed and in RLE; other
            codecs give plain numbers, two's complement where the header says signed.
    """

    words: Words
    photometric: str
    packed: bool


def read_stored(elements: Elements, layout: Layout) -> Stored:
    """The stored values of a file.

    Raises:
        BadImageError: no pixel data, too little or too much of it, a damaged stream, or a plug-in that is missing.
    """
    raw = elements.raw(PIXEL_DATA)
    if not raw:
        if elements.has(FLOAT_PIXELS) or elements.has(DOUBLE_PIXELS):
            raise BadImageError("DICOM of floating-point pixels; a radiograph has whole numbers of up to 16 bits")
        raise BadImageError("DICOM without pixel data")
    codec = CODECS.get(elements.syntax)
    if codec is None:
        return _native(raw, elements, layout)
    require_plugin(codec)
    return _decompressed(checked_stream(_single_frame(raw, codec), layout, codec), layout, elements.syntax)


def _native(raw: bytes, elements: Elements, layout: Layout) -> Stored:
    missing = layout.num_bytes - len(raw)
    if missing > 0:
        raise BadImageError(f"truncated DICOM: {len(raw):,} bytes of pixels instead of {layout.num_bytes:,}")
    if len(raw) >= 2 * layout.num_bytes + 2:
        raise BadImageError(f"DICOM of {len(raw):,} bytes of pixels instead of {layout.num_bytes:,}: several frames?")
    order = "<" if elements.little_endian else ">"
    if layout.bits_allocated == 16:
        words: Words = np.frombuffer(raw, f"{order}u2", layout.num_bytes // 2).astype(np.uint16, copy=False)
    elif not elements.little_endian and elements.vr(PIXEL_DATA) == "OW":  # bytes in pairs, each pair swapped
        words = np.frombuffer(raw, np.uint16, len(raw) // 2).byteswap().view(np.uint8)[: layout.num_bytes]
    else:
        words = np.frombuffer(raw, np.uint8, layout.num_bytes)
    return Stored(_shaped(words, layout), layout.photometric, packed=True)


def _shaped(words: Words, layout: Layout) -> Words:
    rows, columns = layout.rows, layout.columns
    if layout.photometric == "YBR_FULL_422":  # two lumas, then the chroma that they share
        if columns % 2:
            raise BadImageError("damaged DICOM: YBR_FULL_422 with an odd number of columns")
        return words.reshape(rows, columns // 2, 4)[:, :, :2].reshape(rows, columns, 1)
    if layout.samples == 1:
        return words.reshape(rows, columns)
    if layout.planar:
        return np.moveaxis(words.reshape(layout.samples, rows, columns), 0, 2)
    return words.reshape(rows, columns, layout.samples)


def _single_frame(raw: bytes, codec: Codec) -> bytes:
    """The fragments of the one frame, joined (PS3.5, A.4)."""
    from pydicom.encaps import generate_fragments, parse_basic_offsets

    try:
        file = SparingFile(raw)
        if len(parse_basic_offsets(file)) > 1:
            raise BadImageError("DICOM of several frames by its offset table; a radiograph has one")
        return b"".join(generate_fragments(file))
    except BadImageError:
        raise
    except Exception:
        raise BadImageError(f"damaged {codec.name}: its fragments cannot be read to the end") from None


def _decompressed(stream: bytes, layout: Layout, syntax: str) -> Stored:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    hush()
    codec = CODECS[syntax]
    packed = codec.stream == "rle"
    told: Any = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_allocated if packed else layout.bits_stored,  # else pydicom clears the others
        "pixel_representation": int(layout.signed),
        "planar_configuration": int(layout.planar),
        "pixel_keyword": "PixelData",
    }
    try:
        frame = encapsulate([stream], has_bot=False)
        pixels, meaning = get_decoder(syntax).as_array(frame, raw=True, decoding_plugin=codec.plugin, **told)
    except Exception:  # the plug-ins have no errors of their own, and their texts may quote the file
        raise BadImageError(f"damaged or unsupported {codec.name}: its stream cannot be decoded") from None
    if pixels.dtype.itemsize > 2 or pixels.shape[:2] != (layout.rows, layout.columns):
        raise BadImageError(f"damaged {codec.name}: it decodes to another kind of image than its header says")
    words: Words = pixels.view(np.uint8) if pixels.dtype.itemsize == 1 else pixels.view(np.uint16)
    return Stored(words, str(meaning["photometric_interpretation"]), packed=packed)
