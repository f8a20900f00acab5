"""From a study's YAML to its cells: every arm with every seed (and fold), composed, checked and identified.

Nothing is trained here.  Which images a cell sees and which run answers it is known before the first one starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from hydra import compose
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cxr_experiments.config.command_line import escaped
from cxr_experiments.config.compose import leaf_values, read_config, register, searchpath
from cxr_experiments.config.hydra_errors import translate
from cxr_experiments.config.identity import RESULT_AFFECTING, Identity, identify
from cxr_experiments.config.schema import ExperimentConfig, SeedsConfig
from cxr_experiments.config.seeds import derive
from cxr_experiments.config.study_spec import VARIED, ArmSpec, StudyConfig, StudySpec
from cxr_experiments.errors import ConfigError
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.record.cells import CellCard
from cxr_experiments.record.places import Places

register("schema", ExperimentConfig)


@dataclass(frozen=True)
class Arm:
    """An arm and the config that it has at the study's first seed; `differing` is key -> (baseline's, its own)."""

    spec: ArmSpec
    config: ExperimentConfig
    differing: dict[str, tuple[object, object]]


@dataclass(frozen=True)
class AskedCell:
    """One training that a study asks for, before any image is looked at: its arm, what it is called, its config."""

    arm: Arm
    card: CellCard
    config: ExperimentConfig

    @property
    def label(self) -> str:
        """`flip, seed 3`, or `flip, seed 3, fold 1`."""
        return label_of(self.card, self.config)


@dataclass(frozen=True)
class PlannedCell:
    """One training of the plan: what the study calls it, its config, and the identity of the run that answers it."""

    card: CellCard
    config: ExperimentConfig
    overrides: tuple[str, ...]
    identity: Identity

    @property
    def label(self) -> str:
        """`flip, seed 3`, or `flip, seed 3, fold 1`."""
        return label_of(self.card, self.config)


@dataclass(frozen=True)
class Plan:
    """A whole study before training: cells by position, then arm."""

    name: str
    spec: StudySpec
    arms: tuple[Arm, ...]
    cells: tuple[PlannedCell, ...]
    manifest: Manifest
    places: Places


def compose_arms(name: str, config: StudyConfig, arms: Sequence[ArmSpec]) -> tuple[Arm, ...]:
    """The config of each arm, the baseline's first.

    Raises:
        ConfigError: an override that does not compose; an arm that changes no key, or the same keys as another.
    """
    found: list[Arm] = []
    for spec in arms:
        composed = _composed(config, spec, name)
        before = leaf_values(found[0].config) if found else leaf_values(composed)
        after = leaf_values(composed)
        differing = {key: (before[key], after[key]) for key in after if after[key] != before[key]}
        affecting = {key: pair for key, pair in differing.items() if key.partition(".")[0] in RESULT_AFFECTING}
        if found and not affecting:
            raise ConfigError(f"study.factors.{spec.factor}: {_why_nothing(spec, config.study.baseline)}")
        if twin := next((one for one in found[1:] if one.differing == affecting), None):
            raise ConfigError(f"study.factors: {twin.spec.name} and {spec.name} are the same change")
        found.append(Arm(spec, composed, affecting))
    return tuple(found)


def _why_nothing(arm: ArmSpec, baseline: Sequence[str]) -> str:
    """A key of the baseline stands over an option file that sets the same key."""
    groups = tuple(f"{word.partition('=')[0]}." for word in arm.overrides)
    over = [word for word in baseline if word.startswith(groups)]
    more = f", or {' '.join(over)} in study.baseline stands over it" if over else ""
    return f"{' '.join(arm.overrides)} changes nothing, the baseline has it already{more}"


def make_plan(name: str, config: StudyConfig, arms: Sequence[Arm], places: Places) -> Plan:
    """Every cell of the study; reads the images' names and contents, and prepares them where they are not yet.

    Raises:
        ConfigError: an arm is judged on other images than the baseline.
        DataError: the images are missing or unreadable.
    """
    cells = plan_cells(name, config, arms, list(repetitions(config.study)), places)
    for arm, cell in zip(arms[1:], cells[1 : len(arms)], strict=True):
        _refuse_other_images(arm, cells[0], cell, places)
    return Plan(name, config.study, tuple(arms), cells, places.look_up(cells[0].config)[0], places)


def _refuse_other_images(arm: Arm, baseline: PlannedCell, cell: PlannedCell, places: Places) -> None:
    """Arms are compared image by image: what validates one must validate the other."""
    (images, split), (others, cut) = places.look_up(baseline.config), places.look_up(cell.config)
    ids = [images.rows[row].image_id for row in (*split.val, *split.test)]
    if images.digest != others.digest or ids != [others.rows[row].image_id for row in (*cut.val, *cut.test)]:
        raise ConfigError(
            f"study.factors.{arm.spec.factor}: {arm.spec.name} is judged on other images than the baseline "
            f"({' '.join(arm.differing)}): only choices that leave data set and split as they are can be compared"
        )


def asked_cells(
    name: str, spec: StudySpec, arms: Sequence[Arm], pairs: Iterable[tuple[int, int]], stage: str = "cells"
) -> Iterator[AskedCell]:
    """Each arm at each (seed, fold), by position, then arm; `stage` is the folder under results/<study>/."""
    for position, (seed, fold) in enumerate(pairs):
        for arm in arms:
            about = (arm.spec.name, arm.spec.factor, arm.spec.option)
            card = CellCard(name, *about, seed, fold, position, tuple(arm.differing), stage)
            yield AskedCell(arm, card, replace(at_seed(arm.config, spec, seed, fold), tags=tags_of(card)))


def plan_cells(
    name: str,
    config: StudyConfig,
    arms: Sequence[Arm],
    pairs: Sequence[tuple[int, int]],
    places: Places,
    stage: str = "cells",
) -> tuple[PlannedCell, ...]:
    """The cells that are asked for, each with the identity of the run that answers it."""
    cells = []
    for asked in asked_cells(name, config.study, arms, pairs, stage):
        manifest, split = places.look_up(asked.config)
        identity = identify(asked.config, manifest.digest, split.digest)
        cells.append(PlannedCell(asked.card, asked.config, _overrides(config, asked.arm.spec, asked.config), identity))
    return tuple(cells)


def repetitions(spec: StudySpec) -> Iterator[tuple[int, int]]:
    """(seed, fold) of every repetition of an arm, in order; fold is 0 without folds."""
    return itertools.product(spec.seeds, range(max(1, spec.folds)))


def at_seed(config: ExperimentConfig, spec: StudySpec, seed: int, fold: int) -> ExperimentConfig:
    """The config at one repetition: what `vary` names follows the seed, the rest stays that of the first seed."""
    followers = {"order": ("order", "dropout")}
    fixed = [word for kind in VARIED if kind not in spec.vary for word in followers.get(kind, (kind,))]
    seeds = SeedsConfig(**{**asdict(config.seeds), **{word: derive(spec.seeds[0], word) for word in fixed}})
    data = replace(config.data, num_folds=spec.folds, fold=fold) if spec.folds else config.data
    return replace(config, seed=seed, seeds=seeds, data=data)


def label_of(card: CellCard, config: ExperimentConfig) -> str:
    """What a person calls a cell: `flip, seed 3`, or `flip, seed 3, fold 1`."""
    return f"{card.arm}, seed {card.seed}" + (f", fold {card.fold}" if config.data.num_folds else "")


def tags_of(card: CellCard) -> dict[str, str]:
    """A card as MLflow's tags, all text; `card_of` reads it back."""
    values = {**asdict(card), "changed": " ".join(card.changed), "cell": card.arm}
    return {name: str(value) for name, value in values.items()}


def card_of(tags: dict[str, str]) -> CellCard:
    """The card that `tags_of` wrote."""
    study, arm, factor, option = (tags[name] for name in ("study", "arm", "factor", "option"))
    seed, fold, position = (int(tags[name]) for name in ("seed", "fold", "position"))
    return CellCard(study, arm, factor, option, seed, fold, position, tuple(tags["changed"].split()), tags["stage"])


def _composed(config: StudyConfig, arm: ArmSpec, name: str) -> ExperimentConfig:
    overrides = [*searchpath(), *_common(config, name, arm), *arm.overrides]
    where = f"study.factors.{arm.factor}" if arm.factor else "study.baseline"
    try:
        return read_config(compose("config", overrides, return_hydra_config=True), ExperimentConfig)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{where}: {translate(error, ExperimentConfig)}") from error


def _common(config: StudyConfig, name: str, arm: ArmSpec) -> list[str]:
    """What every cell has: the baseline, the threshold rule, the place of tracking, the study's name."""
    tracking = config.tracking
    rule = {} if any(word.startswith("threshold=") for word in arm.overrides) else asdict(config.study.threshold)
    return [
        *config.study.baseline,
        *(f"threshold.{key}={value}" for key, value in rule.items()),
        *(f"tracking.{key}={_text(value)}" for key, value in asdict(tracking).items()),
        f"experiment_name={escaped(name)}",
    ]


def _overrides(config: StudyConfig, arm: ArmSpec, seeded: ExperimentConfig) -> tuple[str, ...]:
    """The command line of one cell, as a launcher hands it on."""
    seeds = [f"seeds.{name}={value}" for name, value in asdict(seeded.seeds).items() if value is not None]
    folds = [f"data.num_folds={seeded.data.num_folds}", f"data.fold={seeded.data.fold}"] if config.study.folds else []
    tags = [f"+tags.{name}={escaped(value)}" for name, value in seeded.tags.items()]
    return (
        *_common(config, seeded.experiment_name, arm),
        *arm.overrides,
        f"seed={seeded.seed}",
        *seeds,
        *folds,
        *tags,
    )


def _text(value: str | None) -> str:
    return "null" if value is None else escaped(value)
