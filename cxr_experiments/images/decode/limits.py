"""What every kind of image file has in common: gray pixels, a header, and the sizes beyond which none is opened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import BadImageError

Gray = NDArray[np.uint8]

# The largest detectors give about 5,000 x 4,000 pixels.  2**26 stays under the limit at which PIL warns, and keeps the
# worst file (RGBA) at 0.3 GB while it is decoded.
MAX_PIXELS = 2**26
MAX_SIDE_PX = 20_000
MIN_SIDE_PX = 16
MAX_FILE_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says of itself.

    Attributes:
        width, height: px as stored.
        mode: how pixels are coded: PIL's word ("L", "RGB", "I;16"), or for DICOM the photometric interpretation and the
            bits stored ("MONOCHROME2 12-bit").
    """

    width: int
    height: int
    mode: str


NO_HEADER = Header(0, 0, "")


@dataclass(frozen=True, eq=False)
class Film:
    """The pixels of one image, in full or reduced.

    Attributes:
        pixels: (ceil(height / reduction), ceil(width / reduction)) uint8; the last row and column may be partly filled.
        height, width: px of the image in full, as a viewer shows it.
        reduction: 1, 2, 4 or 8 px of the image are one of `pixels`, in either direction.
    """

    pixels: Gray
    height: int
    width: int
    reduction: int = 1


def check_dimensions(width: int, height: int) -> None:
    """Refuse by the header alone, before anything is allocated.

    Raises:
        BadImageError: absurdly large, or too small for a radiograph.
    """
    told = f"{width:,} x {height:,} pixels"
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        limits = f"{MAX_PIXELS:,} pixels, {MAX_SIDE_PX:,} a side"
        raise BadImageError(f"{told}: absurdly large (decompression bomb?); at most {limits}")
    if min(width, height) < MIN_SIDE_PX:
        raise BadImageError(f"{told}: too small for a radiograph; at least {MIN_SIDE_PX} a side")
