"""From fingerprints to a report: copies are searched, shortcuts measured, and every check judges what was found."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import datetime

import numpy as np

from cxr_experiments.config.commands import ShortcutsConfig, VerifyConfig
from cxr_experiments.evidence.shortcuts import Association, available, exposure, split_shift, visible
from cxr_experiments.images.duplicates import find_near_duplicates, pixel_duplicates
from cxr_experiments.images.fingerprints import Fingerprints
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.record.data_report.copies import check_copies, copies_table
from cxr_experiments.record.data_report.counts import check_counts, counts_table
from cxr_experiments.record.data_report.finding import LEVELS, DataReport, Looked
from cxr_experiments.record.data_report.kept import report_key
from cxr_experiments.record.data_report.patients import check_patients, patients_table
from cxr_experiments.record.data_report.quality import check_quality, sizes_table
from cxr_experiments.record.data_report.shortcuts import check_shortcuts, shortcut_tables


def look(manifest: Manifest, fingerprints: Fingerprints, shortcuts: ShortcutsConfig) -> Looked:
    """Search copies and measure shortcuts; files that cannot be decoded take part in neither."""
    equal_pixels = pixel_duplicates(fingerprints)
    near = find_near_duplicates(fingerprints).groups
    return Looked(
        manifest=manifest,
        fingerprints=fingerprints,
        equal_pixels=equal_pixels,
        near=_with_twins(near, equal_pixels),
        associations=_associations(manifest, fingerprints, shortcuts),
    )


def build_report(looked: Looked, config: VerifyConfig, *, started_s: float) -> DataReport:
    """Judge what was found; `started_s` is when the look began, seconds since the epoch."""
    manifest = looked.manifest
    findings = [
        *check_counts(looked),
        *check_copies(looked),
        *check_patients(looked, config.data.patient_rule),
        *check_shortcuts(looked.associations),
        *check_quality(looked),
    ]
    tables = (
        counts_table(manifest),
        patients_table(manifest),
        copies_table(looked),
        sizes_table(manifest),
        *shortcut_tables(looked.associations),
    )
    return DataReport(
        check=report_key(manifest, config),
        made_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        duration_s=round(time.time() - started_s, 1),
        source=manifest.source,
        root=manifest.root,
        digest=manifest.digest,
        usable_digest=_usable(manifest, looked.fingerprints).digest,
        resize=config.data.resize,
        synthetic=manifest.synthetic,
        num_images=len(manifest.rows),
        findings=tuple(sorted(findings, key=lambda one: LEVELS.index(one.level))),
        tables=tuple(table for table in tables if table.rows),
        associations=looked.associations,
    )


def _with_twins(
    near: tuple[tuple[int, ...], ...], equal_pixels: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...], ...]:
    """Near copies with the rows that equal one of them to the pixel: only the first of these was compared."""
    twins: defaultdict[int, tuple[int, ...]] = defaultdict(tuple, {group[0]: group[1:] for group in equal_pixels})
    return tuple(tuple(sorted({*group, *(twin for row in group for twin in twins[row])})) for group in near)


def _usable(manifest: Manifest, fingerprints: Fingerprints) -> Manifest:
    return manifest.without(manifest.rows[number].image_id for number in fingerprints.bad_files)


def _associations(
    manifest: Manifest, fingerprints: Fingerprints, shortcuts: ShortcutsConfig
) -> tuple[Association, ...]:
    usable = _usable(manifest, fingerprints)
    if set(usable.labels.tolist()) != {0, 1}:
        return ()
    prepared = fingerprints.prepared
    measures = {name: getattr(fingerprints, name) for name in ("brightness", "contrast", "sharpness")}
    if fingerprints.bad_files:
        good = np.flatnonzero(fingerprints.readable)
        prepared, measures = prepared[good], {name: values[good] for name, values in measures.items()}
    return (
        *available(usable, level=shortcuts.available_auroc),
        *visible(prepared, usable, level=shortcuts.visible_auroc),
        *exposure(measures, usable),
        *split_shift(prepared, usable),
    )
