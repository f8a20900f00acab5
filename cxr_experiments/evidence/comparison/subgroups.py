"""The same difference within parts of the data that the Kermany names tell: bacterial, viral; both families of NORMAL.

A part of one class is judged against all images of the other.  Nothing is decided on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.comparison.arms import Arm, Cell, Rows
from cxr_experiments.evidence.comparison.measures import MEASURES, measure_arm, patient_numbers
from cxr_experiments.evidence.stats import random_reader_contrast

FAMILIES = {"bacteria": "bacterial pneumonia", "virus": "viral pneumonia", "IM": "NORMAL (IM)"}
FAMILIES["NORMAL2-IM"] = "NORMAL (NORMAL2)"


@dataclass(frozen=True)
class Subgroup:
    """A part of one class against all of the other: counts of the part, both means, the difference, its interval."""

    name: str
    num_images: int
    num_patients: int
    baseline: float
    option: float
    difference: float
    low: float
    high: float


def subgroups_of(baseline: Arm, option: Arm, metric: str) -> tuple[Subgroup, ...]:
    """One entry per family that the patient keys name; empty for other data, and for measures of the whole."""
    if MEASURES[metric].validation_only:
        return ()
    present = {_family(key) for cell in baseline.cells for key in cell.rows.patient.tolist()}
    found = [_subgroup(baseline, option, metric, family) for family in FAMILIES if family in present]
    return tuple(one for one in found if one is not None)


def _subgroup(baseline: Arm, option: Arm, metric: str, family: str) -> Subgroup | None:
    """None where a repetition has no image of the family."""
    if not all(_of_family(cell.rows, family).any() for cell in baseline.cells):
        return None
    arms = [replace(arm, cells=tuple(_only(cell, family) for cell in arm.cells)) for arm in (baseline, option)]
    if any(len(np.unique(cell.rows.label)) < 2 for arm in arms for cell in arm.cells):
        return None
    numbers = patient_numbers([cell for arm in arms for cell in arm.cells])
    before, after = (measure_arm(arm, metric, numbers) for arm in arms)
    low = high = math.nan
    if len(before.values) > 1 and before.defined and after.defined:
        estimates = np.stack([before.values, after.values])
        contrast = random_reader_contrast(estimates, np.stack([before.deviations, after.deviations]))
        low, high = contrast.low, contrast.high
    own = [(cell, _of_family(cell.rows, family)) for cell in arms[0].cells]
    return Subgroup(
        name=FAMILIES[family],
        num_images=len({image for cell, chosen in own for image in cell.rows.image_id[chosen].tolist()}),
        num_patients=len({key for cell, chosen in own for key in cell.rows.patient[chosen].tolist()}),
        baseline=float(before.values.mean()),
        option=float(after.values.mean()),
        difference=float((after.values - before.values).mean()),
        low=low,
        high=high,
    )


def _only(cell: Cell, family: str) -> Cell:
    """The family's images and all of the other class."""
    of_family = _of_family(cell.rows, family)
    labels = np.unique(cell.rows.label[of_family])
    return replace(cell, rows=cell.rows.only(of_family | ~np.isin(cell.rows.label, labels)))


def _of_family(rows: Rows, family: str) -> NDArray[np.bool_]:
    return np.array([_family(key) == family for key in rows.patient.tolist()])


def _family(patient: str) -> str:
    return patient.rpartition(":")[0]
