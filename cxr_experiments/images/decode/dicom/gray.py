"""Stored values become gray: modality LUT or rescale, VOI LUT or window, then 8 bits (DICOM PS3.3, C.11.1 and C.11.2).

A sample has at most 16 bits, so that the whole chain is computed once for each value that it could take, in float64,
and an image is looked up in that table: exact, and no copy of the image in floating point.  A file without window and
VOI LUT is scaled over all that its stored bits could hold, never over what one image happens to hold: else each film
would have a contrast of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode.dicom.elements import Elements
from cxr_experiments.images.decode.dicom.layout import GRAY, PALETTE, REPRESENTATION, Layout
from cxr_experiments.images.decode.dicom.stored import Stored
from cxr_experiments.images.decode.dicom.tables import Table, read_table
from cxr_experiments.images.decode.limits import Gray

Floats = NDArray[np.float64]

PADDING, PADDING_LIMIT = 0x00280120, 0x00280121
CENTER, WIDTH, INTERCEPT, SLOPE, FUNCTION = 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056
MODALITY_LUT, VOI_LUT, LUT_DESCRIPTOR, LUT_DATA = 0x00283000, 0x00283010, 0x00283002, 0x00283006
PALETTES = ((0x00281101, 0x00281201), (0x00281102, 0x00281202), (0x00281103, 0x00281203))
GRAY_TAGS = frozenset(
    (PADDING, PADDING_LIMIT, CENTER, WIDTH, INTERCEPT, SLOPE, FUNCTION, MODALITY_LUT, VOI_LUT, REPRESENTATION)
) | {tag for pair in PALETTES for tag in pair}


def to_gray(stored: Stored, elements: Elements, layout: Layout) -> Gray:
    """(rows, columns) uint8 in [0, 255], 0 black.

    Raises:
        BadImageError: a window or a table that cannot be applied.
    """
    values = _values(stored, layout)
    if stored.photometric in GRAY:
        return _looked_up(_gray_table(values, elements, layout), stored.words)
    if stored.photometric == PALETTE:
        return _looked_up(_palette_table(values, elements), stored.words)
    scaled = _looked_up(_to_eight_bits(values, 0.0, 2.0**layout.bits_stored - 1), stored.words)
    if stored.photometric == "RGB":
        return np.array(Image.fromarray(scaled).convert("L"), dtype=np.uint8)  # ITU-R 601 luma
    return np.ascontiguousarray(scaled[:, :, 0])  # the Y of YBR is that luma


def _looked_up(table: Gray, words: NDArray[np.uint8] | NDArray[np.uint16]) -> Gray:
    gray: Gray = table[words]
    return np.ascontiguousarray(gray)


def _values(stored: Stored, layout: Layout) -> NDArray[np.int64]:
    """(2**8 or 2**16,) int64: the stored value that each word of bits stands for."""
    bits = 8 * stored.words.dtype.itemsize
    words = np.arange(2**bits)
    if stored.packed:
        words, bits = (words >> (layout.high_bit + 1 - layout.bits_stored)) % 2**layout.bits_stored, layout.bits_stored
    return np.where(words >= 2 ** (bits - 1), words - 2**bits, words) if layout.signed else words


def _gray_table(values: NDArray[np.int64], elements: Elements, layout: Layout) -> Gray:
    """(number of words,) uint8: gray of each, MONOCHROME1 turned so that air is black, padding black as well."""
    lowest = -(2 ** (layout.bits_stored - 1)) if layout.signed else 0
    limits: Floats = np.array([lowest, lowest + 2**layout.bits_stored - 1], dtype=np.float64)
    stated = values.astype(np.float64)
    meant: Floats
    if table := _table(elements, MODALITY_LUT, "ModalityLUTSequence", layout):
        low, high, meant = 0.0, table.top, table.at(stated)
    else:
        slope, intercept = _rescale(elements)
        low, high = sorted((limits * slope + intercept).tolist())
        meant = stated * slope + intercept
    if table := _table(elements, VOI_LUT, "VOILUTSequence", layout):
        gray = _to_eight_bits(table.at(meant), 0.0, table.top)
    else:
        gray = _by_window(meant, elements, low, high)
    if layout.photometric == "MONOCHROME1":
        gray = 255 - gray
    gray[_is_padding(values, elements, layout)] = 0
    return gray


def _palette_table(values: NDArray[np.int64], elements: Elements) -> Gray:
    """(number of words,) uint8: ITU-R 601 luma of the colour that each value stands for."""
    levels = []
    for descriptor, data in PALETTES:
        palette = read_table(elements, descriptor, data, name="palette", signed=False)
        levels.append(_to_eight_bits(palette.at(values.astype(np.float64)), 0.0, palette.top))
    return np.array(Image.fromarray(np.stack(levels, axis=-1)[None]).convert("L"), dtype=np.uint8).reshape(-1)


def _table(elements: Elements, sequence: int, name: str, layout: Layout) -> Table | None:
    item = elements.first_item(sequence, (LUT_DESCRIPTOR, LUT_DATA), name)
    if item is None:
        return None
    return read_table(item, LUT_DESCRIPTOR, LUT_DATA, name=name, signed=layout.signed)


def _rescale(elements: Elements) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where the file has none."""
    slope, intercept = elements.decimal(SLOPE, "RescaleSlope"), elements.decimal(INTERCEPT, "RescaleIntercept")
    if slope is not None and not 1e-9 <= abs(slope) <= 1e9:
        raise BadImageError(f"damaged DICOM: a RescaleSlope of {slope:g} leaves no image")
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _by_window(meant: Floats, elements: Elements, low: float, high: float) -> Gray:
    """By the first window; without one over the full range, `low` to `high`."""
    center, width = elements.decimal(CENTER, "WindowCenter"), elements.decimal(WIDTH, "WindowWidth")
    if center is None and width is None:
        return _to_eight_bits(meant, low, high)
    if center is None or width is None:
        raise BadImageError("damaged DICOM: of WindowCenter and WindowWidth it has one alone")
    return _windowed(meant, center, width, elements.text(FUNCTION) or "LINEAR")


def _windowed(values: Floats, center: float, width: float, function: str) -> Gray:
    """PS3.3, C.11.2.1.2 and C.11.2.1.3; a LINEAR window of width 1 is a threshold."""
    least = 1.0 if function == "LINEAR" else 0.0
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or width < least or width == 0:
        raise BadImageError(f"damaged DICOM: a window of width {width:g} or an unknown VOILUTFunction")
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - center) / width, -700, 700)
        return _to_eight_bits(1 / (1 + np.exp(exponent)), 0.0, 1.0)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return np.where(values <= center, 0, 255).astype(np.uint8)
    return _to_eight_bits((values - center) / width + 0.5, 0.0, 1.0)


def _to_eight_bits(values: NDArray[np.int64] | Floats, low: float, high: float) -> Gray:
    """`low` and what lies below becomes 0, `high` 255; halves are rounded up."""
    return np.floor(np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


def _is_padding(values: NDArray[np.int64], elements: Elements, layout: Layout) -> NDArray[np.bool_]:
    """Which stored values fill what lies outside the film (PixelPaddingValue, up to PixelPaddingRangeLimit)."""
    limits = [*elements.words(PADDING)[:1], *elements.words(PADDING_LIMIT)[:1]]
    if not elements.words(PADDING):
        return np.zeros(len(values), dtype=np.bool_)
    if layout.signed:
        limits = [limit - 2**16 if limit >= 2**15 else limit for limit in limits]
    return (values >= min(limits)) & (values <= max(limits))
