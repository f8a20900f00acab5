"""A study as a value: baseline, factors changed one at a time, seeds, measure, and the smallest effect of interest.

One YAML in conf/study/ in, checked frozen values out.  Nothing is composed or trained here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
# What the study itself gives to every cell, and where one says it instead.
OWN = {
    "seed": "study.seeds",
    "seeds": "study.seeds and study.vary",
    "data.num_folds": "study.folds",
    "data.fold": "study.folds",
    "experiment_name": "the study's own file name",
    "tracking": "tracking=... beside study=NAME",
    "rerun": "noise_floor=true",
    "tags": "nothing, a study sets them",
    "hydra": "hydra... beside study=NAME",
}


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
    ensemble: bool = free(False, "confirm=true also judges the mean of each arm's networks: test/ensembles.csv and .md")


@dataclass(frozen=True)
class StudyConfig:
    """Run a study: plan, train the cells that are missing, compare, report."""

    study: StudySpec = field(default_factory=StudySpec)
    images: tuple[str, ...] = free(
        (), "overrides of data or split for every cell, after study.baseline: your own images"
    )
    dry_run: bool = free(False, "print the plan and train nothing")
    confirm: bool = free(False, "lock the protocol, open the test split once for every cell, and compare there")
    noise_floor: bool = free(False, "also repeat the baseline with new seeds and splits, and its first cell once more")
    report_only: bool = free(False, "compare the cells under results/ again; no images, no training")
    films: bool = free(False, "also write the report with films under runs/.reports/, which is not committed")
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    choices: dict[str, str] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether the command may train anything."""
        return not (self.dry_run or self.report_only)


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
            yield tuple(f"{key}={_typed(value)}" for key, value in zip(keys, values, strict=True))


Change = tuple[tuple[Factor, Option], ...]


@dataclass(frozen=True)
class ArmSpec:
    """One arm: its name, the factor(s) and option(s) it stands for, its overrides over the baseline."""

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
    """The baseline first, then one arm per option, or per combination of options with `grid`.

    Raises:
        ConfigError: as `read_factors`; two arms that cannot be told apart by name.
    """
    factors = read_factors(spec)
    changes: list[Change]
    if spec.grid:
        combinations = product(*([None, *((factor, option) for option in factor.options)] for factor in factors))
        changes = [tuple(pair for pair in pairs if pair is not None) for pairs in combinations]
        changes = [change for change in changes if change]
    else:
        changes = [((factor, option),) for factor in factors for option in factor.options]
    arms = [_arm(name, change) for name, change in zip(_names(changes), changes, strict=True)]
    return (ArmSpec("baseline", "", "", ()), *arms)


def check_spec(spec: StudySpec) -> None:
    """What no single field can say.

    Raises:
        ConfigError: no margin, no factor, a seed twice or alone, a word in `vary` that no seed has, an override that
            belongs to the study as a whole.
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
    if len(spec.seeds) * max(1, spec.folds) < 2:
        raise ConfigError(
            f"study.seeds={list(spec.seeds)} is one repetition: how much training alone moves the metric cannot be "
            "known; give two seeds or more"
        )
    for override in spec.baseline:
        _refuse_owned(override, "study.baseline", {**OWN, "threshold": "study.threshold"})
    for arm in arms_of(spec)[1:]:
        tuned = (f"{key}=" for factor in arm.factors for key, _ in factor.tune)
        for override in (*arm.overrides, *tuned):
            _refuse_owned(override, f"study.factors.{arm.factor}", OWN)


def on_images(config: StudyConfig) -> StudyConfig:
    """The study with `images` as the end of its baseline.

    Raises:
        ConfigError: an override there that is not about images.
    """
    for override in config.images:
        if re.match(r"(data|split)[=.]", override) is None:
            raise ConfigError(
                f"images: {override} is not about images: data=... and split=... stand here, the rest in study.baseline"
            )
    study = replace(config.study, baseline=(*config.study.baseline, *config.images))
    return replace(config, study=study, images=())


def _refuse_owned(override: str, where: str, owned: Mapping[str, str]) -> None:
    """An override that the study would overrule, or that names code.

    Raises:
        ConfigError: it is one.
    """
    key = override.lstrip("+~").partition("=")[0].strip()
    if key == "model.builder":
        raise ConfigError(f"{where}: {override} names code: a network of one's own stands on train's command line only")
    for name, instead in owned.items():
        if key == name or key.startswith((f"{name}.", f"{name}/")):
            raise ConfigError(f"{where}: {override} belongs to the study as a whole: say it by {instead}")


def _factor(name: str, said: Any) -> Factor:
    where = f"study.factors.{name}"
    options, tune = said, {}
    if isinstance(said, Mapping):
        if unknown := set(said) - {"options", "tune"}:
            word = min(map(str, unknown))
            hint = nearest(word, ["options", "tune"])
            raise ConfigError(
                f"{where}.{word}: no such key{hint}; a single key is a factor as '{name}.{word}': [VALUE]"
            )
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
        option = Option(str(label), tuple(map(str, overrides)))
    else:
        option = Option(_typed(said), (f"{name}={_typed(said)}",))
    if not option.label.strip() or not option.label.isprintable():
        raise ConfigError(f"study.factors.{name}: {option.label!r} names no option: expected a word on one line")
    if not option.overrides:
        raise ConfigError(f"study.factors.{name}: {option.label} has no override, as {{{option.label}: [{name}=...]}}")
    return option


def _typed(value: Any) -> str:
    """A value of the file as one types it on the command line."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _arm(name: str, change: Change) -> ArmSpec:
    return ArmSpec(
        name=name,
        factor="+".join(factor.name for factor, _ in change),
        option="+".join(option.label for _, option in change),
        overrides=tuple(override for _, option in change for override in option.overrides),
        factors=tuple(factor for factor, _ in change),
    )


def _names(changes: Sequence[Change]) -> list[str]:
    """Labels where they tell arms apart (`flip`), else the key's last word with them (`dropout=0`), else the key.

    Raises:
        ConfigError: two arms have one name even so.
    """
    short, longer, whole = ([_named(change, words) for change in changes] for words in (0, 1, 2))
    found = []
    for change, label, keyed, full in zip(changes, short, longer, whole, strict=True):
        clear = short.count(label) == 1 and label != "baseline" and not any(map(_says_nothing, change))
        found.append(label if clear else keyed if longer.count(keyed) == 1 else full)
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise ConfigError(f"study.factors: two arms would be called {twice}: give one of them another label")
    return found


def _named(change: Change, words: int) -> str:
    """With 0 words of the key the labels alone, with 1 its last, with 2 all of it."""
    keys = {0: "", 1: "{0}=", 2: "{1}="}[words]
    told = ((keys.format(factor.name.rpartition(".")[2], factor.name), option.label) for factor, option in change)
    return "+".join(f"{key}{label}" for key, label in told)


def _says_nothing(pair: tuple[Factor, Option]) -> bool:
    """A number, a switch or a list is no name without its key."""
    text = pair[1].label
    try:
        float(text)
    except ValueError:
        return text in ("true", "false", "null") or text.startswith("[")
    return True
