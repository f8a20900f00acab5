"""What is compared: arms of cells, a cell being one trained network as judged on one split; and who may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import ComparisonError
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.metrics import Floats

REPETITION = ("seeds.", "data.fold")  # config keys that tell the repetitions of one arm apart


@dataclass(frozen=True, eq=False)
class Rows:
    """Images as one model sees them; row i of each array is one image.

    `image_id` and `patient` (n,) strings ("" where the patient is not known), `label` (n,) int8 in {0, 1}, `logit` (n,)
    float64 (NaN where a file gives none), `probability` (n,) float64 in [0, 1].
    """

    image_id: NDArray[np.str_]
    patient: NDArray[np.str_]
    label: NDArray[np.int8]
    logit: Floats
    probability: Floats

    @classmethod
    def of(cls, predictions: Predictions) -> Rows:
        """The rows of a predictions file."""
        columns = (predictions.image_id, predictions.patient, predictions.label)
        return cls(*columns, predictions.logit, predictions.probability)

    @property
    def score(self) -> Floats:
        """What ranks the images: logits, which do not saturate, else probabilities."""
        return self.logit if bool(np.all(np.isfinite(self.logit))) else self.probability

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        """The rows that `chosen` (n,) picks."""
        return Rows(
            self.image_id[chosen],
            self.patient[chosen],
            self.label[chosen],
            self.logit[chosen],
            self.probability[chosen],
        )


@dataclass(frozen=True, eq=False)
class Cell:
    """One trained network as judged on one split.

    `seed` pairs it with the same repetition of other arms; `stress` has logits of the same rows under each declared
    change, `train` a sample of the training rows (validation only); `config` the leaves that can change a result, empty
    where a file from elsewhere does not tell; `synthetic` None where not told.
    """

    run_id: str
    seed: int
    split: str
    rows: Rows
    dataset_digest: str = ""
    synthetic: bool | None = None
    threshold: float = 0.5
    stress: Mapping[str, Floats] = field(default_factory=dict)
    train: Rows | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    replicate: int = 0


@dataclass(frozen=True, eq=False)
class Arm:
    """Cells of one setting over seeds; `changed` names the config keys in which it may differ from the baseline."""

    name: str
    cells: tuple[Cell, ...]
    factor: str = ""
    changed: tuple[str, ...] = ()

    @property
    def repetitions(self) -> str:
        """`8 seeds`, or `2 seeds x 5 folds` where the cells tell that they are folds."""
        folds = max([1, *(int(cell.config.get("data.num_folds") or 0) for cell in self.cells)])
        num_seeds = len(self.cells) // folds
        seeds = f"{num_seeds} seed{'s' if num_seeds != 1 else ''}"
        return f"{seeds} x {folds} folds" if folds > 1 else seeds


def check_comparable(baseline: Arm, options: Sequence[Arm]) -> None:
    """Arms may differ in the named factor alone, seed by seed on the same images.

    Raises:
        ComparisonError: they differ in more; the text says in what and in which runs.
    """
    if not options:
        raise ComparisonError("there is nothing to compare the baseline with: give at least one option")
    names = [arm.name for arm in (baseline, *options)]
    if len(set(names)) != len(names):
        raise ComparisonError(f"two arms have one name: {', '.join(names)}")
    cells = [cell for arm in (baseline, *options) for cell in arm.cells]
    if not cells:
        raise ComparisonError(f"no runs in {', '.join(names)}")
    _refuse_mixed(cells)
    for arm in (baseline, *options):
        _refuse_twice(arm)
        _refuse_two_settings(arm)
    for option in options:
        _refuse_unpaired(baseline, option)
        for one, other in zip(baseline.cells, option.cells, strict=True):
            _refuse_other_images(one, other)
            _refuse_other_config(one, other, option)


def _refuse_mixed(cells: Sequence[Cell]) -> None:
    """One data set, one split, and never phantoms beside films."""
    for what, told in (
        ("kinds of images", [(_kind(cell), cell.run_id) for cell in cells if cell.synthetic is not None]),
        ("data sets, by digest", [(cell.dataset_digest, cell.run_id) for cell in cells if cell.dataset_digest]),
        ("splits", [(cell.split, cell.run_id) for cell in cells if cell.split]),
    ):
        # pairs, not a mapping by run: files of two folders may have one name
        if other := next((pair for pair in told if pair[0] != told[0][0]), None):
            shown = " and ".join(f"{value[:12]} (run {run})" for value, run in (told[0], other))
            raise ComparisonError(f"the runs are of different {what}: {shown}; compare runs of one")


def _kind(cell: Cell) -> str:
    return "synthetic" if cell.synthetic else "real"


def _refuse_twice(arm: Arm) -> None:
    seeds = [cell.seed for cell in arm.cells]
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        runs = ", ".join(cell.run_id for cell in arm.cells if cell.seed == twice[0])
        raise ComparisonError(f"{arm.name} has seed {twice[0]} more than once (runs {runs}): each seed counts once")


def _refuse_unpaired(baseline: Arm, option: Arm) -> None:
    before, after = ([cell.seed for cell in arm.cells] for arm in (baseline, option))
    if before != after:
        alone = sorted(set(before) ^ set(after))
        told = f"their seeds come in another order: {before}, {after}"
        if alone:
            counts = f"{len(before)} and {len(after)} runs"
            told = f"seed{'s' * (len(alone) > 1)} {', '.join(map(str, alone))} in one of the two only ({counts})"
        raise ComparisonError(f"{baseline.name} and {option.name} are not paired by seed: {told}")


def _refuse_other_images(one: Cell, other: Cell) -> None:
    runs = f"runs {one.run_id} and {other.run_id}"
    alone = set(one.rows.image_id.tolist()) ^ set(other.rows.image_id.tolist())
    if alone or len(one.rows.image_id) != len(other.rows.image_id):
        example = f", as {sorted(alone)[0]}" if alone else ""
        raise ComparisonError(f"{runs} were judged on different images: {len(alone)} stand in one alone{example}")
    order = np.argsort(one.rows.image_id), np.argsort(other.rows.image_id)
    for what in ("label", "patient"):
        before, after = getattr(one.rows, what)[order[0]], getattr(other.rows, what)[order[1]]
        if (before != after).any():
            image = one.rows.image_id[order[0]][np.flatnonzero(before != after)[0]]
            raise ComparisonError(f"{runs} disagree on the {what} of {image}: they are not of the same data")


def _refuse_other_config(one: Cell, other: Cell, option: Arm) -> None:
    if beyond := [key for key in _differing(one, other) if key not in option.changed]:
        named = f"factor {option.factor or option.name}"
        raise ComparisonError(
            f"runs {one.run_id} and {other.run_id} differ in more than the {named}: {_values(beyond, one, other)}"
        )


def _refuse_two_settings(arm: Arm) -> None:
    """Runs of one arm may differ in what a repetition changes, and in nothing else."""
    for cell in arm.cells[1:]:
        first = arm.cells[0]
        if keys := [key for key in _differing(first, cell) if not key.startswith(REPETITION)]:
            told = _values(keys, first, cell)
            raise ComparisonError(f"runs {first.run_id} and {cell.run_id} of {arm.name} are not of one setting: {told}")


def _differing(one: Cell, other: Cell) -> list[str]:
    """Keys with another value, in order; none where a file does not tell its config."""
    if not one.config or not other.config:
        return []
    return sorted(key for key in {**one.config, **other.config} if one.config.get(key) != other.config.get(key))


def _values(keys: Sequence[str], one: Cell, other: Cell) -> str:
    told = [f"{key} ({one.config.get(key)} and {other.config.get(key)})" for key in keys[:4]]
    return ", ".join(told) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
