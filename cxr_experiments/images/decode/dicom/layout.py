"""How the pixels of a DICOM file lie: read from its header and checked, before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode.dicom.elements import Elements
from cxr_experiments.images.decode.limits import check_dimensions

# As much as MAX_PIXELS of 16-bit gray.
MAX_PIXEL_BYTES = 2**27
GRAY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
ROWS, COLUMNS = 0x00280010, 0x00280011
BITS_ALLOCATED, BITS_STORED, HIGH_BIT, REPRESENTATION = 0x00280100, 0x00280101, 0x00280102, 0x00280103
LAYOUT_TAGS = frozenset(
    (SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT, REPRESENTATION)
)


@dataclass(frozen=True)
class Layout:
    """The pixel module of a file (PS3.3, C.7.6.3), every value in the range that is read here.

    Attributes:
        rows, columns: px.
        samples: 1 or 3 per pixel.
        photometric: "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB" or a kind of "YBR".
        bits_allocated: 8 or 16 per sample.
        bits_stored, high_bit: how many of them count, and the place of the highest.
        signed: whether stored values are two's complement.
        planar: whether samples lie plane by plane instead of pixel by pixel.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool

    @property
    def mode(self) -> str:
        """Such as "MONOCHROME2 12-bit"."""
        return f"{self.photometric} {self.bits_stored}-bit"

    @property
    def num_bytes(self) -> int:
        """What the pixels take uncompressed; 4:2:2 shares its chroma between two pixels."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated // 8


def read_layout(elements: Elements) -> Layout:
    """The checked layout of a file.

    Raises:
        BadImageError: no image, more than one frame, absurd dimensions, or a coding that no radiograph has.
    """
    if not elements.words(ROWS) or not elements.words(COLUMNS):
        raise BadImageError("DICOM without an image: it has no Rows and Columns (a report or an index?)")
    columns, rows = _number(elements, COLUMNS, "Columns"), _number(elements, ROWS, "Rows")
    check_dimensions(columns, rows)
    _one_frame(elements)
    photometric = elements.text(PHOTOMETRIC)
    samples = _number(elements, SAMPLES, "SamplesPerPixel")
    if photometric not in (*GRAY, *COLOUR, PALETTE) or samples != (3 if photometric in COLOUR else 1):
        raise BadImageError(
            f"DICOM whose pixels are neither gray nor colour as known here; expected one sample of "
            f"{', '.join((*GRAY, PALETTE))}, or three of {', '.join(COLOUR)}"
        )
    allocated, stored = _number(elements, BITS_ALLOCATED, "BitsAllocated"), _number(elements, BITS_STORED, "BitsStored")
    high_bit = _number(elements, HIGH_BIT, "HighBit") if elements.words(HIGH_BIT) else stored - 1
    if allocated not in (8, 16) or not 1 <= stored <= allocated or not stored - 1 <= high_bit < allocated:
        raise BadImageError(
            f"DICOM of {stored} bits in {allocated}, the highest at {high_bit}; expected up to 16 bits in 8 or 16"
        )
    layout = Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=elements.words(REPRESENTATION)[:1] == (1,),
        planar=elements.words(PLANAR)[:1] == (1,),
    )
    if layout.num_bytes > MAX_PIXEL_BYTES:
        raise BadImageError(f"{columns:,} x {rows:,} pixels of {samples} samples: at most {MAX_PIXEL_BYTES:,} bytes")
    return layout


def _number(elements: Elements, tag: int, name: str) -> int:
    values = elements.words(tag)
    if len(values) != 1:
        raise BadImageError(f"damaged DICOM: {name} is missing or no single number")
    return values[0]


def _one_frame(elements: Elements) -> None:
    frames = elements.decimal(FRAMES, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise BadImageError(f"DICOM of {frames:.0f} frames; a radiograph has one: export the frames as files")
