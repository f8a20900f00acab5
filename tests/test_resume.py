"""A run that is killed wherever it stands, and started again, ends like one that nothing ever happened to."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from test_train import without_volatile

from cxr_experiments.learning.trainer import load_model
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, mlflow_run_id, read_json_lines, read_state

pytestmark = pytest.mark.fault

NUM_EPOCHS = 8
WORDS = (
    *("data.num_patients=60", "data.image_size_px=32", "depth=shallow", "training.batch_size=16"),
    *(
        f"training.epochs={NUM_EPOCHS}",
        "training.patience=0",
        "augmentation=strong",
        "averaging=ema",
        "batch_norm=precise",
    ),
)


def begun(home: Path) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "CXR_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
    words = [sys.executable, "-m", "cxr_experiments.train", *WORDS]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def killed(home: Path, *, epoch: int, delay_s: float) -> None:
    """Start the run and SIGKILL it so long after the end of an epoch, 0 for the start of the process."""
    process, deadline = begun(home), time.monotonic() + 120
    while epoch and len(epochs_of(home)) < epoch and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay_s)
    process.kill()
    process.communicate(timeout=30)


def epochs_of(home: Path) -> list[int]:
    return [line["epoch"] for path in home.glob("runs/*/*/metrics.jsonl") for line in read_json_lines(path)]


def the_run(home: Path) -> RunFolder:
    (folder,) = all_runs(home / "runs")
    return folder


def steps_in_mlflow(home: Path, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    history = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db").get_metric_history(
        mlflow_run_id(the_run(home)), metric
    )
    return sorted((one.step, one.value) for one in history)  # by time, which the clock may count backwards


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """The home of a run that nothing happened to."""
    home = tmp_path_factory.mktemp("undisturbed")
    said = command("train", *WORDS, home=home)
    assert said.status == 0, said.err
    return home


def require_equal(home: Path, undisturbed: Path) -> None:
    """Curves, weights, predictions and heat maps to the last bit; MLflow has each epoch once, in one run."""
    run, whole = the_run(home), the_run(undisturbed)
    assert read_state(run).status == FINISHED
    for name in ("metrics.jsonl", "predictions_val.csv", "predictions_train.csv", "stress.csv"):
        assert without_volatile(run.file(name)) == without_volatile(whole.file(name)), name
    weights: list[Any] = [load_model(one.file("model.keras")).get_weights() for one in (run, whole)]
    for mine, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for metric in ("loss", "val_loss"):
        steps = steps_in_mlflow(home, metric)
        assert steps == steps_in_mlflow(undisturbed, metric)
        assert [step for step, _ in steps] == list(range(NUM_EPOCHS))
    assert not run.states.exists(), "a finished run needs none"


def test_killed_run_goes_on_in_its_folder_and_in_mlflow(undisturbed: Path, tmp_path: Path, command: Command) -> None:
    for epoch, delay_s in ((2, 0.0), (5, 0.05)):
        killed(tmp_path, epoch=epoch, delay_s=delay_s)
    said = command("train", *WORDS, home=tmp_path)
    assert said.status == 0, said.err
    require_equal(tmp_path, undisturbed)


@pytest.mark.long
def test_runs_killed_at_twenty_random_moments_end_the_same(undisturbed: Path, tmp_path: Path, command: Command) -> None:
    """While the store is built, while states are written, while figures are drawn: wherever they happen to be."""
    moments, homes = random.Random(6), [tmp_path / "0"]
    for _ in range(20):
        killed(homes[-1], epoch=0, delay_s=moments.uniform(0.5, 14.0))
        if [read_state(run).status for run in all_runs(homes[-1] / "runs")] == [FINISHED]:
            homes.append(tmp_path / str(len(homes)))
    for home in homes:
        home.mkdir(exist_ok=True)
        said = command("train", *WORDS, home=home)
        assert said.status == 0, said.err
        require_equal(home, undisturbed)
