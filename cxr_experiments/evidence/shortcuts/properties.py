"""What is known of a file before it is decoded, as numbers: size, shape and mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.images.manifest import ImageRow, Manifest

PROPERTIES = ("bytes", "bytes per pixel", "width", "height", "aspect ratio", "mode")


@dataclass(frozen=True)
class Variation:
    """The values of one property over some rows, or why there is nothing to learn from them.

    Attributes:
        name: one of `PROPERTIES`.
        values: (n,) float64, finite; empty when `note` says why there are none.
        note: "constant: 224", "not known", "" for a property that varies.
    """

    name: str
    values: Floats
    note: str


def properties_of(rows: Sequence[ImageRow], *, synthetic: bool) -> tuple[Variation, ...]:
    """Every property of the rows, in the order of `PROPERTIES`; rows must have readable headers.

    A mode has no order: its value is 1 where it is not the commonest one.
    """
    width, height, size = (np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in _COUNTED)
    modes = [row.mode for row in rows]
    common = Counter(modes).most_common(1)[0][0] if modes else ""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "bytes": size,
            "bytes per pixel": size / (width * height),
            "width": width,
            "height": height,
            "aspect ratio": width / height,
            "mode": np.array([mode != common for mode in modes], dtype=np.float64),
        }
    unknown = {"bytes", "bytes per pixel"} if synthetic else set()
    return tuple(_variation(name, values[name], common, known=name not in unknown) for name in PROPERTIES)


_COUNTED = ("width", "height", "num_bytes")


def _variation(name: str, values: Floats, common: str, *, known: bool) -> Variation:
    if not known or not len(values):
        return Variation(name, np.zeros(0), "phantoms have no files" if not known else "no image")
    if np.all(values == values[0]):
        return Variation(name, np.zeros(0), f"constant: {common if name == 'mode' else f'{values[0]:.4g}'}")
    return Variation(name, values, "")


def is_high(values: Floats) -> NDArray[np.bool_]:
    """(n,) whether a value is above the median; where nothing is, the commonest value is the largest one: at it."""
    above: NDArray[np.bool_] = values > np.median(values)
    return above if above.any() else values >= np.median(values)


def judged_rows(manifest: Manifest) -> NDArray[np.int64]:
    """Row numbers that may be looked at with their labels: readable headers, and no official test row."""
    rows = enumerate(manifest.rows)
    return np.array([number for number, row in rows if row.split != "test" and row.width > 0], dtype=np.int64)
