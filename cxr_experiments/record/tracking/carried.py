"""What the project's own database has and no run's folder: summaries, ensembles, notes; carried to another place.

In: the home, where its runs are told from now on.  Out: the same runs there, each once, however often this is done.
Films go to no server: of data reports `record/data_report` decides what is sent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import one_line
from cxr_experiments.record.tracking.data_reports import EXPERIMENT
from cxr_experiments.record.tracking.moved import follow_move
from cxr_experiments.record.tracking.place import TrackingPlace, client_of, door, open_place, store_uri
from cxr_experiments.record.tracking.runs import tell_data
from cxr_experiments.record.tracking.told import Own, find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

ORIGIN = "cxr.carried_from"  # MLflow's id of the run in the home's own database
_AT_ONCE = 500  # values in a request; MLflow takes 1,000
_OURS = ("mlflow.sharedViewState.", "mlflow.note.")  # among MLflow's own tags, those that people have made


def carry_over(home: Path, to: TrackingConfig) -> Iterator[str]:
    """Carry them, and say each in a line; runs that have a folder get the tags and notes that were added to them.

    A run that was deleted there, since a newer one has taken its place, stays so.

    Raises:
        TrackingError: one of the two places cannot be reached, read or written.
    """
    own = TrackingConfig()
    uri = store_uri(own, home)
    if to.kind == "disabled" or store_uri(to, home) == uri or not (home / "mlruns" / "mlflow.db").is_file():
        return
    with FileLock(home / "mlruns" / ".carried.lock"):
        with door(uri):
            follow_move(home)
            here = client_of(uri)
            experiments = here.search_experiments()
        for experiment in experiments:
            with door(uri):
                runs = list(_runs(here, experiment.experiment_id))
            if runs and (place := open_place(to, home, experiment.name)):
                yield from _carry(here, experiment, runs, place)


def _carry(here: MlflowClient, experiment: Experiment, runs: list[Run], place: TrackingPlace) -> Iterator[str]:
    there = client_of(place.uri)
    with door(place.uri):
        told = there.get_experiment(place.experiment_id).tags
        for name, value in _made_by_people(experiment.tags).items():
            if name not in told:
                there.set_experiment_tag(place.experiment_id, name, value)
    for run in runs:
        if run.info.status == "RUNNING" or (experiment.name == EXPERIMENT and run.data.tags.get("kind")):
            continue
        with door(place.uri):
            done = _carry_run(here, run, there, place)
        if done:
            yield f"{one_line(run.info.run_name)} ({experiment.name}): {done}"


def _carry_run(here: MlflowClient, run: Run, there: MlflowClient, place: TrackingPlace) -> str:
    """What was sent of the run; "" when nothing was missing."""
    tags = run.data.tags
    if ours := tags.get("cxr.run_id"):
        twin, _ = find_run(there, place, Own("", ours, tags.get("cxr.begun", "")))
        if twin is not None:
            missing = {name: value for name, value in _made_by_people(tags).items() if name not in twin.data.tags}
            for name, value in missing.items():
                there.set_tag(twin.info.run_id, name, value)
            return f"sent {len(missing)} tag{'s' * (len(missing) != 1)}" if missing else ""
    if _is_there(there, place, run.info.run_id):
        return ""
    _copy(here, run, there, place)
    return "sent"


def _is_there(there: MlflowClient, place: TrackingPlace, origin: str) -> bool:
    """Whether it was carried before; one that broke off half-way is removed."""
    from mlflow.entities import ViewType

    found = there.search_runs([place.experiment_id], f"tags.`{ORIGIN}` = '{origin}'", ViewType.ALL)
    whole = [one for one in found if one.info.status != "RUNNING"]
    for half in found:
        if half not in whole and half.info.lifecycle_stage == "active":
            there.delete_run(half.info.run_id)
    return bool(whole)


def _copy(here: MlflowClient, run: Run, there: MlflowClient, place: TrackingPlace) -> None:
    """The run with its times, parameters, each value of each metric, tags, data sets and files; its end comes last."""
    from mlflow.entities import Param

    old, told = run.info.run_id, run.data
    tags = {**told.tags, ORIGIN: old}
    new = there.create_run(place.experiment_id, run.info.start_time, tags, run.info.run_name).info.run_id
    params = [Param(name, value) for name, value in told.params.items()]
    values = [value for name in told.metrics for value in here.get_metric_history(old, name)]
    for start in range(0, len(params), 100):
        there.log_batch(new, params=params[start : start + 100])
    for start in range(0, len(values), _AT_ONCE):
        there.log_batch(new, metrics=values[start : start + _AT_ONCE])
    if run.inputs and run.inputs.dataset_inputs:
        tell_data(there, new, run.inputs.dataset_inputs)
    with tempfile.TemporaryDirectory() as folder:
        for one in here.list_artifacts(old):
            here.download_artifacts(old, one.path, folder)
        if any(Path(folder).iterdir()):
            there.log_artifacts(new, folder)
    there.set_terminated(new, run.info.status, run.info.end_time)


def _made_by_people(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if not name.startswith("mlflow.") or name.startswith(_OURS)}


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    token = None
    while token != "":
        page = client.search_runs([experiment_id], page_token=token)
        yield from page
        token = page.token or ""
