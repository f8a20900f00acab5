"""The yardstick of a study: its baseline against itself with new seeds and splits, and a run against its replicate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cxr_experiments.config.study_spec import StudyConfig, StudySpec
from cxr_experiments.errors import RunError
from cxr_experiments.record import console
from cxr_experiments.record.cells import StoredCell, read_cell
from cxr_experiments.study.cell import cell_file
from cxr_experiments.study.judge import read_stage
from cxr_experiments.study.launch import launch, train_missing
from cxr_experiments.study.plan import Plan, plan_cells, repetitions


def train_noise_floor(plan: Plan, config: StudyConfig) -> Plan:
    """The baseline again at as many new seeds, each with a split of its own; returns the plan of those cells.

    Raises:
        RunError: one of them failed, or a replicate of the first cell differs from it.
    """
    check_replicate(plan)
    fresh = fresh_spec(plan.spec)
    renewed = replace(config, study=fresh)
    cells = plan_cells(plan.name, renewed, plan.arms[:1], list(repetitions(fresh)), plan.places, "noise_floor")
    floor = replace(plan, spec=fresh, arms=plan.arms[:1], cells=cells)
    if failed := train_missing(floor):
        raise RunError(f"{len(failed)} of {len(cells)} repeats of the baseline failed: {next(iter(failed.values()))}")
    return floor


def fresh_spec(spec: StudySpec) -> StudySpec:
    """The study at as many seeds that nothing has used; the one between belongs to tuning."""
    first = max(spec.seeds) + 2
    return replace(spec, seeds=tuple(range(first, first + len(spec.seeds))))


def check_replicate(plan: Plan) -> None:
    """Train the baseline's first cell once more, as a replicate, and hold every logit against the first.

    Raises:
        RunError: it failed, or it differs: training is not deterministic here.
    """
    cell = plan.cells[0]
    before = read_cell(cell_file(cell.card, cell.identity.run_id))
    if not replicates_of(before, plan.name):
        words = [word for word in cell.overrides if not word.startswith("+tags.stage=")]
        overrides = (*words, "+tags.stage=replicate", "rerun=true")
        console.say(f"{plan.name}, replicate: {cell.label} is trained once more with the same seeds")
        (outcome,) = launch([replace(cell, card=replace(cell.card, stage="replicate"), overrides=overrides)])
        if outcome.reason:
            raise RunError(f"the replicate of run {cell.identity.run_id} failed: {outcome.reason}")
    for after in replicates_of(before, plan.name):
        if differing := num_differing(before, after):
            raise RunError(
                f"run {after.run_id} repeats run {before.run_id} with the same seeds and differs in {differing} of "
                f"{len(before.predictions['val'].logit)} logits: on one CPU they are expected to be identical; were "
                "they trained on one?"
            )


def replicates_of(cell: StoredCell, name: str) -> list[StoredCell]:
    """The kept cells whose identity differs from this one's in the replicate's number alone."""

    def besides(one: StoredCell) -> dict[str, Any]:
        return {key: value for key, value in one.facts["identity"].items() if key != "replicate"}

    return [one for one in read_stage(name, "replicate") if besides(one) == besides(cell)]


def num_differing(before: StoredCell, after: StoredCell) -> int:
    """How many of the validation logits two runs do not share."""
    first, second = before.predictions["val"], after.predictions["val"]
    if first.image_id.tolist() != second.image_id.tolist():
        return len(first.logit)
    return int((first.logit != second.logit).sum())
