"""Available: what the files alone, before one pixel is read, tell of the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.shortcuts.association import Association, Measured, measure, nothing, oriented
from cxr_experiments.evidence.shortcuts.properties import Variation, judged_rows, properties_of
from cxr_experiments.evidence.shortcuts.ridge import cross_scores, draw_folds
from cxr_experiments.images.manifest import ImageRow, Manifest
from cxr_experiments.images.splits import group_names

TOGETHER = "all together"
_SEED = 0  # of the folds: the same data set always gives the same numbers


def available(manifest: Manifest, *, level: float) -> tuple[Association, ...]:
    """How well each property of the files, and all of them together, tell the label; constant ones say so.

    Rows that the source itself calls test are left out: their labels are for `evaluate`.  One property is judged from
    the side on which it is above one half, with an interval that was made before; all together are a linear
    discriminant, cross-validated with patients and copies kept together.

    References:
        Badgeley et al. (2019), npj Digital Medicine 2, 31: what hip fracture models owe to the scanner and the
        ordering process.  Zech et al. (2018), PLoS Medicine 15, e1002683: pneumonia told by the hospital.
    """
    kept = judged_rows(manifest)
    rows = [manifest.rows[number] for number in kept]
    variations = properties_of(rows, synthetic=manifest.synthetic)
    varying = [one for one in variations if not one.note]
    family = len(varying) + (len(varying) > 1)
    labels, patients = manifest.labels[kept], np.array([row.patient for row in rows], dtype=str)

    def line(name: str, found: Measured, note: str) -> Association:
        return Association(heading="available", name=name, within="", level=level, note=note, **asdict(found))

    found = []
    for one in variations:
        if one.note:
            found.append(line(one.name, nothing(len(rows), 0), one.note))
            continue
        told = measure(labels, one.values, patients, verifiable=manifest.patients_verifiable, family=family)
        found.append(line(one.name, oriented(told), _direction(one, told, manifest.classes[1])))
    if len(varying) > 1:
        score = _together(varying, labels, rows)
        told = measure(labels, score, patients, verifiable=manifest.patients_verifiable, family=family)
        found.append(line(TOGETHER, told, f"linear discriminant of {len(varying)} properties, cross-validated"))
    return tuple(found)


def _direction(one: Variation, told: Measured, positive: str) -> str:
    if one.name == "mode":
        return f"{'commonest mode' if told.auroc < 0.5 else 'other modes'} oftener in {positive}"
    return f"{'smaller' if told.auroc < 0.5 else 'larger'} in {positive}"


def _together(varying: Sequence[Variation], labels: NDArray[np.int8], rows: Sequence[ImageRow]) -> Floats:
    """(n,) cross-validated scores of the discriminant of all properties, on the scale of their logarithms."""
    columns = [one.values if one.name == "mode" else np.log(one.values) for one in varying]
    columns += [np.array([row.mode == mode for row in rows], dtype=np.float64) for mode in _rare_modes(rows)]
    features = np.stack(columns, axis=1)
    spread = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    names = group_names(rows)
    fold = draw_folds(labels, [names[row.image_id] for row in rows], seed=_SEED)
    return cross_scores(features, labels[:, None].astype(np.float64), fold)[:, 0]


def _rare_modes(rows: Sequence[ImageRow]) -> list[str]:
    """Modes beyond two, which one 0/1 column does not tell apart."""
    modes = sorted({row.mode for row in rows})
    return modes if len(modes) > 2 else []
