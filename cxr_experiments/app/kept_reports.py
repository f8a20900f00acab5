"""The HTML reports of a home: of studies, with and without films, and of data sets.

A report is named by a word of the list that is made here, never by a path that came from elsewhere, so that no name
leads out of the folders.  A report that a symbolic link stands for is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cxr_experiments.errors import one_line
from cxr_experiments.record.data_report.finding import DataReport
from cxr_experiments.record.data_report.kept import from_json

TITLE_BYTES = 2_000  # of report.md: its first line is the study's question, and what must be known before any number
TITLE = re.compile(r"# (?P<title>.*?)(?: \((?P<flags>[A-Z]+(?:, [A-Z]+)*)\))?")


@dataclass(frozen=True)
class KeptReport:
    """One report.html.

    `key` names it in the list; `kind` is "study", "films" (the same with films, which may not be passed on) or "data";
    `title` and `note` come from files beside it, `flags` (SYNTHETIC, EXPLORATORY, LEAKING) too; `made_s` is when it was
    written, in seconds since 1970.
    """

    key: str
    kind: str
    path: Path
    title: str
    note: str
    flags: tuple[str, ...]
    made_s: float


def kept_reports(home: Path) -> dict[str, KeptReport]:
    """Key -> report, the newest first within each kind.

    Args:
        home: resolved; holds results/ and runs/.
    """
    found = [*_studies(home, "study", "results"), *_studies(home, "films", "runs/.reports"), *_data(home)]
    return {one.key: one for one in sorted(found, key=lambda one: one.made_s, reverse=True)}


def _studies(home: Path, kind: str, folder: str) -> Iterator[KeptReport]:
    for path in _pages(home, f"{folder}/*/*/report.html"):
        study, stage = path.parts[-3:-1]
        told = TITLE.fullmatch(_first_line(path.with_name("report.md")))
        title = re.sub(r"\\(.)", r"\1", told["title"]) if told else study
        flags = tuple(told["flags"].split(", ")) if told and told["flags"] else ()
        yield KeptReport(f"{kind}/{study}/{stage}", kind, path, title, f"{study}, {stage}", flags, path.stat().st_mtime)


def _data(home: Path) -> Iterator[KeptReport]:
    for path in _pages(home, "runs/.data/*/report.html"):
        digest, report = path.parent.name, _data_report(path.with_name("report.json"))
        title = f"{report.source}, {report.num_images:,} images" if report else "of another version"
        note = f"digest {digest}" + (f"; {report.told}" if report else "")
        flags = ("SYNTHETIC",) if report and report.synthetic else ()
        yield KeptReport(f"data/{digest}", "data", path, title, note, flags, path.stat().st_mtime)


def _data_report(path: Path) -> DataReport | None:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pages(home: Path, pattern: str) -> Iterator[Path]:
    """Regular files that lie where they seem to lie: no link in them or above them."""
    for path in home.glob(pattern):
        if path.is_file() and path.resolve() == path:
            yield path


def _first_line(path: Path) -> str:
    try:
        if path.is_symlink():
            return ""
        with path.open("rb") as stream:
            return one_line(stream.read(TITLE_BYTES).decode("utf-8", "replace").partition("\n")[0], limit=200)
    except OSError:
        return ""
