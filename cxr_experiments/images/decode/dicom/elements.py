"""A DICOM file's bytes become the few data elements that are asked for, as raw bytes.

pydicom walks the file.  Elements that are not asked for are stepped over; those that are stay bytes until one of the
methods here reads a number out of them, so that no name, date or identifier is ever decoded.  pydicom's messages
quote values: none is passed on.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from cxr_experiments.errors import BadImageError

PREFIX_BYTES = 132  # 128 bytes of preamble, then "DICM"
# Each element costs time and memory, a file of nothing else would cost minutes; the richest headers have thousands.
MAX_READS = 50_000
_SYNTAX, _PIXELS, _AFTER_PIXELS = 0x00020010, 0x7FE00008, 0x7FE00011
_NATIVE = {
    "1.2.840.10008.1.2": (True, True),  # implicit VR?, little endian?
    "1.2.840.10008.1.2.1": (False, True),
    "1.2.840.10008.1.2.2": (False, False),
}
_SPEAKERS = r"(pydicom|pylibjpeg|libjpeg|openjpeg|jpeg_ls)\b"


@dataclass(frozen=True)
class Elements:
    """The data elements that were asked for.

    Attributes:
        syntax: UID of the transfer syntax; "" inside a sequence.
        little_endian: byte order of numbers.
        found: pydicom's element of each tag, which holds raw bytes, or the items of a sequence.
    """

    syntax: str
    little_endian: bool
    found: Mapping[int, Any] = field(repr=False)

    def raw(self, tag: int) -> bytes:
        """The bytes of an element; empty when it is absent or has no value."""
        value = getattr(self.found.get(tag), "value", None)
        return bytes(value) if isinstance(value, bytes | bytearray) else b""

    def vr(self, tag: int) -> str:
        """The value representation that the file states; "" where it states none."""
        return str(getattr(self.found.get(tag), "VR", None) or "")

    def has(self, tag: int) -> bool:
        """Whether the file holds the element, with a value or without."""
        return tag in self.found

    def words(self, tag: int) -> tuple[int, ...]:
        """The 16-bit numbers of an element, unsigned; empty when it has none."""
        raw = self.raw(tag)
        order = "little" if self.little_endian else "big"
        return tuple(int.from_bytes(raw[i : i + 2], order) for i in range(0, len(raw) - 1, 2))  # type: ignore[arg-type]

    def text(self, tag: int) -> str:
        """The first value of a code such as "MONOCHROME2", in capitals; "" when there is none."""
        return self.raw(tag).split(b"\\")[0].strip(b" \0").decode("ascii", "replace").upper()

    def decimal(self, tag: int, name: str) -> float | None:
        """The first value of a decimal string; None when there is none.

        Raises:
            BadImageError: it is no finite number.
        """
        told = self.text(tag)
        if not told:
            return None
        # float() takes more than DICOM does: "nan", "1_000", numbers of any length
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(E[+-]?\d+)?", told[:32]) or len(told) > 32:
            raise BadImageError(f"damaged DICOM: {name} is no number")
        number = float(told)
        if not math.isfinite(number):
            raise BadImageError(f"damaged DICOM: {name} is no finite number")
        return number

    def first_item(self, tag: int, tags: tuple[int, ...], name: str) -> Elements | None:
        """Some elements of the first item of a sequence; None when it is absent or empty.

        Raises:
            BadImageError: the sequence cannot be read.
        """
        if tag not in self.found:
            return None
        element = self.found[tag]
        try:
            items = element.value
            if isinstance(items, bytes | bytearray):
                from pydicom.filereader import read_sequence

                coding = (element.is_implicit_VR, element.is_little_endian)
                items = read_sequence(SparingFile(items), *coding, len(items), "iso8859")
            # by get_item, for pydicom decodes an element that is asked for in another way
            return Elements("", self.little_endian, {tag: items[0].get_item(tag) for tag in tags}) if items else None
        except BadImageError:
            raise
        except Exception:
            raise BadImageError(f"damaged DICOM: its {name} cannot be read") from None


def is_dicom(data: bytes) -> bool:
    """Whether "DICM" stands behind the preamble; without that, nothing tells how the bytes are to be read."""
    return data[PREFIX_BYTES - 4 : PREFIX_BYTES] == b"DICM"


def read_elements(data: bytes, tags: frozenset[int], *, with_pixels: bool = False) -> Elements:
    """The wanted elements of a DICOM file: of its header, and of its pixel data if these are asked for.

    Raises:
        BadImageError: the file is damaged, or in a transfer syntax that is not read.
    """
    from pydicom.filereader import data_element_generator

    hush()
    file = SparingFile(data)
    file.seek(PREFIX_BYTES)

    def walk(wanted: frozenset[int], encoding: tuple[bool, bool], stop_before: int) -> dict[int, Any]:
        ends = lambda tag, _vr, _length: tag >= stop_before  # noqa: E731
        elements = data_element_generator(file, *encoding, stop_when=ends, specific_tags=sorted(wanted))
        return {int(element.tag): element for element in elements if element.tag in wanted}

    try:
        # The file meta information is explicit and little endian, whatever follows it.
        meta = walk(frozenset((_SYNTAX,)), _NATIVE["1.2.840.10008.1.2.1"], 0x00030000)
        syntax = Elements("", True, meta).text(_SYNTAX)
        encoding = _encoding(syntax)
        found = walk(tags, encoding, _AFTER_PIXELS if with_pixels else _PIXELS)
    except BadImageError:
        raise
    except Exception:  # pydicom raises what it meets, down to RecursionError; its text quotes the file
        raise BadImageError("damaged DICOM: its data elements cannot be read to the end") from None
    return Elements(syntax, encoding[1], found)


class SparingFile(BytesIO):
    """A file that may be read so many times: pydicom reads once or twice for each element, nested ones included."""

    num_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO."""
        self.num_reads += 1
        if self.num_reads > MAX_READS:
            raise BadImageError("DICOM of more elements than a radiograph has")
        return super().read(size)


def _encoding(syntax: str) -> tuple[bool, bool]:
    """(implicit VR, little endian) of a transfer syntax; what is compressed is explicit and little endian."""
    from cxr_experiments.images.decode.dicom.syntaxes import CODECS, name_of

    if syntax in _NATIVE:
        return _NATIVE[syntax]
    if syntax in CODECS:
        return False, True
    if not syntax:
        raise BadImageError("damaged DICOM: it does not say in which transfer syntax it is written")
    raise BadImageError(
        f"DICOM in transfer syntax {name_of(syntax)}, which is not read; write it anew, for example as Explicit VR "
        f"Little Endian"
    )


def hush() -> None:
    """Have pydicom and its plug-ins neither warn nor log: both would quote values, on stderr.

    `warnings.catch_warnings` changes the whole process, and files are decoded in threads; so the rule stays.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    rule = ("ignore", None, Warning, re.compile(_SPEAKERS), 0)
    if rule not in warnings.filters:
        warnings.filterwarnings("ignore", module=_SPEAKERS)
