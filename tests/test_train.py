"""The main job from the command line: sweeps with a failing cell, repeats, determinism, interrupts, what is printed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Command, Sweep

from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.learning.trainer import load_model
from cxr_experiments.record.run_folder import FAILED, FINISHED, KILLED, RunFolder, all_runs, read_json_lines, read_state
from cxr_experiments.record.sweep import tell_sweep


def runs_of(home: Path) -> list[RunFolder]:
    return all_runs(home / "runs")


def test_sweep_goes_on_after_a_failed_cell_and_says_so(sweep: Sweep) -> None:
    states = [read_state(folder) for folder in runs_of(sweep.home)]
    assert sorted(state.status for state in states) == [FAILED, FINISHED, FINISHED, FINISHED]
    assert sweep.said.status != 0
    failed = next(state for state in states if state.status == FAILED)
    assert "ConfigError" in failed.reason
    assert "FAILED depth=standard data.image_size_px=16" in sweep.said.err
    assert "Traceback" not in sweep.said.err


def test_second_start_of_a_sweep_runs_only_what_is_missing(sweep: Sweep, command: Command, tmp_path: Path) -> None:
    home = shutil.copytree(sweep.home, tmp_path / "home")
    before = {folder.run_id: folder.file("metrics.jsonl").stat().st_mtime_ns for folder in finished(home)}
    said = command(*sweep.words, "tracking=disabled", home=home)
    after = {folder.run_id: folder.file("metrics.jsonl").stat().st_mtime_ns for folder in finished(home)}
    assert said.out.count("finished before") == 3
    assert after == before
    (failed,) = (folder for folder in runs_of(home) if read_state(folder).status == FAILED)
    tries = [event["status"] for event in read_json_lines(failed.file("events.jsonl"))]
    assert tries == ["RUNNING", "FAILED", "RUNNING", "FAILED"], "it was tried again, in the same folder"


def finished(home: Path) -> list[RunFolder]:
    return [folder for folder in runs_of(home) if read_state(folder).status == FINISHED]


def summaries_of(home: Path) -> list[Any]:
    """MLflow's summary runs of the sweep, in the order in which the printed link shows them."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("phantom-two_by_two")
    assert experiment is not None
    by_start = ["attributes.start_time ASC"]
    return list(client.search_runs([experiment.experiment_id], "tags.kind = 'summary'", order_by=by_start))


def test_sweep_with_a_failed_job_prints_and_keeps_its_finished_cells(sweep: Sweep) -> None:
    lines = sweep.said.out.splitlines()
    start = next(n for n, line in enumerate(lines) if "validation AUROC of each cell" in line)
    names = [line.removeprefix("SYNTHETIC ").split("  ")[0] for line in lines[start + 2 : start + 5]]
    expected = ["depth=shallow data.image_size_px=16", "depth=shallow data.image_size_px=32"]
    assert names == [*expected, "depth=standard data.image_size_px=32"]
    assert lines[start + 5] == "1 of 4 jobs failed and are left out"
    assert "viewStateShareKey=cells-" in lines[start + 6]
    summaries = summaries_of(sweep.home)
    assert [run.info.run_name for run in summaries] == [f"{name} (1 seed)" for name in names]
    assert [run.data.params["depth"] for run in summaries] == ["shallow", "shallow", "standard"]
    assert {run.data.tags["cxr.synthetic"] for run in summaries} == {"true"}


def test_same_sweep_told_again_adds_nothing(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    before = [run.info.run_id for run in summaries_of(sweep.home)]
    (folder,) = (sweep.home / "runs" / ".sweeps").iterdir()
    tell_sweep(folder, sweep.home / "runs", TrackingConfig())
    assert capsys.readouterr().out.strip() in sweep.said.out
    assert [run.info.run_id for run in summaries_of(sweep.home)] == before


def test_table_of_cells_needs_no_tracker(sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(sweep.home / "runs", tmp_path / "runs")
    (folder,) = (tmp_path / "runs" / ".sweeps").iterdir()
    tell_sweep(folder, tmp_path / "runs", TrackingConfig(kind="disabled"))
    said = capsys.readouterr().out
    assert "depth=shallow data.image_size_px=16" in said
    assert "http" not in said
    assert not (tmp_path / "mlruns").exists()


def test_run_folder_is_complete(sweep: Sweep) -> None:
    given = {"config.yaml", "identity.json", "provenance.json", "uncommitted.diff", "split.csv", "mlflow.json"}
    made = {"metrics.jsonl", "events.jsonl", "model.keras", "threshold.json", "scores.csv", "costs.json", "figures"}
    for folder in finished(sweep.home):
        assert given | made | {"predictions_val.csv"} <= {path.name for path in folder.path.iterdir()}
        pictures = {path.name for path in folder.file("figures").iterdir()}
        assert {"curves.png", "augmentation.png", "val_roc.png", "val_precision_recall.png"} <= pictures
        assert {"val_confusion.png", "val_calibration.png"} <= pictures


def test_every_line_with_a_metric_of_phantoms_is_marked(sweep: Sweep) -> None:
    with_numbers = [line for line in sweep.said.out.splitlines() if "val_" in line or "images/s" in line]
    assert len(with_numbers) >= 3 * 8
    assert all(line.startswith("SYNTHETIC ") for line in with_numbers)


def test_closing_lines_tell_what_is_next(sweep: Sweep) -> None:
    folder = finished(sweep.home)[0]
    assert (
        f"The test split was not opened.  To score it: python -m cxr_experiments.evaluate run={folder.run_id}"
        in sweep.said.out
    )
    assert "http://127.0.0.1:5000/#/experiments/" in sweep.said.out
    assert str(folder.path) in sweep.said.out


def test_quiet_when_not_on_a_terminal(sweep: Sweep) -> None:
    assert "\x1b[" not in sweep.said.out + sweep.said.err
    assert len(sweep.said.err.splitlines()) <= 4, sweep.said.err


def test_metrics_file_holds_one_line_per_epoch_under_keras_names(sweep: Sweep) -> None:
    for folder in finished(sweep.home):
        lines = list(read_json_lines(folder.file("metrics.jsonl")))
        assert [line["epoch"] for line in lines] == [0, 1]
        assert {"loss", "accuracy", "val_loss", "val_accuracy", "images_per_s"} <= set(lines[0])


def test_replicate_alone_equals_the_same_job_inside_a_sweep_bitwise(
    sweep: Sweep, command: Command, tmp_path: Path
) -> None:
    home = shutil.copytree(sweep.home, tmp_path / "home")
    inside = next(
        folder
        for folder in finished(home)
        if json.loads(folder.file("costs.json").read_text())["num_parameters"] > 1_000_000
    )
    size = ("data.num_patients=40", "data.image_size_px=32", "depth=standard", "training.epochs=2")
    words = (*size, "training.batch_size=16", "experiment_name=two_by_two", "tracking=disabled")
    said = command("train", *words, "rerun=true", home=home)
    assert said.status == 0, said.err
    alone = max(finished(home), key=lambda folder: folder.file("events.jsonl").stat().st_mtime_ns)
    assert alone.run_id != inside.run_id
    assert json.loads(alone.file("identity.json").read_text())["replicate"] == 1
    assert not list(alone.path.rglob("*test*")), "training leaves nothing of the test split"
    for name in ("predictions_val.csv", "metrics.jsonl"):
        assert without_volatile(alone.file(name)) == without_volatile(inside.file(name))


def test_second_seed_of_a_sweep_equals_the_run_alone_bitwise(command: Command, tmp_path: Path) -> None:
    """It takes over the traced steps of the first."""
    words = ("data.num_patients=40", "data.image_size_px=32", "depth=shallow", "training.epochs=2", "tracking=disabled")
    for home, seeds in (("sweep", ("-m", "seed=0,1")), ("alone", ("seed=1",))):
        (tmp_path / home).mkdir()
        said = command("train", *seeds, *words, home=tmp_path / home)
        assert said.status == 0, said.err
    (alone,) = finished(tmp_path / "alone")
    (inside,) = (one for one in finished(tmp_path / "sweep") if one.run_id == alone.run_id)
    for name in ("predictions_val.csv", "metrics.jsonl", "stress.csv"):
        assert without_volatile(alone.file(name)) == without_volatile(inside.file(name))
    assert load_model(alone.file("model.keras")).to_json() == load_model(inside.file("model.keras")).to_json()


def without_volatile(path: Path) -> list[object]:
    """A file's rows without run id and times."""
    if path.suffix == ".csv":
        return [line.split(",")[:6] for line in path.read_text().splitlines()]
    keys = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    return [[line[key] for key in keys] for line in read_json_lines(path)]


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_is_marked_killed(kind: signal.Signals, status: int, tmp_path: Path) -> None:
    words = [*SMALL[:-2], "training.epochs=500", "training.patience=0", "tracking=disabled"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.train", *words],
        env={**os.environ, "CXR_HOME": str(tmp_path)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts the tests in the background has Ctrl-C ignored in all of them
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(kind)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == status, error
    (folder,) = runs_of(tmp_path)
    state = read_state(folder)
    assert (state.status, state.reason) == (KILLED, "Ctrl-C" if kind == signal.SIGINT else "SIGTERM")
    assert "Traceback" not in error


def test_non_finite_loss_fails_the_run_with_epoch_and_step(tmp_path: Path, command: Command) -> None:
    net = tmp_path / "overflows.py"
    net.write_text(
        "import keras\n\n\n"
        "def build(inputs, seed):\n"
        "    huge = keras.layers.Rescaling(1e38)(keras.layers.Rescaling(1e38)(inputs))\n"
        "    return keras.layers.GlobalAveragePooling2D()(huge)\n"
    )
    small = [word for word in SMALL if not word.startswith("depth")]
    said = command("train", *small, "model=custom", f"model.builder={net}:build", home=tmp_path)
    assert said.status == 2
    assert "epoch 0, step 0" in said.err
    assert len(said.err.splitlines()) == 1
    (folder,) = runs_of(tmp_path)
    assert read_state(folder).status == FAILED
    assert "epoch 0, step 0" in read_state(folder).reason


def test_own_network_is_trained_and_its_file_enters_the_identity(tmp_path: Path, command: Command) -> None:
    net = tmp_path / "my_net.py"
    net.write_text(
        "import keras\n\n\n"
        "def build(inputs, seed):\n"
        "    start = keras.initializers.GlorotUniform(seed=seed)\n"
        "    x = keras.layers.Conv2D(8, 5, strides=2, activation='relu', kernel_initializer=start)(inputs)\n"
        "    return keras.layers.GlobalAveragePooling2D()(x)\n"
    )
    small = [word for word in SMALL if not word.startswith("depth")]
    words = ("train", *small, "tracking=disabled", "model=custom", f"model.builder={net}:build", "training.epochs=1")
    assert command(*words, home=tmp_path).status == 0
    net.write_text(net.read_text().replace("Conv2D(8", "Conv2D(9"))
    assert command(*words, home=tmp_path).status == 0
    assert len({folder.run_id for folder in runs_of(tmp_path)}) == 2


def test_missing_kaggle_root_is_three_lines_and_status_2(tmp_path: Path, command: Command) -> None:
    said = command("train", "data=kaggle", f"data.root={tmp_path / 'nowhere'}", home=tmp_path)
    assert said.status == 2
    lines = said.err.strip().splitlines()
    assert len(lines) == 3
    assert "Kaggle" in said.err
    assert str(tmp_path / "nowhere") in said.err
    assert "data=phantom" in said.err
    assert not list(tmp_path.glob("runs/*/*")), "nothing was started"


@pytest.mark.parametrize(("word", "named"), [("depth=shallow,deeep", "deeep"), ("hydrax=1,2", "hydrax")])
def test_a_sweep_with_a_mistyped_job_begins_none(word: str, named: str, command: Command, tmp_path: Path) -> None:
    said = command("train", "-m", "training=smoke", "tracking=disabled", word, home=tmp_path)
    assert said.status == 2, said.err
    assert named in said.err
    assert "Traceback" not in said.err
    assert not runs_of(tmp_path)
