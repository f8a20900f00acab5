"""Films that are unlike the rest: too dark, too bright, blank, blurred, of an odd size or shape.  Nothing worse than
info: what is odd may well be right, and a person has to look."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.images.manifest import Manifest
from cxr_experiments.record.data_report.finding import INFO, Finding, Looked
from cxr_experiments.record.report.tables import Table, counted

# Gray values of 255.  On the 5,856 official films means run from 59 to 222, standard deviations from 20 to 87.
DARK, BRIGHT, BLANK = 30.0, 230.0, 8.0
# Of the median over the set: there a quarter of it is passed by no film, and half of it by 6.
BLURRED = 0.25
ODD_SIZE, ODD_SHAPE = 4.0, 2.0


def check_quality(looked: Looked) -> list[Finding]:
    """One finding per kind of odd film."""
    prints, readable = looked.fingerprints, looked.fingerprints.readable == 1
    if not readable.any():
        return []
    side, aspect = _side(looked.manifest), _aspect(looked.manifest)
    odd: dict[str, tuple[str, NDArray[np.bool_]]] = {
        "dark": (f"darker than {DARK:g} of 255 on average", prints.brightness < DARK),
        "bright": (f"brighter than {BRIGHT:g} of 255 on average", prints.brightness > BRIGHT),
        "blank": (f"nearly blank (standard deviation under {BLANK:g} of 255)", prints.contrast < BLANK),
        "blurred": (
            "blurred or enlarged (a quarter of the usual sharpness or less)",
            prints.sharpness < BLURRED * np.median(prints.sharpness[readable]),
        ),
        "odd-size": (f"of an odd size (side more than {ODD_SIZE:g} times off)", _off(side, readable, ODD_SIZE)),
        "odd-shape": (f"of an odd shape (aspect more than {ODD_SHAPE:g} times off)", _off(aspect, readable, ODD_SHAPE)),
    }
    advice = "Look at them in the page: are they chest films, and whole?"
    found = []
    for code, (what, is_odd) in odd.items():
        ids = looked.ids([(int(number),) for number in np.flatnonzero(is_odd & readable)])
        if ids:
            are = "is" if len(ids) == 1 else "are"
            found.append(Finding(INFO, code, f"{counted(len(ids), 'film')} {are} {what}", advice, ids))
    return found


def sizes_table(manifest: Manifest) -> Table:
    """Size, shape, mode and bytes per class: medians with their ends."""
    rows = []
    for label, name in enumerate(manifest.classes):
        own = [row for row in manifest.rows if row.label == label and row.width]
        if not own:
            continue
        modes = Counter(row.mode for row in own).most_common()
        rows.append(
            (
                name,
                _spread([row.width for row in own]),
                _spread([row.height for row in own]),
                _spread([row.width / row.height for row in own], 2),
                _spread([row.num_bytes / 1024 for row in own]) if any(row.num_bytes for row in own) else "-",
                ", ".join(f"{mode} {count:,}" for mode, count in modes),
            )
        )
    note = "Median [smallest, largest] of the files as stored; mode is how pixels are coded (L gray, RGB colour)."
    columns = ("class", "width, px", "height, px", "width / height", "KiB", "mode")
    return Table("Size, shape and mode", note, columns, tuple(rows))


def _side(manifest: Manifest) -> NDArray[np.float64]:
    return np.array([(row.width * row.height) ** 0.5 for row in manifest.rows])


def _aspect(manifest: Manifest) -> NDArray[np.float64]:
    return np.array([row.width / row.height if row.height else 0.0 for row in manifest.rows])


def _off(values: NDArray[np.float64], readable: NDArray[np.bool_], factor: float) -> NDArray[np.bool_]:
    """Where a known value lies more than `factor` times above or below the median of all known ones."""
    known = readable & (values > 0)
    if not known.any():
        return known
    usual = np.median(values[known])
    off: NDArray[np.bool_] = known & ((values > factor * usual) | (values * factor < usual))
    return off


def _spread(values: list[float] | list[int], digits: int = 0) -> str:
    low, middle, high = np.min(values), np.median(values), np.max(values)
    if low == high:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"
