"""What MLflow has of a run, so that what it lacks can be sent, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_experiments.record.tracking.place import TrackingPlace, client_of, door

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class ToldRun:
    """A run in MLflow: its id there, its status, the epochs of its curves, its metrics, its files, and its model."""

    mlflow_id: str
    status: str
    epochs: frozenset[int]
    metrics: frozenset[str]
    files: frozenset[str]
    has_model: bool


def told_run(place: TrackingPlace, mlflow_id: str, run_id: str) -> ToldRun | None:
    """The run with our id, and with MLflow's where that is known; None when it is not there.

    Raises:
        TrackingError: the store cannot be reached.
    """
    with door(place.uri):
        client = client_of(place.uri)
        run = find_run(client, place, mlflow_id, run_id)
        if run is None:
            return None
        own = str(run.info.run_id)
        models = client.search_logged_models([place.experiment_id], f"source_run_id = '{own}'")
        return ToldRun(
            own,
            str(run.info.status),
            frozenset(metric.step for metric in client.get_metric_history(own, "val_loss")),
            frozenset(run.data.metrics),
            frozenset(_files(client, own, None)),
            any(str(model.status) in ("READY", "LoggedModelStatus.READY") for model in models),
        )


def find_run(client: MlflowClient, place: TrackingPlace, mlflow_id: str, run_id: str) -> Run | None:
    """The run with our id; MLflow's is "" where a process was killed before it could write that down."""
    found = client.search_runs([place.experiment_id], f"tags.`cxr.run_id` = '{run_id}'")
    return next((one for one in found if mlflow_id in ("", one.info.run_id)), None)


def _files(client: MlflowClient, mlflow_id: str, folder: str | None) -> Iterator[str]:
    for one in client.list_artifacts(mlflow_id, folder):
        if one.is_dir:
            yield from _files(client, mlflow_id, one.path)
        else:
            yield str(one.path)
