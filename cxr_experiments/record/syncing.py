"""What MLflow lacks of the runs, sent from their folders; what it has is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cxr_experiments.config.compose import load_config
from cxr_experiments.config.identity import package_version
from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import CxrError, one_line
from cxr_experiments.evidence.evaluation import read_scores
from cxr_experiments.record import shortcut_gate, tracking
from cxr_experiments.record.data_report import tell_reports_again
from cxr_experiments.record.kept_files import RECORDS, RESULTS, TEST_RESULTS
from cxr_experiments.record.results import final_values
from cxr_experiments.record.run_folder import (
    FINISHED,
    RUNNING,
    RunFolder,
    all_runs,
    mlflow_run_id,
    read_json,
    read_json_lines,
    read_state,
)
from cxr_experiments.record.tracking import RunCard, ToldRun, TrackingPlace
from cxr_experiments.record.twin_in_mlflow import keep_id, own, where_told

LoadModel = Callable[[Path], tuple[Any, Any]]  # model.keras -> the Keras model and an input example
NO_METRIC = {"epoch", "duration_s", "images_per_s"}


def sync(home: Path, load_model: LoadModel, to: TrackingConfig | None = None) -> Iterator[str]:
    """Send what is missing, run by run, and say in a line what was sent; runs that are being trained are left out.

    Args:
        home: CXR_HOME.
        load_model: called for the runs alone whose model MLflow lacks.
        to: another place than where each run was told last, for runs of tracking=disabled as well; what no run's
            folder has goes there too.

    Raises:
        TrackingError: `to` does not answer.
    """
    if to is not None:
        tracking.reach(to, home)
    for folder in all_runs(home / "runs"):
        name = f"run {folder.run_id} ({folder.experiment_name})"
        try:
            sent = list(_send(folder, home, load_model, to))
        except CxrError as error:
            yield f"{name}: {error}"
            continue
        except (KeyError, TypeError, ValueError, StopIteration) as error:  # card, costs, events, or metrics
            yield f"{name}: its files are not what a run writes: {one_line(repr(error))}"
            continue
        if sent:
            yield f"{name}: sent {', '.join(sent)}"
    if to is not None:
        yield from tell_reports_again(to, home)
        yield from tracking.carry_over(home, to)


def _send(folder: RunFolder, home: Path, load_model: LoadModel, to: TrackingConfig | None) -> Iterator[str]:
    trained, card = load_config(folder.file("config.yaml")).tracking, folder.file("card.json")
    if (trained.kind == "disabled" and to is None) or not card.is_file() or read_state(folder).status == RUNNING:
        return
    place = tracking.open_place(to or where_told(folder, home), home, folder.experiment_name)
    if place is None:
        return
    if doubles := tracking.remove_doubles(place, own(folder)):
        yield f"the removal of {_counted(doubles, 'double')}"
    told = tracking.told_run(place, own(folder))
    if told is None:
        told = _begin(folder, place, _read_card(card))
        yield "the run itself"
    elif told.mlflow_id != mlflow_run_id(folder):
        keep_id(folder, place, told.mlflow_id)
    yield from _send_curves(folder, place, told)
    state = read_state(folder)
    missing = _missing_results(folder, told) if state.status == FINISHED else {}
    yield from _send_results(folder, place, told, missing)
    if state.status == FINISHED and not told.has_model and folder.file("model.keras").is_file():
        packages = [f"{name}=={package_version(name)}" for name in ("tensorflow", "keras", "numpy")]
        tracking.log_model(place, told.mlflow_id, *load_model(folder.file("model.keras")), packages)
        yield "the model"
    if told.status != state.status:
        *_, last = read_json_lines(folder.file("events.jsonl"))
        ended_ms = int(1000 * float(last["time_s"]))
        tracking.end_run(place, told.mlflow_id, state.status, state.reason, ended_ms=ended_ms)
        yield f"that it is {state.status}"


def _read_card(path: Path) -> RunCard:
    """As training told it: JSON makes lists of tuples, and MLflow shows parameters as they are written."""
    told = read_json(path)
    params = {name: tuple(value) if isinstance(value, list) else value for name, value in told["params"].items()}
    return RunCard(**{**told, "params": params})


def _begin(folder: RunFolder, place: TrackingPlace, card: RunCard) -> ToldRun:
    """A new run in MLflow, begun when ours was."""
    first = next(read_json_lines(folder.file("events.jsonl")))
    mlflow_id = tracking.start_run(place, card, started_ms=int(1000 * float(first["time_s"])))
    keep_id(folder, place, mlflow_id)
    return ToldRun(mlflow_id, RUNNING, frozenset(), frozenset(), frozenset(), has_model=False)


def _send_curves(folder: RunFolder, place: TrackingPlace, told: ToldRun) -> Iterator[str]:
    path = folder.file("metrics.jsonl")
    lines = [line for line in read_json_lines(path) if line["epoch"] not in told.epochs] if path.is_file() else []
    for line in lines:
        metrics = {name: value for name, value in line.items() if name not in NO_METRIC}
        tracking.log_epoch(place, told.mlflow_id, line["epoch"], metrics)
    if lines:
        yield _counted(len(lines), "epoch")


def _missing_results(folder: RunFolder, told: ToldRun) -> dict[str, float]:
    speed = float(read_json(folder.file("costs.json"))["images_per_s"])
    values = tracking.headlines(final_values(read_scores(folder.file("scores.csv")), images_per_s=speed))
    return {name: value for name, value in values.items() if name not in told.metrics}


def _send_results(
    folder: RunFolder, place: TrackingPlace, told: ToldRun, missing: Mapping[str, float]
) -> Iterator[str]:
    """Results that MLflow lacks, and files: those of a run that failed or was killed too."""
    if missing:
        tracking.log_epoch(place, told.mlflow_id, 0, missing)
        yield _counted(len(missing), "result")
    names = [name for name in (*RECORDS, *RESULTS) if _lacks(folder, name, told)]
    if any(name.startswith("test_") for name in missing):  # evaluated when MLflow was away: files there are older
        names = list(dict.fromkeys([*names, *TEST_RESULTS]))
        alarms = shortcut_gate.told_alarms(shortcut_gate.read_gate(folder))
        tracking.tag_run(place, told.mlflow_id, {"cxr.shortcuts": alarms})
    if files := [folder.file(name) for name in names if folder.file(name).exists()]:
        tracking.log_files(place, told.mlflow_id, files)
        yield _counted(len(files), "file")


def _lacks(folder: RunFolder, name: str, told: ToldRun) -> bool:
    """Whether MLflow lacks a file of the folder, or any file of a folder in it."""
    path = folder.file(name)
    own = [one.relative_to(folder.path).as_posix() for one in path.rglob("*")] if path.is_dir() else [name]
    return path.exists() and bool(set(own) - told.files)


def _counted(count: int, what: str) -> str:
    """`1 epoch`, `8 epochs`."""
    return f"{count} {what}{'s' * (count != 1)}"
