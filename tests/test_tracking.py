"""What MLflow holds after a sweep: flat named runs, choices as parameters, curves, at most 15 final values, a model."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Command, Said, Sweep
from tracking_server import TrackingServer

from cxr_experiments.config.credentials import without_credentials
from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import TrackingError
from cxr_experiments.record import tracking
from cxr_experiments.record.tracking import RunCard
from cxr_experiments.record.tracking.place import reason_in

KERAS_KEYS = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}


@pytest.fixture(scope="module")
def runs(sweep: Sweep, evaluated: Said) -> list[Any]:
    """MLflow's runs of the sweep, evaluated; the summaries of its cells stand beside them."""
    from mlflow import MlflowClient

    assert evaluated.status == 0
    client = MlflowClient(f"sqlite:///{sweep.home}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("phantom-two_by_two")
    assert experiment is not None
    assert (
        Path(experiment.artifact_location.removeprefix("file://")) == sweep.home / "mlruns/artifacts/phantom-two_by_two"
    )
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return [run for run in found if run.data.tags.get("kind") != "summary"]


def test_failed_run_is_failed_with_its_reason(runs: list[Any]) -> None:
    failed = [run for run in runs if run.info.status == "FAILED"]
    assert failed
    assert all("at least data.image_size_px=32" in run.data.tags["reason"] for run in failed)
    assert {run.info.status for run in runs} == {"FAILED", "FINISHED"}


def test_runs_are_flat_named_by_what_they_are_and_tagged(runs: list[Any]) -> None:
    names = {run.info.run_name for run in runs}
    assert names == {"no_flip-shallow-gap-adam-s0", "no_flip-gap-adam-s0"}
    for run in runs:
        assert "mlflow.parentRunId" not in run.data.tags
        assert run.data.tags["cxr.synthetic"] == "true"
        assert len(run.data.tags["cxr.dataset_digest"]) == 64
        (dataset,) = run.inputs.dataset_inputs
        assert run.data.tags["cxr.dataset_digest"].startswith(dataset.dataset.digest)


def test_parameters_are_choices_and_what_differs(runs: list[Any]) -> None:
    for run in runs:
        params = run.data.params
        assert (params["augmentation"], params["pooling"], params["optimizer"], params["seed"]) == (
            "no_flip",
            "gap",
            "adam",
            "0",
        )
        assert params["depth"] in ("shallow", "standard")
        assert params["training.epochs"] == "2"
        assert params["data.image_size_px"] in ("16", "32")
        assert "augmentation.rotation_degrees" not in params, "a default needs no column"


def test_curves_have_one_value_per_epoch_and_final_values_are_few(runs: list[Any], sweep: Sweep) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.home}/mlruns/mlflow.db")
    for run in runs:
        if run.info.status != "FINISHED":
            continue
        for key in KERAS_KEYS:
            assert [point.step for point in client.get_metric_history(run.info.run_id, key)] == [0, 1]
        final = set(run.data.metrics) - KERAS_KEYS
        assert len(final) <= 15
        assert {"val_auroc", "val_auroc_lo", "val_auroc_hi", "test_auroc", "test_auroc_lo", "images_per_s"} <= final


def test_artifacts_hold_config_predictions_and_pictures(runs: list[Any], sweep: Sweep) -> None:
    place = sweep.home / "mlruns/artifacts/phantom-two_by_two"
    for run in runs:
        if run.info.status == "FINISHED":
            names = {path.name for path in (place / run.info.run_id / "artifacts").rglob("*")}
            assert {
                "config.yaml",
                "identity.json",
                "provenance.json",
                "split.csv",
                "scores.csv",
                "predictions_val.csv",
            } <= names
            assert {"curves.png", "val_roc.png", "test_roc.png", "augmentation.png", "predictions_test.csv"} <= names


def test_model_loads_through_pyfunc_without_pickle(sweep: Sweep, runs: list[Any]) -> None:
    run = next(run for run in runs if run.info.status == "FINISHED" and run.data.params["data.image_size_px"] == "32")
    program = (
        "import mlflow, numpy as np\n"
        f"mlflow.set_tracking_uri('sqlite:///{sweep.home}/mlruns/mlflow.db')\n"
        f"model = mlflow.pyfunc.load_model('runs:/{run.info.run_id}/model')\n"
        "assert str(model.metadata.signature.inputs.inputs[0].type) == 'uint8', model.metadata.signature\n"
        "print('SUM', float(np.sum(model.predict(np.zeros((2, 32, 32, 1), np.uint8)))))\n"
        "try:\n    model.predict(np.zeros((2, 32, 32, 1)))\n"
        "except Exception as error:\n    print('REFUSED', type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "HOME": str(sweep.home),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "SUM " in done.stdout, done.stderr[-3000:]
    assert np.isfinite(float(done.stdout.split("SUM ")[1].split()[0]))
    assert "REFUSED" in done.stdout
    assert not list((sweep.home / "mlruns").rglob("*.pkl"))


def test_fresh_database_survives_four_processes_at_once(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from cxr_experiments.config.schema import TrackingConfig\nfrom cxr_experiments.record import tracking as t\n"
        "place = t.open_place(TrackingConfig(), Path(sys.argv[1]), 'together')\n"
        "run = t.start_run(place, t.RunCard('r' + sys.argv[2], {'seed': sys.argv[2]}, {}, 'phantom', 'd' * 64))\n"
        "t.log_epoch(place, run, 0, {'loss': 1.0})\nt.end_run(place, run, 'FINISHED')\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(n)], stderr=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    with sqlite3.connect(tmp_path / "mlruns" / "mlflow.db") as database:
        (count,) = database.execute("select count(*) from runs where status = 'FINISHED'").fetchone()
    database.close()
    assert count == 4
    assert sorted(path.name for path in (tmp_path / "mlruns").glob("*mlflow.db*")) == ["mlflow.db"], "a draft is left"


def test_store_that_cannot_be_reached_is_one_of_our_errors(tmp_path: Path) -> None:
    gone = TrackingConfig(kind="server", uri="http://someone:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"MLflow at http://127.0.0.1:9") as caught:
        tracking.open_place(gone, tmp_path, "x")
    assert "secret" not in str(caught.value)


def test_broken_database_is_one_error_without_a_traceback_of_mlflows(tmp_path: Path) -> None:
    program = (
        "import sqlite3, sys\nfrom pathlib import Path\n"
        "from cxr_experiments.config.schema import TrackingConfig\nfrom cxr_experiments.errors import TrackingError\n"
        "from cxr_experiments.record import tracking as t\n"
        "place = t.open_place(TrackingConfig(), Path(sys.argv[1]), 'broken')\n"
        "with sqlite3.connect(Path(sys.argv[1]) / 'mlruns' / 'mlflow.db') as database:\n"
        "    database.execute('drop table runs')\n"
        "try:\n    t.start_run(place, t.RunCard('r', {}))\n"
        "except TrackingError as error:\n    print('TOLD', error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert "TOLD MLflow at sqlite:" in said.stdout
    assert "no such table: runs" in said.stdout
    assert said.stderr == ""


def test_disabled_tracking_writes_nothing(tmp_path: Path) -> None:
    place = tracking.open_place(TrackingConfig(kind="disabled"), tmp_path, "x")
    assert tracking.start_run(place, RunCard("r", {})) == ""
    tracking.log_epoch(place, "", 0, {"loss": 1.0})
    tracking.end_run(place, "", "FINISHED")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pw@host/x", "https://host/x"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("two http://a:b@c and postgresql://u:p@d/e", "two http://c and postgresql://d/e"),
        ("https://me:p@ss@host and https://token@host", "https://host and https://host"),
        ("nothing here", "nothing here"),
    ],
)
def test_credentials_are_taken_out(text: str, expected: str) -> None:
    assert without_credentials(text) == expected


@pytest.mark.long
def test_server_takes_the_same_runs(tmp_path: Path, command: Command) -> None:
    server = TrackingServer(tmp_path)
    try:
        said = command("train", *SMALL, "tracking=server", f"tracking.uri={server.uri}", home=tmp_path)
        assert said.status == 0, said.err
        assert "warning" not in said.err
        with sqlite3.connect(server.database) as database:
            (status,) = database.execute("select status from runs").fetchone()
        database.close()
        assert status == "FINISHED"
        assert list((tmp_path / "kept").rglob("model.keras"))
    finally:
        server.kill()


POOL = "API request to http://h:5/api failed with exception HTTPConnectionPool(host='h', port=5): Max retries exceeded"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            f"{POOL} with url: /api (Caused by NewConnectionError(\"HTTPConnection(host='h', port=5): Failed to "
            'establish a new connection: [Errno 111] Connection refused"))',
            "not reached: [Errno 111] Connection refused",
        ),
        (
            f"{POOL} (Caused by ResponseError('too many 500 error responses'))",
            "not reached: too many 500 error responses",
        ),
        (
            f"{POOL} (Caused by ReadTimeoutError(\"HTTPConnectionPool(host='h'): Read timed out. (read timeout=4)\"))",
            "not reached: Read timed out. (read timeout=4)",
        ),
        ("disk I/O error\n(Background on this error at: https://x)", "disk I/O error"),
        ("no route to http://me:secret@h:5/api", "no route to http://h:5/api"),
    ],
)
def test_reason_is_told_without_pools_retries_and_credentials(told: str, reason: str) -> None:
    assert reason_in(told) == reason
