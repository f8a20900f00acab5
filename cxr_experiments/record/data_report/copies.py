"""One film more than once: in which files, on which side of a split, under how many labels and patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cxr_experiments.images.duplicates import exact_duplicates
from cxr_experiments.images.manifest import ImageRow
from cxr_experiments.record.data_report.finding import ERROR, INFO, WARNING, Finding, Looked
from cxr_experiments.record.report.tables import Table, counted

Group = tuple[int, ...]
Test = Callable[[Sequence[ImageRow]], bool]


def check_copies(looked: Looked) -> list[Finding]:
    """Equal bytes and equal pixels, then near copies; a group is told under every heading that it fits."""
    return [*_exact(looked), *_near(looked)]


def copies_table(looked: Looked) -> Table:
    """Groups of equal bytes, of equal pixels and of near copies, and where they lie."""
    by_id = {row.image_id: number for number, row in enumerate(looked.manifest.rows)}
    equal_bytes = [tuple(by_id[name] for name in group) for group in exact_duplicates(looked.manifest)]
    told = {
        "equal bytes": equal_bytes,
        "equal pixels in other bytes": [group for group in looked.equal_pixels if _differ(looked, group, "sha256")],
        "near copies": list(looked.near),
    }
    rows = tuple((name, *_told(looked, groups)) for name, groups in told.items())
    note = (
        "Across splits: training or validation on one side, test on the other. Near copies show one film in other "
        "pixels: re-encoded, resized, brighter."
    )
    columns = ("copies", "groups", "images", "across splits", "two labels", "two patient keys")
    return Table("Copies", note, columns, rows)


def across_sides(rows: Sequence[ImageRow]) -> bool:
    """Whether test and other images stand together; train and val are pooled and divided anew, copies together."""
    return len({row.split == "test" for row in rows}) > 1


def _two_labels(rows: Sequence[ImageRow]) -> bool:
    return len({row.label for row in rows}) > 1


def _two_patients(rows: Sequence[ImageRow]) -> bool:
    return len({row.patient for row in rows if row.patient}) > 1


def _not_together(rows: Sequence[ImageRow]) -> bool:
    """Whether nothing that a split heeds, neither patient nor equal bytes, keeps the rows on one side."""
    return len({row.patient for row in rows}) > 1 or not rows[0].patient


def _exact(looked: Looked) -> list[Finding]:
    groups = [*looked.equal_pixels, *_unreadable_twins(looked)]
    found = []
    conflicts = _where(looked, groups, _two_labels)
    if conflicts:
        sentence = f"{_films(conflicts)} under both labels: the same pixels, {' and '.join(looked.manifest.classes)}"
        advice = "One of the labels is wrong: find out which, and remove the other file."
        found.append(_finding(looked, ERROR, "label-conflict", sentence, advice, conflicts))
    across = _where(looked, groups, across_sides)
    if across:
        sentence = f"{_films(across)} both in training or validation and in test"
        advice = "Remove them from one side: a network that has seen an image is not tested by it."
        found.append(_finding(looked, ERROR, "duplicate-across-splits", sentence, advice, across))
    two_patients = _where(looked, groups, _two_patients)
    if two_patients:
        sentence = f"{_films(two_patients)} under more than one patient key"
        advice = (
            "Nothing for the split, which keeps equal files together; the number of patients is that much too high."
        )
        if any(_differ(looked, group, "sha256") for group in two_patients):
            advice = (
                "Remove the copies in other bytes, which a split does not keep together; the number of patients is "
                "that much too high."
            )
        found.append(_finding(looked, WARNING, "two-patients-one-image", sentence, advice, two_patients))
    loose = [group for group in _where(looked, groups, _not_together) if _differ(looked, group, "sha256")]
    loose = [group for group in loose if not across_sides(looked.rows(group))]
    if loose:
        sentence = f"{_films(loose)} in files of other bytes, which no patient key keeps together"
        advice = "Remove the copies: a split keeps equal files and patients together, and these are neither."
        found.append(_finding(looked, WARNING, "duplicate-not-grouped", sentence, advice, loose))
    if groups:
        sentence = f"{_films(groups)} of equal pixels"
        if any(row.split == "test" for row in looked.manifest.rows):
            sentence += f", {len(across) or 'none'} of them on both sides of the split"
        advice = "Nothing, or remove them: each counts as often as it is there."
        found.append(_finding(looked, INFO, "duplicates", sentence, advice, groups))
    return found


def _near(looked: Looked) -> list[Finding]:
    found = []
    conflicts = _where(looked, looked.near, _two_labels)
    if conflicts:
        sentence = f"{_films(conflicts)} in nearly equal pixels under both labels"
        advice = "Look at them in the page: if it is one film, one of the labels is wrong."
        found.append(_finding(looked, WARNING, "near-duplicate-label-conflict", sentence, advice, conflicts))
    across = _where(looked, looked.near, across_sides)
    if across:
        sentence = f"{_films(across)} in nearly equal pixels both in training or validation and in test"
        advice = "Look at them in the page, and remove one side: no patient key tells on them."
        found.append(_finding(looked, WARNING, "near-duplicate-across-splits", sentence, advice, across))
    apart = [group for group in _where(looked, looked.near, _not_together) if group not in across]
    if apart:
        sentence = f"{_films(apart)} in nearly equal pixels, which no patient key keeps together"
        advice = "Look at them in the page, and remove the copies: a split may put them on two sides."
        found.append(_finding(looked, WARNING, "near-duplicate-across-patients", sentence, advice, apart))
    if looked.near:
        sentence = f"{_films(looked.near)} in nearly equal pixels: re-encoded, resized or made brighter"
        advice = "Look at them in the page; where it is one film, keep the best."
        found.append(_finding(looked, INFO, "near-duplicates", sentence, advice, looked.near))
    return found


def _unreadable_twins(looked: Looked) -> list[Group]:
    """Groups of equal bytes that cannot be decoded, and so have no pixels to be equal."""
    by_id = {row.image_id: number for number, row in enumerate(looked.manifest.rows)}
    groups = [tuple(by_id[name] for name in group) for group in exact_duplicates(looked.manifest)]
    return [group for group in groups if not looked.fingerprints.readable[group[0]]]


def _where(looked: Looked, groups: Sequence[Group], test: Test) -> list[Group]:
    return [group for group in groups if test(looked.rows(group))]


def _differ(looked: Looked, group: Group, name: str) -> bool:
    return len({getattr(row, name) for row in looked.rows(group)}) > 1


def _films(groups: Sequence[Group]) -> str:
    """`1 film stands in 2 files`, `30 films stand in 62 files`."""
    stand = "stands" if len(groups) == 1 else "stand"
    return f"{counted(len(groups), 'film')} {stand} in {counted(sum(map(len, groups)), 'file')}"


def _told(looked: Looked, groups: Sequence[Group]) -> tuple[str, ...]:
    counts = [len(groups), sum(map(len, groups))]
    counts += [len(_where(looked, groups, test)) for test in (across_sides, _two_labels, _two_patients)]
    return tuple(f"{count:,}" for count in counts)


def _finding(looked: Looked, level: str, code: str, sentence: str, advice: str, groups: Sequence[Group]) -> Finding:
    return Finding(level, code, sentence, advice, looked.ids(groups))
