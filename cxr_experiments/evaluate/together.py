"""Several runs as one network, or one run with augmented copies: validation beside, one opening, one set of scores.

An ensemble's results lie in runs/<experiment_name>/ensemble-<hash>/, those of one run with copies in its tta-N; the
runs' own results stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cxr_experiments.config.commands import EvaluateConfig
from cxr_experiments.config.compose import home
from cxr_experiments.errors import RunError
from cxr_experiments.evaluate import told
from cxr_experiments.evaluate.member import (
    Member,
    has_test,
    member_of,
    opening_of,
    see_test,
    threshold_of,
    validation_of,
)
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.ensemble import ensemble_id, ensemble_threshold, mean_predictions, share_images
from cxr_experiments.evidence.evaluation import Predictions, read_predictions, score, write_predictions, write_scores
from cxr_experiments.record import console, ledger, results
from cxr_experiments.record.run_folder import RunFolder, read_json, write_json


@dataclass(frozen=True, eq=False)
class Together:
    """Runs that are judged as one: what they are called, where their results go, and what validation froze.

    `validation` holds their joint predictions of images that none of them was trained on; None without such images.
    """

    name: str
    place: RunFolder
    members: tuple[Member, ...]
    validations: tuple[Predictions, ...]
    validation: Predictions | None
    threshold: Threshold


def evaluate_together(folders: Sequence[RunFolder], config: EvaluateConfig) -> None:
    """Judge the runs as one network: validation first, then, unless told otherwise, the test split, opened once.

    Raises:
        RunError: they are no runs of one setting that differ in their seeds; the text names the difference.
        TrackingError: MLflow was not told; everything lies in the folder that was named.
    """
    if config.ensemble:
        refuse_unlike(folders)
    one = freeze([member_of(folder, config) for folder in folders], config)
    told.say_members(one.name, one.members)
    told.say_validation(one.members, one.validations, one.validation)
    if config.validation_only:
        return console.say("the test split was not opened")
    look(one)
    predictions = [read_predictions(member.kept.predictions("test")) for member in one.members]
    joint = mean_predictions(predictions, one.name)
    evidence = results.judge_test(joint, one.validation, one.threshold, synthetic=one.members[0].synthetic)
    is_headline = results.keep_test(one.place, evidence)
    told.say_test(evidence, predictions)
    console.say_leakage(one.members[0].folder, synthetic=evidence.synthetic)
    console.say(f"{one.name}: {one.place.path}")
    if is_headline:
        told.tell_mlflow(one.place, one.members, config, evidence)


def refuse_unlike(folders: Sequence[RunFolder]) -> None:
    """Members of an ensemble are trainings of one setting on one data set; only seeds and folds tell them apart.

    Raises:
        RunError: fewer than two; they differ in more; or two have the same seeds.
    """
    if len(folders) < 2:
        raise RunError(f"ensemble=true needs two runs or more, and there is one: {folders[0].run_id}")
    settings = [_setting(folder) for folder in folders]
    differing = [_differing(settings[0], own) for own in settings]
    for folder, own, keys in zip(folders, settings, differing, strict=True):
        if keys:
            values = ", ".join(f"{key} ({settings[0][key]} and {own[key]})" for key in keys[:4])
            more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
            alike = ",".join(one.run_id for one, other in zip(folders, differing, strict=True) if not other)
            raise RunError(
                f"runs {folders[0].run_id} and {folder.run_id} are no ensemble, they differ in {values}{more}: name "
                f"runs that differ in their seeds alone; alike are run={alike}"
            )
    drawn = [_repetition(folder) for folder in folders]
    for folder, seeds in zip(folders, drawn, strict=True):
        if (first := folders[drawn.index(seeds)]) is not folder:
            raise RunError(f"runs {first.run_id} and {folder.run_id} have the same seeds: each seed counts once")


def freeze(members: Sequence[Member], config: EvaluateConfig) -> Together:
    """Everything that is decided before the test split is looked at."""
    first, run_ids = members[0].folder, [member.folder.run_id for member in members]
    name = f"ensemble-{ensemble_id(run_ids, config.tta)}" if config.ensemble else first.run_id
    place = RunFolder(first.path.parent / name) if config.ensemble else members[0].kept
    validations = tuple(validation_of(member) for member in members)
    validation = mean_predictions(validations, name) if share_images(validations) else None
    threshold = ensemble_threshold(validation, [threshold_of(member, config.threshold) for member in members])
    return Together(name, place, tuple(members), validations, validation, threshold)


def look(one: Together) -> None:
    """One line in the ledger for all runs together, then the test predictions of those that have none yet.

    Predictions that are kept are not made again; their first judgement together is a look at the test split all the
    same, and says so.  The same command again is none.
    """
    opening = _one_opening([opening_of(member) for member in one.members], one.members)
    run_ids = sorted(member.folder.run_id for member in one.members)
    who = {"ensemble": one.name, "run_ids": run_ids} if len(run_ids) > 1 else {"run_id": run_ids[0]}
    experiment = {"experiment_name": one.members[0].folder.experiment_name, "tta": one.members[0].tta}
    rule = f"{one.threshold.rule} {one.threshold.target:g}"
    facts = {name: value for name, value in opening.items() if name != "test_digest"}
    entry = {**who, **experiment, **facts, "threshold": one.threshold.value, "threshold_rule": rule}
    unseen = [member for member in one.members if not has_test(member)]
    if not ledger.is_recorded(home(), opening["test_digest"], entry):
        openings = ledger.record_opening(home(), opening["test_digest"], entry)
        opened = f"test split opened for {len(unseen)} of {len(run_ids)} runs" if unseen else "kept predictions judged"
        console.say(f"{opened}, as {one.name}; looks at this test split on record: {openings}")
    for member in unseen:
        see_test(member, opening)
    _keep_card(one, opening)


def _keep_card(one: Together, opening: dict[str, Any]) -> None:
    """What the folder is, and its validation results where there are any."""
    one.place.path.mkdir(exist_ok=True)
    run_ids = [member.folder.run_id for member in one.members]
    write_json(one.place.file("members.json"), {"run_ids": run_ids, "tta": one.members[0].tta, **opening})
    if one.validation is not None and not one.place.file("scores.csv").is_file():
        write_predictions(one.place.predictions("val"), one.validation)
        known = all(one.validation.patient)
        write_scores(one.place.file("scores.csv"), score(one.validation, one.threshold, patients_verifiable=known))


def _one_opening(openings: Sequence[dict[str, Any]], members: Sequence[Member]) -> dict[str, Any]:
    for opening, member in zip(openings, members, strict=True):
        if opening["test_digest"] != openings[0]["test_digest"]:
            runs = f"runs {members[0].folder.run_id} and {member.folder.run_id}"
            raise RunError(f"{runs} have different test splits: they cannot be judged as one")
    return openings[0]


def _setting(folder: RunFolder) -> dict[str, Any]:
    """All of a run's identity that its seeds do not change."""
    identity = read_json(folder.file("identity.json"))
    config = {key: value for key, value in identity["config"].items() if key != "data.fold"}
    return {**config, "data set": identity["dataset_digest"], "network": identity.get("builder_digest", "")}


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Keys with another value; a choice that did not exist when the older run was trained is no difference."""
    return sorted(key for key in one.keys() & other.keys() if one[key] != other[key])


def _repetition(folder: RunFolder) -> tuple[object, ...]:
    identity = read_json(folder.file("identity.json"))
    return (sorted(identity["seeds"].items()), identity["config"].get("data.fold"))
