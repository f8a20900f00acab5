"""Confirmation: the protocol is locked in the test ledger, then the test split is opened once for all of its cells.

What is locked: the study as it was run, its primary metric, margin, family of comparisons, threshold rule, and every
model by its digest.  Nothing that comes after can change what was asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from cxr_experiments.config.compose import home
from cxr_experiments.config.study_spec import ON_VALIDATION, StudySpec
from cxr_experiments.errors import ConfigError, RunError
from cxr_experiments.images.splits import make_split
from cxr_experiments.record import console, ledger
from cxr_experiments.record.cells import keep_cell
from cxr_experiments.record.run_folder import FINISHED, RunFolder, read_json, read_state
from cxr_experiments.study.cell import cell_file, run_of
from cxr_experiments.study.plan import Plan, PlannedCell


def confirm(plan: Plan) -> None:
    """Lock the protocol, let every cell's model see the test images once, and add test rows to the cells.

    A confirmation that was interrupted goes on where it stopped, under the same lock.  Cells that hold test rows
    already are not asked again, but another protocol over them is another lock and another look.

    Raises:
        ConfigError: the primary metric does not exist on a test split.
        RunError: a cell is missing, or its model is not on this machine.
    """
    from cxr_experiments.evaluate.one_run import evaluate_locked

    if plan.spec.primary_metric in ON_VALIDATION:
        raise ConfigError(
            f"study.primary_metric={plan.spec.primary_metric} is measured on validation images alone: "
            "a study that is to be confirmed needs one that the test split has too, as auroc"
        )
    unopened = [cell for cell in plan.cells if not has_test_rows(cell)]
    if not unopened and is_locked(plan):
        return
    folders = {cell.identity.run_id: _folder(cell) for cell in plan.cells}
    lock = lock_of(plan, folders)
    first = ledger.record_lock(home(), lock)
    console.say(
        f"protocol of {plan.name} locked in {home() / 'results' / 'test_ledger.jsonl'}"
        + ("" if first else "; this data set was opened under another lock before: exploratory")
    )
    _record_opening(plan, lock)
    for number, cell in enumerate(unopened, start=1):
        folder = folders[cell.identity.run_id]
        evaluate_locked(folder, cell.config.data.root)
        keep_cell(folder, cell_file(cell.card, folder.run_id).parent, cell.card)
        console.say(f"test split seen by {cell.label} ({number} of {len(unopened)})")


def is_locked(plan: Plan) -> bool:
    """Whether a ledger has this very protocol, with these very runs."""
    own = (protocol_digest(plan.spec), {cell.identity.run_id for cell in plan.cells})
    locks = ledger.locks_on(home(), plan.manifest.digest)
    return any((lock["study_sha256"], set(lock["models"])) == own for lock in locks)


def has_test_rows(cell: PlannedCell) -> bool:
    """Whether the cell holds test metrics already."""
    path = cell_file(cell.card, cell.identity.run_id)
    return path.is_file() and any(name.startswith("test_") for name in read_json(path)["metrics"])


def lock_of(plan: Plan, folders: dict[str, RunFolder]) -> dict[str, Any]:
    """The line that the ledger keeps, plain JSON."""
    return {
        "lock": plan.name,
        "study_sha256": protocol_digest(plan.spec),
        "dataset_digest": plan.manifest.digest,
        "primary_metric": plan.spec.primary_metric,
        "margin": plan.spec.margin,
        "family": [arm.spec.name for arm in plan.arms[1:]],
        "threshold_rule": f"{plan.spec.threshold.rule} {plan.spec.threshold.value:g}",
        "models": {run_id: _sha256(folder) for run_id, folder in sorted(folders.items())},
    }


def protocol_digest(spec: StudySpec) -> str:
    """SHA-256 of the study as it was resolved, command-line changes included.

    What a study may ask for since protocols were first locked counts only where it is asked for.
    """
    told = {name: value for name, value in asdict(spec).items() if name != "ensemble" or value}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def is_exploratory(spec: StudySpec, dataset_digest: str, run_ids: Collection[str]) -> bool:
    """Whether another protocol, or this one with other runs, was locked on this data before."""
    locks = ledger.locks_on(home(), dataset_digest)
    own = (protocol_digest(spec), set(run_ids))
    return bool(locks) and (locks[0]["study_sha256"], set(locks[0]["models"])) != own


def _record_opening(plan: Plan, lock: dict[str, Any]) -> None:
    """One opening for the whole protocol, before the first image is read; a resumed confirmation adds none."""
    config = plan.cells[0].config
    split = make_split(plan.manifest, config.data, seed=0, kind=config.split.kind)
    entry = {
        "study": plan.name,
        "study_sha256": lock["study_sha256"],
        "source": plan.manifest.source,
        "dataset_digest": plan.manifest.digest,
        "num_images": len(split.test),
        "run_ids": sorted(lock["models"]),
    }
    if not ledger.is_recorded(home(), split.test_digest, entry):
        openings = ledger.record_opening(home() / "results", split.test_digest, entry)
        console.say(f"test split opened for the study {plan.name}; looks at this test split on record: {openings}")


def _folder(cell: PlannedCell) -> RunFolder:
    """The run that answers a cell, with its model.

    Raises:
        RunError: it is not here.
    """
    folder = run_of(cell.config.experiment_name, cell.identity.run_id)
    what = f"{cell.label} (run {cell.identity.run_id})"
    if not cell_file(cell.card, cell.identity.run_id).is_file():
        raise RunError(f"{what} is not finished: run the study to its end before confirm=true")
    if not folder.file("model.keras").is_file() or read_state(folder).status != FINISHED:
        raise RunError(
            f"{what} was trained elsewhere and its model is not under {folder.path.parent}: copy that run folder here, "
            "or take its cell out of results/ and train it again"
        )
    return folder


def _sha256(folder: RunFolder) -> str:
    return hashlib.sha256(folder.file("model.keras").read_bytes()).hexdigest()
