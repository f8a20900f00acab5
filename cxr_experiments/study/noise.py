"""The yardstick of a study: its baseline against itself with new seeds and splits, and a run against its replicate."""

from __future__ import annotations

from dataclasses import replace

from cxr_experiments.config.study_spec import StudyConfig
from cxr_experiments.errors import RunError
from cxr_experiments.record.cells import read_cell
from cxr_experiments.study.cell import cell_file
from cxr_experiments.study.launch import launch, train_missing
from cxr_experiments.study.plan import Plan, plan_cells, repetitions


def train_noise_floor(plan: Plan, config: StudyConfig) -> Plan:
    """The baseline again at as many new seeds, each with a split of its own; returns the plan of those cells.

    Raises:
        RunError: one of them failed, or a replicate of the first cell differs from it.
    """
    check_replicate(plan)
    first = max(plan.spec.seeds) + 2  # the one between belongs to tuning
    fresh = replace(plan.spec, seeds=tuple(range(first, first + len(plan.spec.seeds))))
    renewed = replace(config, study=fresh)
    cells = plan_cells(plan.name, renewed, plan.arms[:1], list(repetitions(fresh)), plan.places, "noise_floor")
    floor = replace(plan, spec=fresh, arms=plan.arms[:1], cells=cells)
    if failed := train_missing(floor):
        raise RunError(f"{len(failed)} of {len(cells)} repeats of the baseline failed: {next(iter(failed.values()))}")
    return floor


def check_replicate(plan: Plan) -> None:
    """Train the baseline's first cell once more, as a replicate, and hold every logit against the first.

    Raises:
        RunError: it failed, or it differs: training is not deterministic here.
    """
    cell = plan.cells[0]
    again = replace(cell.card, stage="replicate")
    kept = cell_file(again, "").parent
    if not list(kept.glob("*.json")):
        words = [word for word in cell.overrides if not word.startswith("+tags.stage=")]
        overrides = (*words, f"+tags.stage={again.stage}", "rerun=true")
        (outcome,) = launch([replace(cell, card=again, overrides=overrides)])
        if outcome.reason:
            raise RunError(f"the replicate of run {cell.identity.run_id} failed: {outcome.reason}")
    before = read_cell(cell_file(cell.card, cell.identity.run_id)).predictions["val"]
    for path in kept.glob("*.json"):
        after = read_cell(path).predictions["val"]
        if (before.image_id != after.image_id).any() or (before.logit != after.logit).any():
            differing = int((before.logit != after.logit).sum()) if len(before.logit) == len(after.logit) else "all"
            raise RunError(
                f"run {path.stem} repeats run {before.run_id} with the same seeds and differs in {differing} of "
                f"{len(before.logit)} logits: on one CPU they are expected to be identical; were they trained on one?"
            )
