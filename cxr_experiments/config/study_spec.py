"""A study as a value: baseline, factors changed one at a time, seeds, measure, and the smallest effect of interest.

One YAML in conf/study/ in, checked frozen values out.  Nothing is composed or trained here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from cxr_experiments.config.compose import nearest
from cxr_experiments.config.schema import ThresholdConfig, TrackingConfig, choice, free, number
from cxr_experiments.errors import ConfigError

VARIED = ("split", "init", "order", "augmentation")
ON_TEST = (
    *("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity"),
    *("accuracy", "f1", "mcc", "brier", "log_loss"),
)
ON_VALIDATION = ("stress_auroc_mean", "stress_auroc_worst", "gap_train_val")


@dataclass(frozen=True)
class StudySpec:
    """What conf/study/NAME.yaml says."""

    question: str = free("", "what the study asks, in a sentence; it heads the report")
    baseline: tuple[str, ...] = free((), "overrides that every cell has, as on train's command line")
    factors: dict[str, Any] = field(default_factory=dict)  # key -> options, or {options: ..., tune: {key: values}}
    grid: bool = free(False, "every combination of the factors' options instead of one factor at a time")
    seeds: tuple[int, ...] = number((0, 1, 2, 3, 4, 5, 6, 7), 0, 2**31 - 1, "", "each arm is trained once with each")
    vary: tuple[str, ...] = free(VARIED, "what a seed changes (dropout goes with order); the rest is that of seeds[0]")
    folds: int = number(0, 0, 20, "folds", "patient-grouped cross-validation: each seed trains every fold")
    primary_metric: str = choice("auroc", (*ON_TEST, *ON_VALIDATION), "what the verdict is about")
    margin: float | None = number(None, 1e-6, 1.0, "", "the smallest difference of interest, in units of the metric")
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)


@dataclass(frozen=True)
class StudyConfig:
    """Run a study: plan, train the cells that are missing, compare, report."""

    study: StudySpec = field(default_factory=StudySpec)
    dry_run: bool = free(False, "print the plan and train nothing")
    confirm: bool = free(False, "lock the protocol, open the test split once for every cell, and compare there")
    noise_floor: bool = free(False, "also repeat the baseline with new seeds and splits, and its first cell once more")
    report_only: bool = free(False, "compare the cells under results/ again; no images, no training")
    films: bool = free(False, "also write the report with films under runs/.reports/, which is not committed")
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    choices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Option:
    """One changed setting: its label, and the overrides that make it."""

    label: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Factor:
    """What one comparison changes: options, and the settings that each option may choose on validation."""

    name: str
    options: tuple[Option, ...]
    tune: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def candidates(self) -> Iterator[tuple[str, ...]]:
        """Every combination of the tuned keys, as overrides; one empty tuple where nothing is tuned."""
        keys = [key for key, _ in self.tune]
        for values in product(*(values for _, values in self.tune)):
            yield tuple(f"{key}={value}" for key, value in zip(keys, values, strict=True))


@dataclass(frozen=True)
class ArmSpec:
    """One arm: a name without spaces, the factor(s) and option(s) it stands for, its overrides over the baseline."""

    name: str
    factor: str
    option: str
    overrides: tuple[str, ...]
    factors: tuple[Factor, ...] = ()


def read_factors(spec: StudySpec) -> tuple[Factor, ...]:
    """The factors in the file's order.

    Raises:
        ConfigError: not a list of options, an option twice, a tuned key without values.
    """
    return tuple(_factor(name, said) for name, said in spec.factors.items())


def arms_of(spec: StudySpec) -> tuple[ArmSpec, ...]:
    """The baseline first, then one arm per option, or per combination of options with `grid`."""
    factors = read_factors(spec)
    baseline = ArmSpec("baseline", "", "", ())
    if not spec.grid:
        singles = [_arm(((factor, option),)) for factor in factors for option in factor.options]
        return (baseline, *_named_apart(singles))
    combinations = product(*([(factor, None), *((factor, option) for option in factor.options)] for factor in factors))
    chosen = [tuple(pair for pair in pairs if pair[1] is not None) for pairs in combinations]
    return (baseline, *_named_apart([_arm(pairs) for pairs in chosen if pairs]))


def check_spec(spec: StudySpec) -> None:
    """What no single field can say.

    Raises:
        ConfigError: no margin, no factor, a seed twice, a word in `vary` that no seed has.
    """
    if spec.margin is None:
        raise ConfigError(
            "study.margin has no value: give the smallest difference of interest, in units of "
            f"study.primary_metric={spec.primary_metric} (0.01 is a hundredth); no default fits every question"
        )
    if not spec.factors:
        raise ConfigError("study.factors is empty: give at least one, as factors: {augmentation: [flip]}")
    if len(set(spec.seeds)) != len(spec.seeds) or not spec.seeds:
        raise ConfigError(f"study.seeds={list(spec.seeds)}: expected whole numbers, each once")
    for word in spec.vary:
        if word not in VARIED:
            raise ConfigError(f"study.vary: {word} is nothing that a seed changes{nearest(word, list(VARIED))}")
    if spec.folds == 1:
        raise ConfigError("study.folds=1: expected 0 (one cut per seed) or 2 and more")
    for override in (*spec.baseline, *(override for arm in arms_of(spec) for override in arm.overrides)):
        if override.lstrip("+").startswith("model.builder="):
            raise ConfigError(f"{override} stands in a file: a network of one's own is named on the command line only")


def _factor(name: str, said: Any) -> Factor:
    where = f"study.factors.{name}"
    options, tune = said, {}
    if isinstance(said, Mapping):
        if unknown := set(said) - {"options", "tune"}:
            word = str(sorted(unknown)[0])
            raise ConfigError(f"{where}.{word}: no such key{nearest(word, ['options', 'tune'])}")
        options, tune = said.get("options"), said.get("tune", {})
    if not isinstance(options, (list, tuple)) or not options:
        raise ConfigError(f"{where}: expected a list of options, as [flip, none], got {options!r}")
    found = tuple(_option(name, one) for one in options)
    if len({option.overrides for option in found}) != len(found):
        raise ConfigError(f"{where}: an option stands there twice")
    if not isinstance(tune, Mapping) or not all(
        isinstance(values, (list, tuple)) and values for values in tune.values()
    ):
        raise ConfigError(f"{where}.tune: expected keys with lists of values, as {{optimizer.learning_rate: [0.001]}}")
    return Factor(name, found, tuple((str(key), tuple(values)) for key, values in tune.items()))


def _option(name: str, said: Any) -> Option:
    """`flip` under `augmentation` is augmentation=flip; {label: [overrides]} is a label with overrides of its own."""
    if isinstance(said, Mapping):
        if len(said) != 1 or not isinstance(next(iter(said.values())), (list, tuple)):
            raise ConfigError(f"study.factors.{name}: expected {{label: [override, ...]}}, got {dict(said)!r}")
        ((label, overrides),) = said.items()
        return Option(str(label), tuple(map(str, overrides)))
    value = str(said).lower() if isinstance(said, bool) else str(said)
    return Option(value, (f"{name}={value}",))


def _arm(pairs: tuple[tuple[Factor, Any], ...]) -> ArmSpec:
    return ArmSpec(
        name="+".join(option.label for _, option in pairs),
        factor="+".join(factor.name for factor, _ in pairs),
        option="+".join(option.label for _, option in pairs),
        overrides=tuple(override for _, option in pairs for override in option.overrides),
        factors=tuple(factor for factor, _ in pairs),
    )


def _named_apart(arms: list[ArmSpec]) -> list[ArmSpec]:
    """Labels alone where they are unique (`flip`), with their factor where two share one (`dropout=0`)."""
    names = [arm.name for arm in arms]
    apart = [
        arm if names.count(arm.name) == 1 and arm.name != "baseline" and not _is_number(arm.name) else _long(arm)
        for arm in arms
    ]
    return apart


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace("e", "", 1).isdigit() or text in ("true", "false")


def _long(arm: ArmSpec) -> ArmSpec:
    parts = zip(arm.factor.split("+"), arm.option.split("+"), strict=True)
    name = "+".join(f"{factor.rpartition('.')[2]}={option}" for factor, option in parts)
    return ArmSpec(name, arm.factor, arm.option, arm.overrides, arm.factors)
