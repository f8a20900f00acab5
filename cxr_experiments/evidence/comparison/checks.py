"""The sensitivity table: other tests of the same difference, which stand beside the verdict and never change it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.comparison.arms import Arm, Cell
from cxr_experiments.evidence.comparison.measures import patient_keys
from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.stats import (
    PairedSeed,
    corrected_resampled_interval,
    delong_test,
    mcnemar_exact,
    sign_flip,
    two_level_bootstrap_of,
)
from cxr_experiments.evidence.stats.paired import MAX_EXACT

MAX_PAIRS = 20_000_000  # positives times negatives, held as float32 for one seed: 80 MB


@dataclass(frozen=True)
class Check:
    """One row of the sensitivity table; NaN where a test gives no such number."""

    name: str
    estimate: float
    low: float
    high: float
    p_value: float
    note: str


@dataclass(frozen=True)
class Overlap:
    """How many images each repetition trains on and is judged on, where repetitions share training images."""

    num_train: int
    num_test: int


def checks_of(
    baseline: Arm, option: Arm, metric: str, per_seed: Sequence[float], overlap: Overlap | None
) -> tuple[Check, ...]:
    """Bootstrap, sign flip, corrected t, and DeLong and McNemar seed by seed; AUROC has all of them."""
    found = []
    mean = float(np.mean(per_seed))
    several = len(per_seed) > 1 and math.isfinite(mean)
    if metric == "auroc" and several:
        found.append(_bootstrap(baseline, option, mean))
    if several and len(per_seed) <= MAX_EXACT:
        note = f"smallest possible p with {len(per_seed)} seeds: {2 / 2 ** len(per_seed):.2g}"
        found.append(Check("exact sign flip over seeds", mean, math.nan, math.nan, sign_flip(per_seed), note))
    if overlap is not None and several:
        t = corrected_resampled_interval(per_seed, overlap.num_train, overlap.num_test)
        note = f"Nadeau and Bengio, {overlap.num_train} trained on, {overlap.num_test} judged"
        found.append(Check("corrected resampled t", t.mean, t.low, t.high, t.p_value, note))
    for one, other in zip(baseline.cells, option.cells, strict=True):
        if metric == "auroc":
            found.append(_delong(one, other))
        found.append(_mcnemar(one, other))
    return tuple(found)


def _bootstrap(baseline: Arm, option: Arm, mean: float) -> Check:
    name, note = "two-level bootstrap", "percentile, patients and seeds drawn; too narrow with few seeds"
    largest = max(_num_pairs(cell) for cell in baseline.cells)
    if largest > MAX_PAIRS:
        note = f"left out: {largest:,} pairs of images a seed, at most {MAX_PAIRS:,}"
        return Check(name, mean, math.nan, math.nan, math.nan, note)
    rows = [
        PairedSeed(one.rows.label, patient_keys(one.rows), one.rows.score, _aligned(one, other))
        for one, other in zip(baseline.cells, option.cells, strict=True)
    ]
    found = two_level_bootstrap_of(rows, num_draws=2000, seed=0)
    return Check(name, mean, found.low, found.high, math.nan, note)


def _num_pairs(cell: Cell) -> int:
    num_positive = int(cell.rows.label.sum())
    return num_positive * (len(cell.rows.label) - num_positive)


def _delong(one: Cell, other: Cell) -> Check:
    found = delong_test(one.rows.label, _aligned(one, other), one.rows.score)
    note = f"runs {other.run_id} and {one.run_id} alone, images independent"
    return Check(f"DeLong, seed {one.seed}", found.difference, found.low, found.high, found.p_value, note)


def _mcnemar(one: Cell, other: Cell) -> Check:
    order = _order(one, other)
    right = (one.rows.probability >= one.threshold) == (one.rows.label == 1)
    others = (other.rows.probability[order] >= other.threshold) == (one.rows.label == 1)
    gained, lost = int(np.sum(others & ~right)), int(np.sum(right & ~others))
    note = f"right at the frozen thresholds: {gained} gained, {lost} lost"
    estimate = (gained - lost) / len(right)
    return Check(f"exact McNemar, seed {one.seed}", estimate, math.nan, math.nan, mcnemar_exact(gained, lost), note)


def _aligned(one: Cell, other: Cell) -> Floats:
    return other.rows.score[_order(one, other)]


def _order(one: Cell, other: Cell) -> NDArray[np.int64]:
    """Rows of `other` in the order of `one`."""
    place = {image: row for row, image in enumerate(other.rows.image_id.tolist())}
    return np.array([place[image] for image in one.rows.image_id.tolist()])
