"""What killed processes leave behind, found and put right: runs that are RUNNING for ever, drafts, states."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from cxr_experiments.config.compose import load_config
from cxr_experiments.errors import CxrError
from cxr_experiments.record import tracking
from cxr_experiments.record.run_folder import (
    FINISHED,
    KILLED,
    RUNNING,
    RunFolder,
    all_runs,
    read_state,
    record_event,
)

GONE = "its process is gone"
_DRAFT = re.compile(r"\.[0-9a-f]{12}\.(\d+)")


def mend(home: Path) -> Iterator[str]:
    """Put right what can be, and say each thing in a line as it is done.

    A run whose process is gone becomes KILLED, here and in MLflow; the same `train` command takes it up again.  Drafts
    of folders whose process is gone, and states of finished runs, are removed.
    """
    runs = home / "runs"
    for folder in all_runs(runs):
        name = f"run {folder.run_id} ({folder.experiment_name})"
        try:
            state = read_state(folder)
        except CxrError as error:
            yield f"{name}: {error}; move its folder away, and train it again"
            continue
        if state.status == RUNNING and not state.alive:
            record_event(folder, KILLED, GONE)
            yield f"{name}: was RUNNING, {GONE}; now KILLED{_close_in_mlflow(folder, home)}"
        if state.status == FINISHED and folder.states.is_dir():
            shutil.rmtree(folder.states)
            yield f"{name}: finished; removed its states"
    for draft in sorted(runs.glob("*/.*")):
        found = _DRAFT.fullmatch(draft.name)
        if found and draft.is_dir() and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(draft)
            yield f"removed {draft}, which a process left that is gone"


def _close_in_mlflow(folder: RunFolder, home: Path) -> str:
    """What became of the run in MLflow, as the rest of a sentence."""
    try:
        told_to = tracking.named_before(load_config(folder.file("config.yaml")).tracking, home)
        place, mlflow_id = tracking.find_place(told_to, home, folder.file("mlflow.json"))
        tracking.end_run(place, mlflow_id, KILLED, GONE)
    except CxrError as error:
        return f"; MLflow was not told: {error}"
    return ", in MLflow too" if place else ""
