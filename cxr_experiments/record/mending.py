"""What killed processes leave behind, found and put right: runs that are RUNNING for ever, drafts, states, stores."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from cxr_experiments.errors import CxrError
from cxr_experiments.images.store.mending import mend_stores
from cxr_experiments.record import tracking
from cxr_experiments.record.run_folder import (
    FINISHED,
    KILLED,
    RUNNING,
    RunFolder,
    all_runs,
    claims_lock,
    is_at_work,
    read_state,
    record_event,
)
from cxr_experiments.record.twin_in_mlflow import where_told

GONE = "its process is gone"
NEEDED = ("config.yaml", "identity.json", "split.csv", "model.keras", "predictions_val.csv", "scores.csv")
_DRAFT_FOLDER = re.compile(r"\.[0-9a-f]{12}\.\d+")
_DRAFT_FILE = re.compile(r"\..+\.\d+")


def mend(home: Path) -> Iterator[str]:
    """Put right what can be, and say each thing in a line as it is done.

    A run whose process is gone becomes KILLED, here and in MLflow; the same `train` command takes it up again.  What is
    of no use any more is removed: half-made folders, files and stores, states of finished runs, stores that other code
    has made or whose pixels have changed.  Of finished runs that lack a file one line says so.
    """
    runs = home / "runs"
    for folder in all_runs(runs):
        for line in _mend_run(folder, home):
            yield f"run {folder.run_id} ({folder.experiment_name}): {line}"
    yield from _mend_folders(runs)
    yield from _mend_database(home / "mlruns")
    yield from mend_stores(runs / ".stores")


def _mend_run(folder: RunFolder, home: Path) -> Iterator[str]:
    try:
        status, busy = read_state(folder).status, is_at_work(folder)
    except CxrError as error:
        yield f"{error}; move its folder away, and train it again"
        return
    if status == RUNNING and not busy:
        record_event(folder, KILLED, GONE)
        yield f"was RUNNING, {GONE}; now KILLED{_close_in_mlflow(folder, home)}"
    if not busy:
        yield from _mend_drafts(folder)
    if status == FINISHED:
        if folder.states.is_dir():
            shutil.rmtree(folder.states)
            yield "finished; removed its states"
        missing = [name for name in NEEDED if not folder.file(name).is_file()]
        if missing:
            yield f"finished, but {', '.join(missing)} is gone; rerun=true trains a replicate"


def _mend_drafts(folder: RunFolder) -> Iterator[str]:
    """Files that were half written when the process went."""
    drafts = [path for place in (folder.path, folder.states) for path in place.glob(".*.*") if path.is_file()]
    for draft in sorted(path for path in drafts if _DRAFT_FILE.fullmatch(path.name)):
        draft.unlink()
        yield f"removed {draft.name}, half written"


def _mend_folders(runs: Path) -> Iterator[str]:
    with claims_lock(runs):  # who makes a folder holds it: what lies there now belongs to nobody
        for draft in sorted(runs.glob("*/.*")):
            if draft.is_dir() and _DRAFT_FOLDER.fullmatch(draft.name):
                shutil.rmtree(draft)
                yield f"removed {draft}, which a process left that is gone"


def _mend_database(mlruns: Path) -> Iterator[str]:
    """MLflow's database, half made."""
    if mlruns.is_dir():
        with tracking.opening_lock(mlruns):
            for draft in sorted(mlruns.glob(".mlflow.db.*")):
                draft.unlink()
                yield f"removed {draft}, half made"


def _close_in_mlflow(folder: RunFolder, home: Path) -> str:
    """What became of the run in MLflow, as the rest of a sentence."""
    try:
        place, mlflow_id = tracking.find_place(where_told(folder, home), home, folder.file("mlflow.json"))
        tracking.end_run(place, mlflow_id, KILLED, GONE)
    except CxrError as error:
        return f"; MLflow was not told: {error}"
    return ", in MLflow too" if place else ""
