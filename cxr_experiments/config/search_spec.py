"""The options of the search command: what every trial has, what is drawn, what judges a trial, when it is given up.

Nothing is composed or trained here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cxr_experiments.config.schema import TrackingConfig, choice, free, number
from cxr_experiments.config.search_space import parse_override
from cxr_experiments.errors import ConfigError

OBJECTIVES = ("val_log_loss", "val_auroc", "val_average_precision", "val_brier")
LOWER_IS_BETTER = ("val_log_loss", "val_brier")
# What may not differ between trials: they are judged on the same validation images, by luck of no seed.
FIXED_DATA = "data"
MAY_VARY_IN_DATA = ("image_size_px", "resize")
NOT_DRAWN = {
    "seed": "a search over seeds finds the luckiest one: give one value",
    "seeds": "a search over seeds finds the luckiest one: give one value",
    "split": "trials are judged on the same validation images: give one value",
    "threshold": "no objective depends on it: give one value",
    "experiment_name": "runs of a search share the search's name",
    "tracking": "give one value, for the whole search",
    "rerun": "a trial whose run is finished is answered from its record",
    "tags": "a search sets them",
    "hydra": "give one value",
    "experiment": "name the keys that it sets",
    "model.builder": "a network of one's own stands on train's command line only",
}
OWN = ("experiment_name", "tags", "rerun", "model.builder")


@dataclass(frozen=True)
class SearchSpec:
    """What conf/search/NAME.yaml says."""

    baseline: tuple[str, ...] = free((), "overrides that every trial has, as on train's command line")
    space: dict[str, Any] = field(default_factory=dict)  # key -> what may be drawn, in Hydra's grammar or as a list


@dataclass(frozen=True)
class SearchConfig:
    """Search for better settings on validation, giving up early what others leave behind."""

    search: SearchSpec = field(default_factory=SearchSpec)
    name: str | None = free(None, "what to call the search; null is its file's name")
    overrides: tuple[str, ...] = free((), "train's words on the command line, filled by the command")
    trials: int = number(20, 1, 100_000, "trials", "in all, however many processes work on them")
    objective: str = choice("val_log_loss", OBJECTIVES, "what the winner is chosen by")
    sampler: str = choice("tpe", ("tpe", "random"), "tpe: tree-structured Parzen estimator")
    sampler_seed: int = number(0, 0, 2**31 - 1, "", "of what is drawn; a run's own seed is `seed`")
    pruner: str = choice("median", ("median", "hyperband", "none"), "which trials are given up, by val_loss per epoch")
    startup_trials: int = number(8, 1, 100_000, "trials", "drawn at random; median: none is given up before as many")
    min_epochs: int = number(2, 1, 10_000, "epochs", "every trial trains at least so many")
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    choices: dict[str, str] = field(default_factory=dict)  # group -> option chosen, filled by compose; never typed


def with_words(spec: SearchSpec, words: Iterable[str]) -> SearchSpec:
    """The file's search with the command line's words in it: several values are drawn from, one value is fixed.

    The later word stands: `seed=1` over the file's, `optimizer.learning_rate=0.01` in place of the file's interval.

    Raises:
        ConfigError: a word cannot be read.
    """
    baseline, space = list(spec.baseline), dict(spec.space)
    for word in words:
        override = parse_override(word)
        key, _, value = word.partition("=")
        space.pop(key, None)
        baseline = [other for other in baseline if other.partition("=")[0] != key]
        if override.is_sweep_override():
            space[key] = value
        else:
            baseline.append(word)
    return replace(spec, baseline=tuple(baseline), space=space)


def check_spec(spec: SearchSpec) -> None:
    """What can be said without composing anything.

    Raises:
        ConfigError: nothing is drawn, or something is that a search may not draw.
    """
    if not spec.space:
        raise ConfigError(
            "the search has nothing to draw: give keys with several values, as model=gap,flatten or "
            "'optimizer.learning_rate=tag(log, interval(0.0001, 0.01))'"
        )
    for key in spec.space:
        if reason := _refusal(key, NOT_DRAWN):
            raise ConfigError(f"{key} cannot be searched over: {reason}")
    for word in spec.baseline:
        key = word.lstrip("+~").partition("=")[0]
        if reason := _refusal(key, {name: NOT_DRAWN[name] for name in OWN}):
            raise ConfigError(f"{word} belongs to no trial: {reason}")


def _refusal(key: str, refused: Mapping[str, str]) -> str:
    return next((why for name, why in refused.items() if key == name or key.startswith((f"{name}.", f"{name}/"))), "")
