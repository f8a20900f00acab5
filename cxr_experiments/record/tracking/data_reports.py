"""One flat run per data report, and its state as a tag on every run that was trained on those images.

In: what the report is called, its counts and files.  Out: a finished run tagged `kind=data_report`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from cxr_experiments.record.tracking.place import TrackingPlace, client_of, door
from cxr_experiments.record.tracking.runs import RunCard, log_epoch, start_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "data"


def keep_data_report(
    place: TrackingPlace, card: RunCard, metrics: Mapping[str, float], files: Sequence[Path], home: Path
) -> str:
    """Write a report as a finished run in the place of earlier ones of the same data set; returns MLflow's id.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    with FileLock(home / "mlruns" / ".data_reports.lock"), door(place.uri):
        client = client_of(place.uri)
        earlier = _found(client, [place.experiment_id], f"{_of(card.dataset_digest)} and tags.kind = 'data_report'")
        whole = RunCard(
            name=card.name,
            params=card.params,
            tags={**card.tags, "kind": "data_report", "cxr.dataset_digest": card.dataset_digest},
            dataset_source=card.dataset_source,
            dataset_digest=card.dataset_digest,
        )
        replaced = [run.info.run_id for run in earlier]
        run_id = start_run(place, whole)
        log_epoch(place, run_id, 0, metrics)
        for file in files:
            client.log_artifact(run_id, str(file))
        client.set_terminated(run_id, status="FINISHED")
        for run in replaced:
            client.delete_run(run)
    return run_id


def tag_runs_on(place: TrackingPlace, digests: Collection[str], tags: Mapping[str, str]) -> int:
    """Write a data report's tags to every run on these images, in all experiments; returns how many runs.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    num_tagged = 0
    with door(place.uri):
        client = client_of(place.uri)
        experiments = [one.experiment_id for one in client.search_experiments()]
        for digest in dict.fromkeys(digests):
            for run in _found(client, experiments, _of(digest)):
                if run.data.tags.get("kind") == "data_report":
                    continue
                for tag, value in tags.items():
                    if run.data.tags.get(tag) != value:
                        client.set_tag(run.info.run_id, tag, value)
                num_tagged += 1
    return num_tagged


def _of(digest: str) -> str:
    return f"tags.`cxr.dataset_digest` = '{digest}'"


def _found(client: MlflowClient, experiments: Sequence[str], which: str) -> Iterator[Run]:
    """Every run that fits, page by page."""
    token = None
    while token != "":
        page = client.search_runs(list(experiments), which, page_token=token)
        yield from page
        token = page.token or ""
