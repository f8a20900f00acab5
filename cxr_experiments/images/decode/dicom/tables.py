"""Look-up tables that a DICOM file brings along: modality LUT, VOI LUT and the three palettes (PS3.3, C.11.1.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode.dicom.elements import Elements


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the values `first`, `first` + 1 and so on.

    Attributes:
        first: the value that the first entry stands for; smaller ones take the first entry, larger ones the last.
        entries: (num_entries,) float64 in [0, top].
        top: the largest that an entry could be: 255 to 65535.
    """

    first: int
    entries: NDArray[np.float64]
    top: float

    def at(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry of each value, shape as given; fractions are cut off."""
        places = np.clip(np.floor(values) - self.first, 0, len(self.entries) - 1)
        found: NDArray[np.float64] = self.entries[places.astype(np.int64)]
        return found


def read_table(elements: Elements, descriptor: int, data: int, *, name: str, signed: bool) -> Table:
    """The table that two elements describe.

    Args:
        elements: the file, or the sequence item that holds the table.
        descriptor, data: tags.
        name: of the table, for messages.
        signed: how to read `first` where the file does not state it.

    Raises:
        BadImageError: missing, of odd depth, or shorter than it claims.
    """
    told, raw = elements.words(descriptor), elements.raw(data)
    if len(told) != 3 or not 8 <= told[2] <= 16:
        raise BadImageError(f"damaged DICOM: the descriptor of its {name} is missing or out of range")
    num_entries, first, bits = told[0] or 2**16, told[1], told[2]
    if elements.vr(descriptor) == "SS" or (signed and elements.vr(descriptor) != "US"):
        first -= 2**16 if first >= 2**15 else 0
    if len(raw) >= 2 * num_entries:
        entries = np.frombuffer(raw, "<u2" if elements.little_endian else ">u2", num_entries)
    elif len(raw) >= num_entries and bits == 8:
        entries = np.frombuffer(raw, np.uint8, num_entries)
    else:
        raise BadImageError(f"damaged DICOM: its {name} has fewer entries than it claims")
    top = 2.0**bits - 1
    return Table(first, np.minimum(entries.astype(np.float64), top), top)
