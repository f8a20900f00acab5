"""Fair arms: where a factor declares `tune`, its options and the baseline choose on validation, on equal budgets.

The choice is made at a seed that the study does not use, so that no cell of the comparison has seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cxr_experiments.config.study_spec import ArmSpec, Factor, StudyConfig, read_factors
from cxr_experiments.errors import RunError
from cxr_experiments.record.cells import StoredCell
from cxr_experiments.record.places import Places
from cxr_experiments.study.judge import answers, read_stage
from cxr_experiments.study.launch import train_missing
from cxr_experiments.study.plan import Arm, Plan, asked_cells, compose_arms, plan_cells

LOWER_IS_BETTER = ("brier", "log_loss", "gap_train_val")


@dataclass(frozen=True)
class Tuned:
    """Arms with their chosen settings, and arm -> what was tuned, in words, for the report.

    `pending` says what has still to be trained before settings can be chosen; the arms are untuned then.
    """

    arms: tuple[ArmSpec, ...]
    told: dict[str, str]
    pending: str = ""


@dataclass(frozen=True)
class Tuning:
    """Which study is tuned; without `places` nothing is trained, and what is not there yet is an error."""

    name: str
    config: StudyConfig
    places: Places | None

    @property
    def seed(self) -> int:
        """One that no cell of the comparison has."""
        return max(self.config.study.seeds) + 1


class NotTunedError(RunError):
    """A candidate has no cell yet."""


def tuned_arms(tuning: Tuning, arms: Sequence[ArmSpec]) -> Tuned:
    """The arms after tuning; untouched where no factor declares any.

    The baseline tunes over every grid that a factor declares, and what it chose goes to all arms; the options of that
    factor then tune anew over the same grid.

    Raises:
        RunError: a candidate could not be trained.
    """
    factors = [factor for factor in read_factors(tuning.config.study) if factor.tune]
    if not factors:
        return Tuned(tuple(arms), {arm.name: "at default settings, not tuned" for arm in arms})
    try:
        return _tuned(tuning, arms, factors)
    except NotTunedError:
        own = sum(len(list(factor.candidates())) for arm in arms for factor in arm.factors if factor.tune)
        cells = own + sum(len(list(factor.candidates())) for factor in factors)
        pending = f"tuning comes first: up to {cells} cells at seed {tuning.seed}, chosen by validation; until then "
        return Tuned(tuple(arms), {}, f"{pending}arms stand at default settings")


def _tuned(tuning: Tuning, arms: Sequence[ArmSpec], factors: Sequence[Factor]) -> Tuned:
    told = {}
    shared: tuple[str, ...] = ()
    for factor in factors:
        shared = (*shared, *_choose(tuning, replace(arms[0], overrides=shared), factor))
    told[arms[0].name] = _told(shared, factors)
    found = [replace(arms[0], overrides=shared)]
    for arm in arms[1:]:
        own = replace(arm, overrides=(*shared, *arm.overrides))
        mine = [factor for factor in arm.factors if factor.tune]
        for factor in mine:
            own = replace(own, overrides=(*own.overrides, *_choose(tuning, own, factor)))
        told[arm.name] = _told(own.overrides, mine) if mine else f"not tuned itself; the baseline's {' '.join(shared)}"
        found.append(own)
    return Tuned(tuple(found), told)


def _choose(tuning: Tuning, arm: ArmSpec, factor: Factor) -> tuple[str, ...]:
    """The candidate of `factor.tune` that does best on validation; the first of equals.

    Raises:
        NotTunedError: one has no cell, and nothing may be trained.
        RunError: one could not be trained.
    """
    name, config, candidates = tuning.name, tuning.config, list(factor.candidates())
    trials = [_trial(name, config, arm, factor, overrides) for overrides in candidates]
    run_ids: tuple[str, ...] = ()
    if tuning.places is not None:
        run_ids = _train(tuning, trials, tuning.places)
    asked = list(asked_cells(name, config.study, trials, [(tuning.seed, 0)], "tuning"))
    found = answers(read_stage(name, "tuning"), asked, run_ids)
    if len(found) < len(asked):
        raise NotTunedError(f"{len(asked) - len(found)} candidates of {arm.name} are not trained yet")
    metric = config.study.primary_metric
    values = [_validation_value(found[one.card.arm, one.card.position], metric) for one in asked]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    best = max(range(len(values)), key=lambda number: (sign * values[number], -number))
    return candidates[best]


def _train(tuning: Tuning, trials: Sequence[Arm], places: Places) -> tuple[str, ...]:
    """Train the candidates that are missing; the runs that answer them all."""
    name, config = tuning.name, tuning.config
    cells = plan_cells(name, config, trials, [(tuning.seed, 0)], places, stage="tuning")
    plan = Plan(name, config.study, tuple(trials), cells, places.look_up(cells[0].config)[0], places)
    if failed := train_missing(plan):
        label, reason = next(iter(failed.items()))
        raise RunError(f"{len(failed)} of {len(cells)} candidates of tuning failed: {label}: {reason}")
    return tuple(cell.identity.run_id for cell in cells)


def _trial(name: str, config: StudyConfig, arm: ArmSpec, factor: Factor, overrides: tuple[str, ...]) -> Arm:
    label = f"{arm.name} {' '.join(overrides)}"
    spec = replace(arm, name=label, factor=arm.factor or factor.name, overrides=(*arm.overrides, *overrides))
    return compose_arms(name, config, [spec])[0]


def _validation_value(cell: StoredCell, metric: str) -> float:
    metrics = cell.facts["metrics"]
    for key in (metric, f"val_{metric}", f"val_{metric}_at_frozen"):
        if key in metrics:
            return float(metrics[key])
    raise RunError(f"cell {cell.run_id} has no {metric} on validation: tune on another study.primary_metric")


def _told(overrides: Sequence[str], factors: Sequence[Factor]) -> str:
    keys = {key for factor in factors for key, _ in factor.tune}
    budget = sum(len(list(factor.candidates())) for factor in factors)
    chosen = {word.partition("=")[0]: word for word in overrides if word.partition("=")[0] in keys}
    return f"{' '.join(chosen.values())}, chosen on validation from {budget} settings at a seed of its own"
