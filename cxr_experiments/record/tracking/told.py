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


@dataclass(frozen=True)
class Own:
    """What a run's folder knows of its twin in MLflow.

    Attributes:
        mlflow_id: "" where a process was killed before it could write that down.
        run_id: our id; a colleague's run of the same choices has the same.
        begun: what sets the folder apart from a colleague's.
    """

    mlflow_id: str
    run_id: str
    begun: str


def told_run(place: TrackingPlace, own: Own) -> ToldRun | None:
    """The folder's run in MLflow; None when it is not there.

    Raises:
        TrackingError: the store cannot be reached.
    """
    with door(place.uri):
        client = client_of(place.uri)
        run, _ = find_run(client, place, own)
        if run is None:
            return None
        found = str(run.info.run_id)
        models = client.search_logged_models([place.experiment_id], f"source_run_id = '{found}'")
        return ToldRun(
            found,
            str(run.info.status),
            frozenset(metric.step for metric in client.get_metric_history(found, "val_loss")),
            frozenset(run.data.metrics),
            frozenset(_files(client, found, None)),
            any(
                model.name == "model" and str(model.status) in ("READY", "LoggedModelStatus.READY") for model in models
            ),
        )


def remove_doubles(place: TrackingPlace, own: Own) -> int:
    """Delete what a server has made twice: it was killed after it did as asked, and before it could say so.

    Raises:
        TrackingError: the store cannot be reached.
    """
    with door(place.uri):
        client = client_of(place.uri)
        _, doubles = find_run(client, place, own)
        for double in doubles:
            client.delete_run(double.info.run_id)
        return len(doubles)


def find_run(client: MlflowClient, place: TrackingPlace, own: Own) -> tuple[Run | None, list[Run]]:
    """The folder's run, and others that were begun for the same folder."""
    found = client.search_runs([place.experiment_id], f"tags.`cxr.run_id` = '{own.run_id}'")
    mine = [run for run in found if run.data.tags.get("cxr.begun") == own.begun or run.info.run_id == own.mlflow_id]
    mine.sort(key=lambda run: (run.info.run_id != own.mlflow_id, run.info.start_time))
    return (mine[0] if mine else None), mine[1:]


def _files(client: MlflowClient, mlflow_id: str, folder: str | None) -> Iterator[str]:
    for one in client.list_artifacts(mlflow_id, folder):
        if one.is_dir:
            yield from _files(client, mlflow_id, one.path)
        else:
            yield str(one.path)
