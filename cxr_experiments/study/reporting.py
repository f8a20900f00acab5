"""A study's stored cells become its comparison and its report; no image and no model is needed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray

from cxr_experiments.config.compose import home
from cxr_experiments.config.study_spec import StudyConfig, StudySpec
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.evidence.comparison import Comparison, Overlap, compare_arms, noise_floor
from cxr_experiments.record import console, ledger
from cxr_experiments.record.cells import StoredCell
from cxr_experiments.record.places import Places
from cxr_experiments.record.report import ArmFacts, StudyFacts, write_report
from cxr_experiments.record.results import Costs
from cxr_experiments.study.confirm import is_exploratory
from cxr_experiments.study.ensembles import report_ensembles
from cxr_experiments.study.judge import Judged, Trained, answers, arm_of, paired_arms, read_stage
from cxr_experiments.study.noise import fresh_spec, num_differing, replicates_of
from cxr_experiments.study.plan import Arm, asked_cells, repetitions
from cxr_experiments.study.summaries import has_place, tell_arms

STAGES = {"val": "validation", "test": "test"}
NOTHING_TRAINED = Trained()
SWITCHES = ("study", "dry_run", "confirm", "noise_floor", "report_only", "films", "tracking")


def report(
    name: str,
    config: StudyConfig,
    arms: Sequence[Arm],
    split: str,
    told: Mapping[str, str],
    trained: Trained = NOTHING_TRAINED,
) -> Comparison:
    """Compare the study's cells on one split and write results/<name>/<stage>/report.html and its siblings.

    Args:
        name: of the study.
        config: its spec and switches.
        arms: as composed, the baseline first.
        split: "val" or "test".
        told: arm -> what was tuned.
        trained: by this command; empty where stored cells are judged again.

    Raises:
        RunError: a cell cannot be read, or no repetition is complete.
        ComparisonError: the cells may not be compared.
    """
    spec = config.study
    if spec.margin is None:
        raise ConfigError("study.margin has no value")
    asked = list(asked_cells(name, spec, arms, repetitions(spec)))
    judged = paired_arms(answers(read_stage(name), asked, trained.run_ids), asked, split, trained.failed)
    for label, reason in judged.left_out:
        console.say(f"left out: {label} ({reason})")
    arms = [arm for arm in arms if arm.spec.name in judged.stored]
    comparison = compare_arms(
        judged.arms[0], judged.arms[1:], metric=spec.primary_metric, margin=spec.margin, overlap=_overlap(judged, split)
    )
    facts = study_facts(name, config, arms, judged, (split, told))
    if facts.exploratory:
        console.say("EXPLORATORY: another protocol was locked on this data set before; what follows confirms nothing")
    if facts.leaking:
        console.say(facts.leaking)
    write_report(report_folder(name, split), facts, comparison, judged.arms)
    if spec.ensemble and split == "test":
        report_ensembles(report_folder(name, split), facts, comparison, judged)
    if config.films:
        films = films_of(arms[0], comparison.dataset_digest)
        path = write_report(films_folder(name, split), facts, comparison, judged.arms, films=films)
        console.say(f"report with films: {path}")
    if trained.run_ids or has_place(config):
        tell_arms(name, config, arms, [judged.stored[arm.spec.name] for arm in arms])
    return comparison


def report_folder(name: str, split: str) -> Path:
    """results/<study>/validation or results/<study>/test."""
    return home() / "results" / name / STAGES[split]


def films_folder(name: str, split: str) -> Path:
    """runs/.reports/<study>/<stage>: git-ignored, as films may not be passed on with a page."""
    return home() / "runs" / ".reports" / name / STAGES[split]


def films_of(arm: Arm, dataset_digest: str) -> Callable[[str], NDArray[np.uint8] | None]:
    """Image id -> (size, size) uint8, the prepared image that the cells were trained on; None for an unknown id.

    Raises:
        DataError: the images are not on this machine, or others are.
    """
    told = "films=true: the report without films is written, the films are not here: "
    try:
        store = Places().store(arm.config)
    except DataError as error:
        raise DataError(f"{told}{error}") from error
    if store.manifest.digest != dataset_digest:
        raise DataError(f"{told}{arm.config.data.source} gives data set {store.manifest.digest[:12]}, not the study's")
    place = {row.image_id: number for number, row in enumerate(store.manifest.rows)}
    return lambda image_id: store.images[place[image_id], :, :, 0] if image_id in place else None


def study_facts(
    name: str, config: StudyConfig, arms: Sequence[Arm], judged: Judged, stage: tuple[str, Mapping[str, str]]
) -> StudyFacts:
    """What the report says beside the comparison, from the cells alone."""
    spec, (split, told) = config.study, stage
    stored = [cell for cells in judged.stored.values() for cell in cells]
    digest = str(stored[0].facts["identity"]["dataset_digest"])
    return StudyFacts(
        name=name,
        question=spec.question,
        commands=tuple(_commands(name, split)),
        commit=_each(cell.facts["provenance"]["commit"][:12] for cell in stored),
        hardware=_each(_hardware(cell) for cell in stored),
        duration_s=sum(float(cell.facts["costs"]["duration_s"]) for cell in stored),
        data_card=_data_card(stored),
        vary=spec.vary,
        seeds=spec.seeds,
        folds=spec.folds,
        threshold_rule=f"{spec.threshold.rule} {spec.threshold.value:g}",
        stage=STAGES[split],
        looks=ledger.openings_on(home(), digest),
        exploratory=is_exploratory(spec, digest, {cell.run_id for cell in stored}),
        arms=tuple(_arm_facts(arm, judged.stored[arm.spec.name], told) for arm in arms),
        failed=judged.left_out,
        noise_floor=_noise_floor(name, arms[0], judged, spec),
        leaking=next((str(cell.facts["leaking"]) for cell in stored if cell.facts.get("leaking")), ""),
        histories={arm: [cell.facts["history"] for cell in cells] for arm, cells in judged.stored.items()},
    )


def _arm_facts(arm: Arm, cells: Sequence[StoredCell], told: Mapping[str, str]) -> ArmFacts:
    return ArmFacts(
        name=arm.spec.name,
        factor=arm.spec.factor,
        overrides=arm.spec.overrides,
        differing=arm.differing,
        costs=tuple(Costs(**cell.facts["costs"]) for cell in cells),
        lowest_epochs=tuple(_lowest_epoch(cell.facts["history"]) for cell in cells),
        tuned=told.get(arm.spec.name, "at default settings, not tuned"),
        run_ids=tuple(cell.run_id for cell in cells),
    )


def _lowest_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """The first epoch, from 0, of the lowest validation loss."""
    return min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])


def _overlap(judged: Judged, split: str) -> Overlap | None:
    """Training images overlap wherever one pool is cut again and again; the judged ones count on validation only."""
    cells = next(iter(judged.stored.values()))
    if split != "val" or len({cell.facts["identity"]["split_digest"] for cell in cells}) < 2:
        return None
    costs = [cell.facts["costs"] for cell in cells]
    return Overlap(_middle([one["num_train"] for one in costs]), _middle([one["num_val"] for one in costs]))


def _noise_floor(name: str, arm: Arm, judged: Judged, spec: StudySpec) -> str:
    fresh = fresh_spec(spec)
    asked = asked_cells(name, fresh, [arm], repetitions(fresh), "noise_floor")
    repeats = list(answers(read_stage(name, "noise_floor"), asked, ()).values())
    baseline = [cell for cell in judged.stored[arm.spec.name] if "val" in cell.predictions]
    if len(repeats) < 2 or len(baseline) < 2:
        return ""
    floor = noise_floor(arm_of(baseline, "val"), arm_of(repeats, "val"), spec.primary_metric)
    again = replicates_of(baseline[0], name)
    if not again or any(num_differing(baseline[0], one) for one in again):
        return floor.sentence
    return f"{floor.sentence} A replicate with the same seed gave the same logits, every one."


def _data_card(stored: Sequence[StoredCell]) -> dict[str, str]:
    facts = stored[0].facts
    config, costs = facts["identity"]["config"], facts["costs"]
    counted = {split: rows for split, rows in stored[0].predictions.items() if split != "train"}
    card = {
        "source": f"{config['data.source']}{' (synthetic phantoms)' if facts['synthetic'] else ''}",
        "digest": str(facts["identity"]["dataset_digest"]),
        "prepared": f"{config['data.image_size_px']} px, {config['data.resize']}, gray",
        "official test split against training": f"patient_rule={config['data.patient_rule']}",
        "training images": f"{costs['num_train']:,} (first repetition)",
    }
    if found := facts.get("data_report"):  # nor this
        card["looked at by verify, when the first cell was trained"] = str(found)
    if (kind := config.get("split.kind", "official")) != "official":  # cells of before the choice have no such key
        card["split"] = f"{kind}, all images divided anew"
    for split, rows in counted.items():
        patients = set(rows.patient.tolist())
        known = f"{len(patients):,} patient keys" if "" not in patients else "patients not verifiable"
        shares = f"{int((rows.label == 0).sum()):,} NORMAL, {int((rows.label == 1).sum()):,} PNEUMONIA"
        card[f"{STAGES[split]} images"] = f"{len(rows.label):,} ({shares}; {known}; first repetition)"
    return card


def _hardware(cell: StoredCell) -> str:
    known = cell.facts["provenance"]
    return f"{known['num_cores']} cores of {known['processor']}, {known['memory_gib']} GiB"


def _commands(name: str, split: str) -> list[str]:
    """The command with what was changed on it; switches, launchers and folders of one machine left out."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    changed = [shlex.quote(word) for word in typed if word.partition("=")[0].partition(".")[0] not in SWITCHES]
    changed += [shlex.quote(word) for word in typed if word.startswith("study.")]
    words = ["python -m cxr_experiments.study", f"study={name}", *changed]
    return [" ".join(words), *([" ".join([*words, "confirm=true"])] if split == "test" else [])]


def _each(values: Iterable[str]) -> str:
    """The distinct values, in order."""
    return ", ".join(dict.fromkeys(value for value in values if value))


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]
