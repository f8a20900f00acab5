"""Fair arms: where a factor declares `tune`, its options and the baseline choose on validation, on equal budgets.

The choice is made at a seed that the study does not use, so that no cell of the comparison has seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxr_experiments.config.study_spec import ArmSpec, Factor, StudyConfig, read_factors
from cxr_experiments.errors import RunError
from cxr_experiments.record.cells import read_cell
from cxr_experiments.study.cell import cell_file
from cxr_experiments.study.launch import train_missing
from cxr_experiments.study.plan import Arm, Places, Plan, compose_arms, plan_cells

LOWER_IS_BETTER = ("brier", "log_loss", "gap_train_val")


@dataclass(frozen=True)
class Tuned:
    """Arms with their chosen settings, and arm -> what was tuned, in words, for the report."""

    arms: tuple[ArmSpec, ...]
    told: dict[str, str]


def tuned_arms(name: str, config: StudyConfig, arms: Sequence[ArmSpec]) -> Tuned:
    """The arms after tuning; untouched where no factor declares any.

    The baseline tunes over every grid that a factor declares, and what it chose goes to all arms; the options of that
    factor then tune anew over the same grid.

    Raises:
        RunError: a candidate could not be trained.
    """
    factors = [factor for factor in read_factors(config.study) if factor.tune]
    if not factors:
        return Tuned(tuple(arms), {arm.name: "at default settings, not tuned" for arm in arms})
    told = {}
    shared: tuple[str, ...] = ()
    for factor in factors:
        chosen, _ = _choose(name, config, replace(arms[0], overrides=shared), factor)
        shared = (*shared, *chosen)
    told[arms[0].name] = _told(shared, factors)
    found = [replace(arms[0], overrides=shared)]
    for arm in arms[1:]:
        own = replace(arm, overrides=(*shared, *arm.overrides))
        mine = [factor for factor in arm.factors if factor.tune]
        for factor in mine:
            chosen, _ = _choose(name, config, own, factor)
            own = replace(own, overrides=(*own.overrides, *chosen))
        told[arm.name] = _told(own.overrides, mine) if mine else f"not tuned itself; the baseline's {' '.join(shared)}"
        found.append(own)
    return Tuned(tuple(found), told)


def _choose(name: str, config: StudyConfig, arm: ArmSpec, factor: Factor) -> tuple[tuple[str, ...], float]:
    """The candidate of `factor.tune` that does best on validation, and its value; the first of equals."""
    candidates = list(factor.candidates())
    seed = max(config.study.seeds) + 1
    trials = [_trial(name, config, arm, factor, overrides) for overrides in candidates]
    places = Places()
    cells = plan_cells(name, config, trials, [(seed, 0)], places, stage="tuning")
    plan = Plan(name, config.study, tuple(trials), cells, places.look_up(cells[0].config)[0], places)
    if failed := train_missing(plan):
        raise RunError(f"{len(failed)} of {len(cells)} candidates of {arm.name} failed: {next(iter(failed.values()))}")
    metric = config.study.primary_metric
    values = [_validation_value(cell_file(cell.card, cell.identity.run_id), metric) for cell in cells]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    best = max(range(len(values)), key=lambda number: (sign * values[number], -number))
    return candidates[best], values[best]


def _trial(name: str, config: StudyConfig, arm: ArmSpec, factor: Factor, overrides: tuple[str, ...]) -> Arm:
    label = f"{arm.name} {' '.join(overrides)}"
    spec = replace(arm, name=label, factor=arm.factor or factor.name, overrides=(*arm.overrides, *overrides))
    return compose_arms(name, config, [spec])[0]


def _validation_value(path: Path, metric: str) -> float:
    metrics = read_cell(path).facts["metrics"]
    for key in (metric, f"val_{metric}", f"val_{metric}_at_frozen"):
        if key in metrics:
            return float(metrics[key])
    raise RunError(f"{path} has no {metric} on validation: tune on another study.primary_metric")


def _told(overrides: Sequence[str], factors: Sequence[Factor]) -> str:
    keys = {key for factor in factors for key, _ in factor.tune}
    budget = sum(len(list(factor.candidates())) for factor in factors)
    chosen = {word.partition("=")[0]: word for word in overrides if word.partition("=")[0] in keys}
    return f"{' '.join(chosen.values())}, chosen on validation from {budget} settings at a seed of its own"
