"""Patients on both sides of the source's own split, by the strict key and by the bare number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cxr_experiments.images.manifest import ImageRow, Manifest
from cxr_experiments.record.data_report.finding import ERROR, INFO, WARNING, Finding, Looked
from cxr_experiments.record.report.tables import Table, counted

Key = Callable[[ImageRow], str]


def check_patients(looked: Looked, patient_rule: str) -> list[Finding]:
    """Patients in training or validation and in test; `data.patient_rule` says which key makes that an error."""
    manifest = looked.manifest
    if not manifest.patients_verifiable:
        sentence = "no patient is known, so whether one stands on both sides of a split is not verifiable"
        advice = "Tell patients by data.patient_regex or data.csv_patient; intervals are over images until then."
        return [Finding(WARNING, "patients-not-verifiable", sentence, advice)]
    found = []
    strict = _shared(manifest, _strict)
    if strict:
        sentence = f"{counted(len(strict), 'patient key')} in training or validation and in test"
        advice = "Remove these patients from one side: a network knows them again, and scores on test are too good."
        level = WARNING if patient_rule == "none" else ERROR
        found.append(Finding(level, "patient-across-splits", sentence, advice, _films(manifest, strict, _strict)))
    loose = _shared(manifest, _loose) - {row.loose_key for row in manifest.rows if row.patient in strict}
    if loose:
        sentence = (
            f"{counted(len(loose), 'bare number')} ({_families(loose)}) in training or validation and in test, under "
            f"different patient keys"
        )
        advice = (
            "Nothing: the families of names number their patients independently, so that an equal number is no "
            "patient. data.patient_rule=loose would treat it as one."
        )
        if patient_rule == "loose":
            advice = "data.patient_rule=loose treats an equal number as one patient: remove a side, or use strict."
        level = ERROR if patient_rule == "loose" else INFO
        found.append(Finding(level, "number-collisions", sentence, advice, _films(manifest, loose, _loose)))
    return found


def patients_table(manifest: Manifest) -> Table:
    """Keys on either side and on both, under both rules; no rows where patients are not known or test is not kept."""
    rows: list[tuple[str, ...]] = []
    sides = _sides(manifest, _strict)
    if manifest.patients_verifiable and all(sides):
        what = "family and number" if any(row.loose_key for row in manifest.rows) else "patient key"
        rows.append(("strict", what, *_sizes(sides)))
        rows += [
            ("loose", f"bare number: {family}", *_sizes(_sides(manifest, key))) for family, key in _by_family(manifest)
        ]
    note = (
        "Strict is the patient key. Loose joins families of names that number their patients independently: what "
        "stands on both sides there is no patient, unless strict says so too."
    )
    return Table(
        "Patients on both sides", note, ("rule", "key", "training and validation", "test", "both"), tuple(rows)
    )


def _strict(row: ImageRow) -> str:
    return row.patient


def _loose(row: ImageRow) -> str:
    return row.loose_key


def _sides(manifest: Manifest, key: Key) -> tuple[set[str], set[str]]:
    pool = {key(row) for row in manifest.rows if row.split in ("train", "val")} - {""}
    return pool, {key(row) for row in manifest.rows if row.split == "test"} - {""}


def _shared(manifest: Manifest, key: Key) -> set[str]:
    pool, test = _sides(manifest, key)
    return pool & test


def _sizes(sides: tuple[set[str], set[str]]) -> tuple[str, str, str]:
    return f"{len(sides[0]):,}", f"{len(sides[1]):,}", f"{len(sides[0] & sides[1]):,}"


def _by_family(manifest: Manifest) -> list[tuple[str, Key]]:
    families = sorted({row.loose_key.rpartition(":")[0] for row in manifest.rows if row.loose_key})

    def key_of(family: str) -> Key:
        return lambda row: row.loose_key if row.loose_key.rpartition(":")[0] == family else ""

    return [(family, key_of(family)) for family in families]


def _families(keys: set[str]) -> str:
    """`170 person, 94 IM-number`."""
    counts = Counter(key.rpartition(":")[0] for key in keys)
    return ", ".join(f"{count:,} {family}" for family, count in counts.most_common())


def _films(manifest: Manifest, keys: set[str], key: Key) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = {one: [] for one in sorted(keys)}
    for row in manifest.rows:
        if key(row) in groups:
            groups[key(row)].append(row.image_id)
    return tuple(tuple(group) for group in groups.values())
