"""`runs`: why a run is not the nearest other one; what killed processes left is put right once."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import Command, Sweep

from cxr_experiments.config.compose import write_config
from cxr_experiments.config.identity import identify
from cxr_experiments.config.schema import DataConfig, ExperimentConfig, TrackingConfig, TrainingConfig
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.store import open_store
from cxr_experiments.images.store.building import made_by
from cxr_experiments.record.attempt import own_attempt, started
from cxr_experiments.record.mending import GONE, mend
from cxr_experiments.record.run_folder import (
    FINISHED,
    KILLED,
    RUNNING,
    RunFolder,
    all_runs,
    append_json_line,
    claim,
    mlflow_run_id,
    read_json_lines,
    read_state,
    record_event,
)
from cxr_experiments.runs import verb_first

pytestmark = pytest.mark.fault

PLAIN = ExperimentConfig(tracking=TrackingConfig(kind="disabled"))


def made(home: Path, config: ExperimentConfig, *, images: str = "d") -> RunFolder:
    folder = claim(home / "runs", "exp", identify(config, images * 64, "s" * 64))
    write_config(folder.file("config.yaml"), config)
    return folder


def gone_process(folder: RunFolder) -> None:
    """The last event is that of a process that has ended without a word."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    who = replace(own_attempt(), pid=process.pid, started=started(process.pid))
    append_json_line(folder.file("events.jsonl"), {"time_s": 0.0, "status": RUNNING, "reason": "", **asdict(who)})
    process.wait()


def test_why_names_what_differs_from_the_nearest_run(tmp_path: Path, command: Command) -> None:
    run = made(tmp_path, PLAIN)
    far = made(tmp_path, replace(PLAIN, seed=3, data=DataConfig(image_size_px=64), training=TrainingConfig(epochs=2)))
    near = made(tmp_path, replace(PLAIN, training=TrainingConfig(epochs=7)), images="e")
    said = command("runs", "why", f"run={run.run_id}", home=tmp_path)
    assert said.status == 0, said.err
    assert said.out.splitlines() == [
        f"run {run.run_id} (exp, RUNNING) differs from the nearest, {near.run_id} (exp, RUNNING), in:",
        "  the images (dataset_digest eeeeeeeeeeee -> dddddddddddd)",
        "  training.epochs: 7 -> 40",
    ]
    shutil.rmtree(near.path)
    said = command("runs", "why", f"run={run.run_id[:6]}", home=tmp_path)
    assert f"nearest, {far.run_id}" in said.out
    assert "  seed: 3 -> 0" in said.out
    assert "seeds." not in said.out, "they follow from the one seed"


@pytest.mark.parametrize(
    ("words", "told"),
    [(("why",), "why which run?"), (("why", "run=aaaaaaaa"), "no run aaaaaaaa"), (("whi",), "why")],
)
def test_mistakes_are_one_line(words: tuple[str, ...], told: str, tmp_path: Path, command: Command) -> None:
    said = command("runs", *words, home=tmp_path)
    assert said.status == 2
    assert told in said.err
    assert len(said.err.splitlines()) == 1


def test_first_word_is_what_to_do() -> None:
    assert verb_first(["why", "run=a"]) == ["what=why", "run=a"]
    assert verb_first(["--help"]) == ["--help"]
    assert verb_first([]) == []


def test_what_killed_processes_left_is_mended_once(tmp_path: Path) -> None:
    alive, dead, done = (made(tmp_path, replace(PLAIN, seed=seed)) for seed in range(3))
    gone_process(dead)
    record_event(done, FINISHED)
    done.states.mkdir()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    draft = tmp_path / "runs" / "exp" / f".{'a' * 12}.{process.pid}"
    draft.mkdir()
    for half in (dead.file(f".card.json.{process.pid}"), alive.file(f".card.json.{process.pid}")):
        half.write_text("{")
    lines = list(mend(tmp_path))
    assert len(lines) == 5, lines
    assert f"run {done.run_id} (exp): finished, but split.csv, model.keras" in lines[-2]
    assert alive.file(f".card.json.{process.pid}").exists(), "its process may be writing it"
    assert (read_state(dead).status, read_state(dead).reason) == (KILLED, GONE)
    assert read_state(alive).status == RUNNING
    assert not draft.exists()
    assert not done.states.exists()
    assert len(list(mend(tmp_path))) == 1, "files that are gone are told again"


def test_stores_that_no_run_can_use_are_taken_away(tmp_path: Path) -> None:
    data = DataConfig(num_patients=20, image_size_px=16)
    stores = tmp_path / "runs" / ".stores"
    good, changed, of_others, torn = (
        open_store(read_manifest(one), one, folder=stores).path
        for one in (replace(data, image_size_px=size_px) for size_px in (16, 17, 18, 19))
    )
    with (changed / "images.npy").open("r+b") as images:
        images.seek(500)
        images.write(b"\x07")
    told = json.loads((of_others / "rows.json").read_text())
    (of_others / "rows.json").write_text(json.dumps({**told, "made_by": "0" * 12}))
    (torn / "rows.json").write_text("{")
    for key, first in (("a" * 20, f"{'0' * 12}/{'a' * 20}"), ("b" * 20, f"{made_by()}/{'b' * 20}")):
        (stores / f"{key}.partial").mkdir()
        (stores / f"{key}.partial" / "journal.jsonl").write_text(json.dumps({"store": first}) + "\n")
    lines = {line.split()[3]: line for line in mend(tmp_path)}
    assert lines.keys() == {str(path) for path in (changed, of_others, torn, stores / f"{'a' * 20}.partial")}
    assert "do not match their digest" in lines[str(changed)]
    assert {path.name for path in stores.iterdir() if path.is_dir()} == {good.name, f"{'b' * 20}.partial"}
    assert list(mend(tmp_path)) == []


def test_run_that_is_running_for_ever_is_closed_in_mlflow(sweep: Sweep, tmp_path: Path, command: Command) -> None:
    from mlflow import MlflowClient

    home = shutil.copytree(sweep.home, tmp_path / "home")
    folder = next(one for one in all_runs(home / "runs") if read_state(one).status == FINISHED)
    gone_process(folder)
    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    (twin,) = client.search_runs(["1"], f"tags.`cxr.run_id` = '{folder.run_id}'")
    client.update_run(twin.info.run_id, status="RUNNING")
    said = command("runs", "mend", home=home)
    assert f"run {folder.run_id} (phantom-two_by_two): was RUNNING, {GONE}; now KILLED, in MLflow too" in said.out
    assert client.get_run(twin.info.run_id).info.status == KILLED
    assert [event["status"] for event in read_json_lines(folder.file("events.jsonl"))][-1] == KILLED
    assert command("runs", "mend", home=home).out.startswith("nothing to mend")


def histories(home: Path) -> dict[str, object]:
    """Our id -> what MLflow has of the run: curves, final metrics, parameters, files, status; times left out."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("phantom-two_by_two")
    assert experiment is not None
    found: dict[str, object] = {}
    for run in client.search_runs([experiment.experiment_id], "tags.`cxr.run_id` != ''"):
        own = run.info.run_id
        curves = {
            name: [(one.step, one.value) for one in client.get_metric_history(own, name)] for name in run.data.metrics
        }
        files = sorted(one.path for folder in (None, "figures") for one in client.list_artifacts(own, folder))
        models = client.search_logged_models([experiment.experiment_id], f"source_run_id = '{own}'")
        found[run.data.tags["cxr.run_id"]] = (curves, run.data.params, files, run.info.status, len(models))
    return found


def test_lost_store_is_sent_again_from_the_folders_and_nothing_twice(
    sweep: Sweep, tmp_path: Path, command: Command
) -> None:
    home = shutil.copytree(sweep.home, tmp_path / "home")
    before = histories(home)
    assert len(before) == 4
    shutil.rmtree(home / "mlruns")
    said = command("runs", "sync", home=home)
    assert said.status == 0, said.err
    assert said.out.count("sent the run itself") == 4
    assert histories(home) == before
    assert command("runs", "sync", home=home).out.startswith("nothing to send to MLflow")
    assert histories(home) == before


@pytest.mark.long
def test_lost_epoch_and_file_are_sent_alone(sweep: Sweep, tmp_path: Path, command: Command) -> None:
    from mlflow import MlflowClient

    home = shutil.copytree(sweep.home, tmp_path / "home")
    shutil.rmtree(home / "mlruns")
    assert command("runs", "sync", home=home).status == 0  # whose artifacts now lie in this home
    before = histories(home)
    folder = next(one for one in all_runs(home / "runs") if read_state(one).status == FINISHED)
    mlflow_id = mlflow_run_id(folder)
    with sqlite3.connect(home / "mlruns" / "mlflow.db") as database:
        database.execute("DELETE FROM metrics WHERE run_uuid = ? AND step = 1", (mlflow_id,))
    (artifact,) = home.glob(f"mlruns/artifacts/*/{mlflow_id}/artifacts/split.csv")
    artifact.unlink()
    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    told = client.get_run(mlflow_id)
    client.create_run(told.info.experiment_id, tags=told.data.tags)
    said = command("runs", "sync", home=home)
    sent = "sent the removal of 1 double, 1 epoch, 1 file"
    assert said.out.splitlines() == [f"run {folder.run_id} (phantom-two_by_two): {sent}"]
    assert histories(home) == before


@pytest.mark.long
def test_test_results_that_mlflow_missed_are_sent(sweep: Sweep, tmp_path: Path, command: Command) -> None:
    home = shutil.copytree(sweep.home, tmp_path / "home")
    folder = next(one for one in all_runs(home / "runs") if read_state(one).status == FINISHED)
    database = home / "mlruns" / "mlflow.db"
    database.rename(tmp_path / "away.db")
    said = command("evaluate", f"run={folder.run_id}", home=home)
    assert "stand in the run folder alone" in said.err
    (tmp_path / "away.db").rename(database)
    with sqlite3.connect(database) as told:  # another test may have evaluated the run before
        for table in ("metrics", "latest_metrics"):
            told.execute(f"DELETE FROM {table} WHERE key LIKE 'test_%'")
    told.close()
    sent = command("runs", "sync", home=home).out
    assert f"run {folder.run_id} (phantom-two_by_two): sent" in sent
    assert command("runs", "sync", home=home).out.startswith("nothing to send")
    (scores,) = (home / "mlruns").rglob(f"{mlflow_run_id(folder)}/artifacts/scores.csv")
    assert scores.read_text() == folder.file("scores.csv").read_text()
    assert "test_auroc" in scores.read_text()


@pytest.mark.long
def test_runs_of_disabled_tracking_are_sent_where_sync_is_told_and_nowhere_else(
    sweep: Sweep, tmp_path: Path, command: Command
) -> None:
    home = shutil.copytree(sweep.home, tmp_path / "home")
    before = histories(home)
    shutil.rmtree(home / "mlruns")
    for folder in all_runs(home / "runs"):
        config = folder.file("config.yaml")
        config.write_text(config.read_text().replace("kind: local", "kind: disabled"))
        folder.file("mlflow.json").unlink()
    assert command("runs", "sync", home=home).out.startswith("nothing to send to MLflow")
    said = command("runs", "sync", "tracking=local", home=home)
    assert said.status == 0, said.err
    assert said.out.count("sent the run itself") == 4
    assert histories(home).keys() == before.keys()
    assert command("runs", "sync", "tracking=local", home=home).out.startswith("nothing to send to MLflow")
