"""A data report as one HTML file with pictures, which needs no network and prints well."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from cxr_experiments.images.decode import Gray, encode_png, resize
from cxr_experiments.images.manifest import ImageRow
from cxr_experiments.record.data_report.finding import DataReport, Looked

Load = Callable[[ImageRow], Gray]

PICTURE_PX = 176  # the longer side
_NUM_GROUPS, _NUM_OF_GROUP, _NUM_EXAMPLES = 8, 3, 6


@dataclass(frozen=True)
class Picture:
    """A film made small: PNG in base64, and what stands under it."""

    png: str
    image_id: str
    note: str


@dataclass(frozen=True)
class Section:
    """Pictures under one heading; those of a group stand side by side."""

    title: str
    note: str
    groups: tuple[tuple[Picture, ...], ...]


def write_page(report: DataReport, looked: Looked, load: Load) -> str:
    """The page as text.

    Args:
        report: what to say.
        looked: what it was made from, for the pictures.
        load: the pixels of a row; asked for readable rows alone.
    """
    environment = Environment(
        loader=PackageLoader("cxr_experiments.record.data_report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [*_found(report, looked, load), *_examples(looked, load), *_extremes(looked, load)]
    return environment.get_template("page.html.j2").render(report=report, sections=sections)


def _found(report: DataReport, looked: Looked, load: Load) -> list[Section]:
    """Pictures of what the findings name."""
    by_id = {row.image_id: number for number, row in enumerate(looked.manifest.rows)}
    sections = []
    for finding in report.findings:
        groups = [[by_id[name] for name in group] for group in finding.files[:_NUM_GROUPS]]
        if finding.code in _WITHOUT_PICTURES or not groups:
            continue
        rest = len(finding.files) - len(groups)
        note = finding.sentence + (f"; {rest:,} more in report.json" if rest > 0 else "")
        sections.append(Section(finding.code, note, _pictures(groups, looked, load)))
    return sections


# Files without pixels, and films that have nothing in common but a number.
_WITHOUT_PICTURES = ("unreadable", "number-collisions")


def _examples(looked: Looked, load: Load) -> list[Section]:
    """A few readable films of each class, evenly spaced over the list."""
    sections = []
    for label, name in enumerate(looked.manifest.classes):
        own = np.flatnonzero((looked.manifest.labels == label) & (looked.fingerprints.readable == 1))
        chosen = own[:: max(1, len(own) // _NUM_EXAMPLES)][:_NUM_EXAMPLES].tolist()
        if chosen:
            sections.append(Section(f"Examples of {name}", "", _pictures([[one] for one in chosen], looked, load)))
    return sections


def _extremes(looked: Looked, load: Load) -> list[Section]:
    """The smallest, largest, widest and tallest film, where they differ."""
    rows = looked.manifest.rows
    known = [number for number in np.flatnonzero(looked.fingerprints.readable).tolist() if rows[number].width]
    if len({(rows[number].width, rows[number].height) for number in known}) < 2:
        return []
    area = {number: rows[number].width * rows[number].height for number in known}
    shape = {number: rows[number].width / rows[number].height for number in known}
    chosen = dict.fromkeys(pick(one, key=one.__getitem__) for one in (area, shape) for pick in (min, max))
    note = "Smallest and largest, tallest and widest."
    return [Section("Extreme sizes", note, _pictures([[one] for one in chosen], looked, load))]


def _pictures(groups: Sequence[Sequence[int]], looked: Looked, load: Load) -> tuple[tuple[Picture, ...], ...]:
    shown = [[row for row in group if looked.fingerprints.readable[row]][:_NUM_OF_GROUP] for group in groups]
    return tuple(tuple(_picture(row, looked, load) for row in looked.rows(group)) for group in shown if group)


def _picture(row: ImageRow, looked: Looked, load: Load) -> Picture:
    film = load(row)
    scale = PICTURE_PX / max(film.shape)
    height, width = (max(1, round(side * scale)) for side in film.shape)
    told = [looked.manifest.classes[row.label], row.split, row.patient, f"{row.width} x {row.height}"]
    with TemporaryDirectory() as name:
        encode_png(Path(name) / "film.png", resize(film, height, width))
        png = base64.b64encode((Path(name) / "film.png").read_bytes()).decode("ascii")
    return Picture(png, row.image_id, ", ".join(part for part in told if part))
