"""A run while it is being made: its folder first, MLflow second, and how it ended, whatever happens.

`live_run` is a context: it claims the folder, opens the MLflow run, and on the way out writes FINISHED, FAILED or
KILLED with the reason into both.  When MLflow fails on the way, the run goes on and the loss is said once.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_experiments.config.collector import leave_out_imports
from cxr_experiments.config.identity import package_version
from cxr_experiments.config.machine import refusal, refusals_told
from cxr_experiments.errors import PrunedError, RunError, Terminated
from cxr_experiments.record import tracking
from cxr_experiments.record.attempt import signs_of_life
from cxr_experiments.record.epoch import Epoch
from cxr_experiments.record.kept_files import RECORDS, RESULTS
from cxr_experiments.record.run_folder import (
    FAILED,
    FINISHED,
    KILLED,
    RunFolder,
    append_json_line,
    claim,
    mlflow_link,
    record_event,
    require_own,
)
from cxr_experiments.record.run_plan import RunPlan, begin_folder
from cxr_experiments.record.tracking.limits import CLOSE_S, EPOCH_S, RESULTS_S
from cxr_experiments.record.twin_in_mlflow import Twin, find_twin, open_twin


@dataclass
class LiveRun:
    """The folder of a run in the making, and its twin in MLflow."""

    folder: RunFolder
    twin: Twin
    on_epoch_end: Callable[[Epoch], None] | None = None
    completed: bool = False

    @property
    def link(self) -> str:
        """Path of the run in MLflow's UI, behind http://HOST:PORT/."""
        return mlflow_link(self.folder)

    @property
    def states(self) -> Path:
        """Where the training keeps its state; taken away once the run is finished."""
        return self.folder.states

    @property
    def run_id(self) -> str:
        """Our id, 12 hex digits."""
        return self.folder.run_id

    def epoch(self, record: Epoch) -> None:
        """One epoch: a line of metrics.jsonl, one step in MLflow under Keras' names, then whoever else listens.

        Raises:
            RunError: the run has been taken up by another process.
            PrunedError: a search that listens gives the run up.
        """
        require_own(self.folder)
        speed = {"duration_s": record.duration_s, "images_per_s": record.images_per_s}
        append_json_line(self.folder.file("metrics.jsonl"), {"epoch": record.epoch, **record.metrics, **speed})
        if record.epoch not in self.twin.told_epochs:
            self.twin.tell(EPOCH_S, tracking.log_epoch, record.epoch, record.metrics)
        if self.on_epoch_end:
            self.on_epoch_end(record)

    def tell_results(self, values: Mapping[str, float], limit_s: float = RESULTS_S) -> None:
        """To MLflow: the headlines among `values`, and the folder's small files and figures."""
        record_files = [self.folder.file(name) for name in (*RECORDS, *RESULTS)]
        self.twin.tell(limit_s, tracking.log_final, values, record_files)

    def tell_model(self, model: Any, example: Any) -> None:
        """To MLflow: the Keras model, and the packages that load it."""
        packages = [f"{name}=={package_version(name)}" for name in ("tensorflow", "keras", "numpy")]
        self.twin.tell(RESULTS_S, tracking.log_model, model, example, packages)

    def complete(self) -> None:
        """The folder has everything: from here on the run is FINISHED, whatever MLflow does.

        Raises:
            RunError: the run has been taken up by another process.
        """
        if not self.completed:
            require_own(self.folder)
            record_event(self.folder, FINISHED)
            self.completed = True
            shutil.rmtree(self.folder.states, ignore_errors=True)


@contextmanager
def live_run(home: Path, plan: RunPlan, on_epoch_end: Callable[[Epoch], None] | None = None) -> Iterator[LiveRun]:
    """Claim the run's folder, open its MLflow run, hand both out, and close them as what the run became.

    `on_epoch_end` hears of each epoch once folder and MLflow have it, and may end the run by an error.

    Raises:
        RunError: another process trains this very run.
        MachineError: a full disk or memory, a folder that cannot be written.
        TrackingError: MLflow does not answer at the start, and never has.
    """
    twin = find_twin(plan.config.tracking, home, plan.experiment_name)
    with _claimed(home, plan) as folder, refusals_told(str(folder.path)):
        run = LiveRun(folder, twin, on_epoch_end)
        try:
            open_twin(twin, folder, begin_folder(folder, plan, home))
            leave_out_imports()
            yield run
            run.complete()
        except BaseException as error:
            if not run.completed:
                _close(run, error)
            raise
        finally:
            if run.completed:
                twin.tell(RESULTS_S, tracking.end_run, FINISHED)


@contextmanager
def _claimed(home: Path, plan: RunPlan) -> Iterator[RunFolder]:
    with refusals_told():
        folder = claim(home / "runs", plan.experiment_name, plan.identity)
    with signs_of_life(folder.sign_of_life):
        yield folder


def _close(run: LiveRun, error: BaseException) -> None:
    """Say how the run ended, in the folder and in MLflow; where a full disk refuses the line, `runs mend` adds it."""
    status, reason = _ending(error, str(run.folder.path))
    with contextlib.suppress(OSError, RunError):
        require_own(run.folder)
        record_event(run.folder, status, reason)
        run.tell_results({}, CLOSE_S)
        run.twin.tell(CLOSE_S, tracking.end_run, status, reason)


def _ending(error: BaseException, where: str) -> tuple[str, str]:
    """Status and reason of a run that this error ended."""
    if isinstance(error, KeyboardInterrupt):
        return KILLED, "Ctrl-C"
    if isinstance(error, Terminated):
        return KILLED, "SIGTERM"
    if isinstance(error, PrunedError):
        return KILLED, f"PRUNED: {error}"
    return FAILED, refusal(error, where) or f"{type(error).__name__}: {error}"
