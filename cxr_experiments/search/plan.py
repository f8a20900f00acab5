"""From a search's YAML and words to what its trials share: composed, checked and identified before the first one.

Nothing is trained here, and Optuna is not known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cxr_experiments.config.command_line import escaped
from cxr_experiments.config.compose import CONF_DIR, home, read_config, register, searchpath
from cxr_experiments.config.hydra_errors import translate
from cxr_experiments.config.identity import Identity, identify
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.search_space import Dimension, num_points, read_space
from cxr_experiments.config.search_spec import MAY_VARY_IN_DATA, SearchConfig, SearchSpec, check_spec, with_words
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import ConfigError
from cxr_experiments.record.places import Places
from cxr_experiments.record.run_folder import RunFolder

register("schema", ExperimentConfig)

# What makes two searches one: everything that a draw, a verdict of the pruner or a value depends on, but not `trials`.
DEPENDS_ON = ("objective", "sampler", "sampler_seed", "pruner", "startup_trials", "min_epochs")
DIGITS = 12


@dataclass(frozen=True)
class Plan:
    """A search before its first trial.

    Attributes:
        name: of the search, and of its runs' experiment.
        config: its options.
        spec: baseline and space, the command line's words in them.
        space: one dimension per searched key.
        base: the config of the baseline, at the values of searched keys that no trial has drawn.
        identity: of the run that the baseline would be.
        synthetic: the images are phantoms.
        places: images and splits.
    """

    name: str
    config: SearchConfig
    spec: SearchSpec
    space: tuple[Dimension, ...]
    base: ExperimentConfig
    identity: Identity
    synthetic: bool
    places: Places

    @property
    def search_id(self) -> str:
        """12 hex digits over all that trials must share to be comparable, data and code included."""
        return hashlib.sha256(json.dumps(self.told, sort_keys=True).encode()).hexdigest()[:DIGITS]

    @property
    def told(self) -> dict[str, Any]:
        """What the search is, as plain JSON."""
        options = {name: getattr(self.config, name) for name in DEPENDS_ON}
        return {"baseline_run": asdict(self.identity), "space": [repr(one) for one in self.space], **options}

    @property
    def folder(self) -> Path:
        """Where its trials are on record; the runs themselves lie where all runs do."""
        return home() / "runs" / ".searches" / self.name / self.search_id

    @property
    def max_epochs(self) -> int:
        """The most epochs that a trial can have."""
        drawn = [one.ends for one in self.space if one.key == "training.epochs"]
        return max(int(word.partition("=")[2]) for word in drawn[0]) if drawn else self.base.training.epochs

    def words(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The overrides of what a trial has drawn, in the order of the space."""
        return tuple(one.word(params[one.key]) for one in self.space if one.key in params)


@dataclass(frozen=True)
class PlannedTrial:
    """One training: its config, and the folder of the run that answers it."""

    config: ExperimentConfig
    folder: RunFolder


def make_plan(config: SearchConfig) -> Plan:
    """Everything that can be known before a trial: what is drawn, that each end of it composes, and on which images.

    Raises:
        ConfigError: the search cannot be composed, or its trials could not be compared.
        DataError: the images are missing or unreadable.
    """
    name, spec = search_name(config), with_words(config.search, config.overrides)
    check_spec(spec)
    space = read_space(spec.space)
    base = compose_trial(name, config, spec)
    for dimension in space:
        for word in dimension.ends:
            _refuse_other_measure(word, compose_trial(name, config, spec, [word]), base, config)
    if (points := num_points(space)) < config.trials:
        raise ConfigError(f"trials={config.trials}: the space has {points:.0f} settings; -m of train runs them all")
    places = Places()
    manifest, split = places.look_up(base)
    identity = identify(base, manifest.digest, split.digest)
    return Plan(name, config, spec, space, base, identity, manifest.synthetic, places)


def search_name(config: SearchConfig) -> str:
    """What the search is called.

    Raises:
        ConfigError: neither a file nor a name was given.
    """
    if name := config.name or config.choices.get("search"):
        return name
    known = sorted(path.stem for path in (CONF_DIR / "search").glob("*.yaml"))
    raise ConfigError(f"give search=NAME (there are: {', '.join(known)}), or name=NAME and what to draw from")


def compose_trial(
    name: str, config: SearchConfig, spec: SearchSpec, words: Iterable[str] = (), tags: Mapping[str, str] | None = None
) -> ExperimentConfig:
    """The config of a run with these words over the baseline.

    Raises:
        ConfigError: they do not compose.
    """
    drawn = list(words)
    place = (f"tracking.{key}={_text(value)}" for key, value in asdict(config.tracking).items())
    overrides = [*searchpath(), *spec.baseline, *place, f"experiment_name={escaped(name)}", *drawn]
    where = " ".join(drawn) or "search.baseline"
    try:
        composed = read_config(compose("config", overrides, return_hydra_config=True), ExperimentConfig)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{where}: {translate(error, ExperimentConfig)}") from error
    return replace(composed, tags=dict(tags or {}))


def plan_trial(plan: Plan, number: int, params: Mapping[str, Any]) -> PlannedTrial:
    """What a trial trains, and where.

    Raises:
        ConfigError: what it has drawn does not go together.
    """
    tags = {"search": plan.name, "search_id": plan.search_id, "trial": str(number)}
    config = compose_trial(plan.name, plan.config, plan.spec, plan.words(params), tags)
    manifest, split = plan.places.look_up(config)
    run_id = identify(config, manifest.digest, split.digest).run_id
    return PlannedTrial(config, RunFolder(home() / "runs" / experiment_of(plan) / run_id))


def experiment_of(plan: Plan) -> str:
    """The folder of the search's runs: on phantoms it is called phantom-<search>."""
    marked = plan.synthetic and not plan.name.startswith("phantom-")
    return f"phantom-{plan.name}" if marked else plan.name


def _refuse_other_measure(word: str, probe: ExperimentConfig, base: ExperimentConfig, config: SearchConfig) -> None:
    """Trials are compared by one measure on the same validation images."""
    same = replace(probe.data, **{key: getattr(base.data, key) for key in MAY_VARY_IN_DATA})
    cuts = [(one.split, resolve_seeds(one).split) for one in (probe, base)]
    if same != base.data or cuts[0] != cuts[1]:
        raise ConfigError(
            f"{word} cannot be searched over: trials are judged on the same validation images "
            f"(of data only {' and '.join(MAY_VARY_IN_DATA)} may be drawn)"
        )
    if config.pruner != "none" and probe.training.label_smoothing != base.training.label_smoothing:
        raise ConfigError(
            f"{word}: val_loss is taken with label smoothing, so that the pruner cannot compare trials: pruner=none"
        )


def _text(value: str | None) -> str:
    return "null" if value is None else escaped(value)
