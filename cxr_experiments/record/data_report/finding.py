"""The values of a data report: what was found, and the report that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxr_experiments.evidence.shortcuts import Association
from cxr_experiments.images.fingerprints import Fingerprints
from cxr_experiments.images.manifest import ImageRow, Manifest
from cxr_experiments.record.report.tables import Table, counted

ERROR, WARNING, INFO = "error", "warning", "info"
LEVELS = (ERROR, WARNING, INFO)


@dataclass(frozen=True)
class Finding:
    """One thing found in a data set.

    Attributes:
        level: "error" (a result on these images would be wrong), "warning" (look before you trust one) or "info".
        code: a name that stays, such as "duplicate-across-splits"; docs/verify.md explains each.
        sentence: what was found, with its numbers.
        advice: what to do about it.
        files: groups of image ids; those of one group belong together, as a film and its copies do.
        reasons: what is wrong with each group; empty where the sentence says it of all.
    """

    level: str
    code: str
    sentence: str
    advice: str
    files: tuple[tuple[str, ...], ...] = ()
    reasons: tuple[str, ...] = ()

    def listed(self, limit: int) -> list[str]:
        """The first groups as lines: `a = b` for equal files, `a ~ b` for near ones, `a, b` for what shares a key."""
        mark = " ~ " if "near" in self.code else ", " if self.code in _SHARED_KEY else " = "
        lines = [mark.join(group) for group in self.files[:limit]]
        return [f"{line}: {why}" for line, why in zip(lines, self.reasons, strict=False)] if self.reasons else lines


_SHARED_KEY = ("number-collisions", "patient-across-splits")


@dataclass(frozen=True, eq=False)
class Looked:
    """A data set with everything that was found out about its images, which the checks judge.

    Attributes:
        manifest: the data set.
        fingerprints: of its rows.
        equal_pixels: groups of rows with equal pixels, whatever their bytes.
        near: groups of rows that show one film in different pixels; rows of equal pixels stand in them together.
        associations: available, visible and shift, as `evidence.shortcuts` gives them.
    """

    manifest: Manifest
    fingerprints: Fingerprints
    equal_pixels: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    associations: tuple[Association, ...]

    def rows(self, group: Sequence[int]) -> list[ImageRow]:
        """The rows with these numbers."""
        return [self.manifest.rows[number] for number in group]

    def ids(self, groups: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        """Groups of row numbers as groups of image ids."""
        return tuple(tuple(row.image_id for row in self.rows(group)) for group in groups)


@dataclass(frozen=True)
class DataReport:
    """Everything that was found in a data set.

    Attributes:
        check: what the report depends on beside the images: code, versions, resize rule, levels.
        made_at: local time with its zone, ISO 8601.
        duration_s: of the look.
        source, root: as in the manifest; root is where the images lay when they were looked at.
        digest: of the manifest; usable_digest: of the same less the files that cannot be decoded, by which runs know
            it under data.on_bad_file=skip.
        resize: the rule under which pixels were looked at.
        synthetic: True for phantoms.
        num_images: all files, readable or not.
        findings: errors first.
        tables: how images, patients, copies, sizes and shortcuts are spread.
        associations: the numbers behind the tables of shortcuts.
    """

    check: str
    made_at: str
    duration_s: float
    source: str
    root: str
    digest: str
    usable_digest: str
    resize: str
    synthetic: bool
    num_images: int
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]
    associations: tuple[Association, ...]

    def count(self, level: str) -> int:
        """Findings of a level."""
        return sum(one.level == level for one in self.findings)

    @property
    def made(self) -> str:
        """`2026-11-24 16:10`."""
        return self.made_at[:16].replace("T", " ")

    @property
    def told(self) -> str:
        """`0 errors, 3 warnings`."""
        return f"{counted(self.count(ERROR), 'error')}, {counted(self.count(WARNING), 'warning')}"
