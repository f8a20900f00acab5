"""However a run ends, its folder and MLflow say so; a tracker that fails on the way does not take the run with it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from cxr_experiments.config.compose import load_config
from cxr_experiments.config.schema import DataConfig, ExperimentConfig, TrackingConfig
from cxr_experiments.errors import PrunedError, Terminated, TrackingError, TrainingError
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.splits import make_split
from cxr_experiments.images.store import BadFile, Store
from cxr_experiments.record.live_run import live_run
from cxr_experiments.record.run_folder import FAILED, FINISHED, KILLED, all_runs, read_json_lines, read_state
from cxr_experiments.record.run_plan import RunPlan, find_finished, plan_run


@dataclass(frozen=True)
class Epoch:
    """One epoch, as a trainer tells it."""

    epoch: int
    metrics: dict[str, float] = field(default_factory=lambda: {"loss": 0.5, "val_loss": 0.4})
    duration_s: float = 1.0
    images_per_s: float = 10.0


def plan(home: Path, tracking: TrackingConfig, *, rerun: bool = False) -> RunPlan:
    data = DataConfig(num_patients=40)
    config = ExperimentConfig(data=data, tracking=tracking, rerun=rerun, choices={"augmentation": "no_flip"})
    manifest = read_manifest(data)
    nothing = np.zeros((len(manifest.rows), 16, 16, 1), np.uint8)
    store = Store(images=nothing, manifest=manifest, bad_files=(BadFile("a/b.png", "empty file"),), path=home)
    return plan_run(config, store, make_split(manifest, data, seed=0), home / "runs")


LOCAL, NONE = TrackingConfig(), TrackingConfig(kind="disabled")


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (TrainingError("the loss is nan in epoch 3"), FAILED, "TrainingError: the loss is nan in epoch 3"),
        (ZeroDivisionError("a bug"), FAILED, "ZeroDivisionError: a bug"),
        (KeyboardInterrupt(), KILLED, "Ctrl-C"),
        (PrunedError("val_loss 0.7 after 2 epochs"), KILLED, "PRUNED: val_loss 0.7 after 2 epochs"),
        (Terminated(), KILLED, "SIGTERM"),
    ],
)
def test_end_of_a_run_is_told_with_its_reason(tmp_path: Path, error: BaseException, status: str, reason: str) -> None:
    from mlflow import MlflowClient

    def broken_run() -> str:
        with live_run(tmp_path, plan(tmp_path, LOCAL)) as run:
            run.epoch(Epoch(0))
            told.append(run.twin.mlflow_id)
            raise error

    told: list[str] = []
    with pytest.raises(type(error)):
        broken_run()
    (folder,) = all_runs(tmp_path / "runs")
    assert (read_state(folder).status, read_state(folder).reason) == (status, reason)
    assert [line["epoch"] for line in read_json_lines(folder.file("metrics.jsonl"))] == [0]
    twin = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db").get_run(told[0])
    assert (twin.info.status, twin.data.tags["reason"]) == (status, reason)


def test_finished_run_is_found_and_its_replicate_is_another(tmp_path: Path) -> None:
    first = plan(tmp_path, NONE)
    assert find_finished(first, tmp_path / "runs") is None
    with live_run(tmp_path, first):
        pass
    found = find_finished(plan(tmp_path, NONE), tmp_path / "runs")
    assert found is not None
    assert read_state(found).status == FINISHED
    again = plan(tmp_path, NONE, rerun=True)
    assert (again.identity.replicate, find_finished(again, tmp_path / "runs")) == (1, None)
    assert again.identity.run_id != first.identity.run_id


def test_phantom_runs_live_in_experiments_of_their_own(tmp_path: Path) -> None:
    assert plan(tmp_path, NONE).experiment_name == "phantom-seed_study"


def test_tracker_that_is_lost_on_the_way_is_told_once_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_run(tmp_path, plan(tmp_path, LOCAL)) as run:
        run.epoch(Epoch(0))
        assert run.twin.place is not None
        run.twin.place = replace(run.twin.place, uri=f"sqlite:////{tmp_path}/gone/mlflow.db")
        for number in range(1, 4):
            run.epoch(Epoch(number))
    assert read_state(run.folder).status == FINISHED
    assert len(list(read_json_lines(run.folder.file("metrics.jsonl")))) == 4
    assert capsys.readouterr().err.count("warning: MLflow at") == 1


def test_tracker_that_never_answers_stops_the_run_before_it_trains(tmp_path: Path) -> None:
    gone = TrackingConfig(kind="server", uri="http://me:secret@127.0.0.1:9")
    with pytest.raises(TrackingError), live_run(tmp_path, plan(tmp_path, gone)):
        pytest.fail("the run began")
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_stored_config_reads_back_without_credentials(tmp_path: Path) -> None:
    planned = plan(tmp_path, NONE)
    secret = replace(planned.config, tracking=TrackingConfig(kind="disabled", uri="https://me:secret@host"))
    with live_run(tmp_path, replace(planned, config=secret)) as run:
        pass
    stored = load_config(run.folder.file("config.yaml"))
    assert stored.tracking.uri == "https://host"
    assert replace(stored, tracking=NONE) == planned.config
    assert json.loads(run.folder.file("identity.json").read_text())["replicate"] == 0


def test_error_after_the_folder_is_complete_leaves_the_run_finished(tmp_path: Path) -> None:
    def interrupted_while_mlflow_is_told() -> None:
        with live_run(tmp_path, plan(tmp_path, LOCAL)) as run:
            run.complete()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_while_mlflow_is_told()
    (folder,) = all_runs(tmp_path / "runs")
    assert [event["status"] for event in read_json_lines(folder.file("events.jsonl"))] == ["RUNNING", FINISHED]


def test_skipped_files_are_named_in_the_run(tmp_path: Path) -> None:
    with live_run(tmp_path, plan(tmp_path, NONE)) as run:
        pass
    skipped = json.loads(run.folder.file("skipped_files.json").read_text())
    assert skipped == {"num_skipped": 1, "files": [{"path": "a/b.png", "reason": "empty file"}]}
