"""A tracking server that hangs, answers 500 or is killed costs no run, and what it lost is sent later, once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command
from tracking_server import Door, TrackingServer, server_behind_door

from cxr_experiments.record.run_folder import FINISHED, KILLED, RunFolder, all_runs, read_json_lines, read_state

pytestmark = [pytest.mark.fault, pytest.mark.long]

NUM_EPOCHS = 12
WORDS = ("data.num_patients=40", "data.image_size_px=32", "depth=shallow", "training.batch_size=8")


@pytest.fixture(scope="module")
def shared_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with server_behind_door(tmp_path_factory.mktemp("server")) as (_, door):
        yield door


@pytest.fixture
def door(shared_door: Door) -> Iterator[Door]:
    yield shared_door
    shared_door.mode = "pass"


def begun(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.train", *words, *WORDS],
        env={**os.environ, "CXR_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_epoch(home: Path, process: subprocess.Popen[str], *, run: int, epoch: int) -> RunFolder:
    """The folder of the run that is the nth to begin, once it has trained that many epochs."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        runs = all_runs(home / "runs")
        told = runs[run].file("metrics.jsonl") if len(runs) > run else None
        if told is not None and told.is_file() and len(list(read_json_lines(told))) >= epoch:
            return runs[run]
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    pytest.fail(f"run {run} did not come to epoch {epoch}")


def curves(server: TrackingServer) -> dict[str, Counter[int]]:
    """Our run id -> how often MLflow has each step of val_loss."""
    query = (
        "select tags.value, metrics.step from metrics join tags using (run_uuid) "
        "where tags.key = 'cxr.run_id' and metrics.key = 'val_loss'"
    )
    found: dict[str, Counter[int]] = {}
    with sqlite3.connect(server.database) as database:
        for run_id, step in database.execute(query):
            found.setdefault(run_id, Counter())[step] += 1
    database.close()
    return found


def test_sweep_goes_on_whatever_becomes_of_the_server_and_sync_sends_the_rest(tmp_path: Path, command: Command) -> None:
    """Run 0 meets a server that begins to hang, run 1 one that hangs from the start, run 2 is in its midst when the
    server answers 500, run 3 when it is killed."""
    with server_behind_door(tmp_path) as (server, door):
        home = tmp_path / "home"
        home.mkdir()
        server_words = ("tracking=server", f"tracking.uri={door.uri}")
        sweep = begun(home, "-m", "seed=0,1,2,3", *server_words, f"training.epochs={NUM_EPOCHS}", "training.patience=0")
        wait_for_epoch(home, sweep, run=0, epoch=3)
        door.mode = "hang"
        wait_for_epoch(home, sweep, run=1, epoch=1)
        door.mode = "pass"
        wait_for_epoch(home, sweep, run=2, epoch=3)
        door.mode = "error"
        wait_for_epoch(home, sweep, run=3, epoch=0)
        door.mode = "pass"
        wait_for_epoch(home, sweep, run=3, epoch=3)
        server.kill()
        said = sweep.communicate(timeout=300)
        assert sweep.returncode == 0, said[1]
        runs = all_runs(home / "runs")
        assert [read_state(run).status for run in runs] == [FINISHED] * 4
        assert [len(list(read_json_lines(run.file("metrics.jsonl")))) for run in runs] == [NUM_EPOCHS] * 4
        warnings = [line for line in said[1].splitlines() if line.startswith("warning: MLflow")]
        assert len(warnings) in (4, 5), warnings  # the sweep's table of cells may be the fifth
        assert "MLflow has not answered for 8 s" in warnings[0]
        assert "MLflow has not answered for 30 s" in warnings[1]
        server.start()
        sent = command("runs", "sync", home=home)
        assert sent.status == 0, sent.err
        assert sum("that it is FINISHED" in line for line in sent.out.splitlines()) == 4, sent.out
        assert curves(server) == {run.run_id: Counter(range(NUM_EPOCHS)) for run in runs}
        assert command("runs", "sync", home=home).out.startswith("nothing to send")


@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_while_the_server_hangs(again: bool, tmp_path: Path, door: Door) -> None:
    """Once: KILLED within what the server is given to answer.  Twice: at once, and the next start takes the run up."""
    process = begun(
        tmp_path, "tracking=server", f"tracking.uri={door.uri}", "training.epochs=500", "training.patience=0"
    )
    folder = wait_for_epoch(tmp_path, process, run=0, epoch=2)
    door.mode = "hang"
    process.send_signal(signal.SIGINT)
    if again:
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert ("left at once" in error) == again
    assert (read_state(folder).status, read_state(folder).reason) == (KILLED, "Ctrl-C")
