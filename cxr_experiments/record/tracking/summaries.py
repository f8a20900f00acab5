"""One flat run per cell of a sweep or study, so that MLflow's table compares cells instead of single trainings.

In: what a cell is called, its metrics, and the runs that it stands for.  Out: a finished run tagged `kind=summary`,
and a view of the experiment that shows these runs with the columns that matter.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from cxr_experiments.record.tracking.place import TrackingPlace, client_of, door
from cxr_experiments.record.tracking.runs import RunCard, start_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ONLY_SUMMARIES = "tags.kind = 'summary'"
NAME_COLUMN, NAME_WIDTH_PX = "attributes.`Run Name`", 300


@dataclass(frozen=True)
class Summary:
    """A cell as MLflow shows it.

    `key` says which cell of the experiment it is, the same however many runs it has; `run_ids` are ours.  With
    `replaces_any` it takes the place of every earlier summary of that cell, else of those that stand for none but its
    own runs: a sweep over fewer seeds does not take away what more seeds have told.
    """

    card: RunCard
    metrics: dict[str, float]
    key: str
    run_ids: tuple[str, ...]
    replaces_any: bool = False


def keep_summaries(place: TrackingPlace | None, summaries: Sequence[Summary], home: Path) -> None:
    """Write each summary as a finished run, delete what it replaces, and leave alone one that is there already.

    What takes another's place also takes its start, by which the view is ordered.  Two sweeps that end together wait
    for each other, so that neither writes what the other has just written.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if place is None:
        return
    with FileLock(home / "mlruns" / ".summaries.lock"), door(place.uri):
        client = client_of(place.uri)
        for one in summaries:
            _keep(client, place, one)


def keep_view(place: TrackingPlace, metrics: Sequence[str], params: Sequence[str]) -> str:
    """Path, behind http://HOST:PORT/, of the experiment's summaries with these columns in this order.

    MLflow's own table shows no metric.  What its button "Share" makes is a tag of the experiment, in plain JSON (read
    in its code, and tried with 3.17); a view is named by what it shows, so that no link changes under its reader.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    columns = [*(f"metrics.`{name}`" for name in metrics), *(f"params.`{name}`" for name in params)]
    view = json.dumps(
        {
            "searchFilter": ONLY_SUMMARIES,
            "orderByKey": "attributes.start_time",
            "orderByAsc": True,
            "selectedColumns": columns,
            "columnOrder": [NAME_COLUMN, *columns],
            "columnWidths": {NAME_COLUMN: NAME_WIDTH_PX},
            "runsHiddenMode": "SHOW_ALL",
        }
    )
    key = f"cells-{hashlib.sha256(view.encode()).hexdigest()[:8]}"
    with door(place.uri):
        client_of(place.uri).set_experiment_tag(place.experiment_id, f"mlflow.sharedViewState.{key}", view)
    # without workflowType the UI of MLflow 3 opens in its mode for chat applications
    return f"#/experiments/{place.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def _keep(client: MlflowClient, place: TrackingPlace, summary: Summary) -> None:
    found = client.search_runs([place.experiment_id], f"{ONLY_SUMMARIES} and tags.`cxr.cell` = '{summary.key}'")
    own = set(summary.run_ids)
    earlier = [run for run in found if summary.replaces_any or set(_run_ids(run)) <= own]
    same = next((run for run in earlier if _tells(run, summary)), None)
    if same is None:
        started_ms = min((run.info.start_time for run in earlier), default=None)
        _write(client, place, summary, started_ms)
    for run in earlier:
        if run is not same:
            client.delete_run(run.info.run_id)


def _write(client: MlflowClient, place: TrackingPlace, summary: Summary, started_ms: int | None) -> None:
    from mlflow.entities import Metric

    tags = {"kind": "summary", "cxr.cell": summary.key, "cxr.run_ids": " ".join(summary.run_ids)}
    card = summary.card
    whole = RunCard(card.name, card.params, {**card.tags, **tags}, card.dataset_source, card.dataset_digest)
    run_id = start_run(place, whole, started_ms=started_ms)
    now_ms = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(name, value, now_ms, 0) for name, value in summary.metrics.items()])
    client.set_terminated(run_id, status="FINISHED")


def _tells(run: Run, summary: Summary) -> bool:
    """Whether the run is finished and says all that the summary says."""
    params = {name: str(value) for name, value in summary.card.params.items()}
    said = (run.info.run_name, run.data.params, run.data.metrics, _run_ids(run), run.info.status)
    return said == (summary.card.name, params, summary.metrics, summary.run_ids, "FINISHED")


def _run_ids(run: Run) -> tuple[str, ...]:
    return tuple(run.data.tags.get("cxr.run_ids", "").split())
