"""A run while it is being made: its folder first, MLflow second, and how it ended, whatever happens.

`live_run` is a context: it claims the folder, opens the MLflow run, and on the way out writes FINISHED, FAILED or KILLED with
the reason into both.  When MLflow fails on the way, the run goes on and the loss is said once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr_experiments.errors import Terminated, TrackingError
from cxr_experiments.record import tracking
from cxr_experiments.record.run_folder import (
    FAILED,
    FINISHED,
    KILLED,
    RunFolder,
    append_json_line,
    record_event,
    write_json,
)
from cxr_experiments.record.tracking import RunCard, TrackingPlace


@dataclass
class LiveRun:
    """The folder of a run in the making, and its twin in MLflow ("" when there is none)."""

    folder: RunFolder
    place: TrackingPlace | None
    mlflow_id: str
    lost: list[str] = field(default_factory=list)

    @property
    def link(self) -> str:
        """Path of the run in MLflow's UI, behind http://HOST:PORT/."""
        return f"#/experiments/{self.place.experiment_id}/runs/{self.mlflow_id}" if self.place else ""

    def epoch(self, epoch: int, metrics: Mapping[str, float], **more: float) -> None:
        """One epoch's metrics: a line of metrics.jsonl, then one step in MLflow (under Keras' names alone)."""
        append_json_line(self.folder.file("metrics.jsonl"), {"epoch": epoch, **metrics, **more})
        self._tell(tracking.log_epoch, epoch, metrics)

    def tell_final(self, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Headline metrics and files to MLflow."""
        self._tell(tracking.log_final, metrics, files)

    def tell_model(self, model: Any, example: Any, requirements: Sequence[str]) -> None:
        """The model to MLflow."""
        self._tell(tracking.log_model, model, example, requirements)

    def end(self, status: str, reason: str = "") -> None:
        """Close the run in MLflow."""
        self._tell(tracking.end_run, status, reason)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        if self.lost:
            return
        try:
            call(self.place, self.mlflow_id, *arguments)
        except TrackingError as error:
            self.lost.append(str(error))
            print(f"warning: {error}; the run goes on and {self.folder.path} has everything", file=sys.stderr)


@contextmanager
def live_run(folder: RunFolder, place: TrackingPlace | None, card: RunCard) -> Iterator[LiveRun]:
    """Open a claimed run in MLflow, hand it out, and close it as what it became.

    Raises:
        TrackingError: MLflow does not answer at the start.
    """
    try:
        mlflow_id = tracking.start_run(place, card)
    except TrackingError as error:
        record_event(folder, FAILED, str(error))
        raise
    if place is not None:
        write_json(folder.file("mlflow.json"), {"run_id": mlflow_id, "experiment_id": place.experiment_id})
    run = LiveRun(folder, place, mlflow_id)
    try:
        yield run
        record_event(folder, FINISHED)
        run.end(FINISHED)
    except (KeyboardInterrupt, Terminated) as stop:
        _close(run, KILLED, "Ctrl-C" if isinstance(stop, KeyboardInterrupt) else "SIGTERM")
        raise
    except BaseException as error:
        _close(run, FAILED, f"{type(error).__name__}: {error}")
        raise


def _close(run: LiveRun, status: str, reason: str) -> None:
    record_event(run.folder, status, reason)
    run.tell_final({}, [run.folder.file("events.jsonl")])
    run.end(status, reason)
