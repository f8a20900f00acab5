"""A sweep of 40 runs under half an hour of random SIGKILLs: one plain rerun, and it is as if nothing had happened.

CXR_SOAK_MINUTES makes the storm shorter or longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import Command
from test_train import without_volatile
from tracking_server import TrackingServer

from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, read_json_lines, read_state

pytestmark = [pytest.mark.fault, pytest.mark.long]

NUM_RUNS, NUM_EPOCHS = 40, 30
MINUTES = float(os.environ.get("CXR_SOAK_MINUTES", "30"))
WORDS = (
    *("-m", f"seed=range(0,{NUM_RUNS})", "data.num_patients=60", "data.image_size_px=32", "depth=shallow"),
    *("training.batch_size=16", f"training.epochs={NUM_EPOCHS}", "training.patience=0", "augmentation=strong"),
)
PROCESSES = ("hydra/launcher=process", "hydra.launcher.n_jobs=2")


@dataclass
class Storm:
    """The sweep at work, its server, and what has been done to them."""

    home: Path
    server: TrackingServer
    chance: random.Random
    sweep: subprocess.Popen[bytes]
    done: Counter[str]

    @classmethod
    def begun(cls, home: Path, server: TrackingServer) -> Storm:
        return cls(home, server, random.Random(6), launched(home, server), Counter())

    def strike(self) -> None:
        """Kill a job (most often), the launcher or the server."""
        what = self.chance.choice(["job", "job", "job", "launcher", "server"])
        if what == "job" and (jobs := self.jobs()):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.chance.choice(jobs).kill()
                self.done["job"] += 1
        elif what == "launcher":
            self.sweep.kill()
            self.done["launcher"] += 1
        elif what == "server":
            self.server.kill()
            time.sleep(self.chance.uniform(0.0, 12.0))
            self.server.start()
            self.done["server"] += 1
        if self.sweep.poll() is not None:
            self.sweep = launched(self.home, self.server)
            self.done["start"] += 1

    def jobs(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.sweep.pid).children()
        except psutil.NoSuchProcess:
            return []

    def is_over(self) -> bool:
        states = [read_state(run).status for run in all_runs(self.home / "runs")]
        return states == [FINISHED] * NUM_RUNS

    def end(self) -> None:
        """No process of the sweep is left: they notice by themselves that their launcher is gone."""
        jobs = self.jobs()
        self.sweep.kill()
        self.sweep.wait(timeout=30)
        assert not psutil.wait_procs(jobs, timeout=60)[1], "a job has outlived its launcher"


def launched(home: Path, server: TrackingServer) -> subprocess.Popen[bytes]:
    words = [*WORDS, *PROCESSES, "tracking=server", f"tracking.uri={server.uri}"]
    with (home / "sweep.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "cxr_experiments.train", *words],
            env={**os.environ, "CXR_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def by_id(home: Path) -> dict[str, RunFolder]:
    return {run.run_id: run for run in all_runs(home / "runs")}


def test_forty_runs_survive_the_storm(tmp_path: Path, command: Command) -> None:
    calm, home = tmp_path / "calm", tmp_path / "home"
    calm.mkdir()
    home.mkdir()
    said = command("train", *WORDS, "tracking=disabled", home=calm, timeout_s=3600)
    assert said.status == 0, said.err
    server = TrackingServer(tmp_path)
    try:
        storm, until = Storm.begun(home, server), time.monotonic() + 60 * MINUTES
        while time.monotonic() < until and not storm.is_over():
            time.sleep(storm.chance.expovariate(1 / 8.0))
            storm.strike()
        print(f"{sum(read_state(run).status == FINISHED for run in all_runs(home / 'runs'))} runs done, {storm.done}")
        storm.end()
        words = [*WORDS, *PROCESSES, "tracking=server", f"tracking.uri={server.uri}"]
        said = command("train", *words, home=home, timeout_s=3600)
        assert said.status == 0, said.err
        assert command("runs", "sync", home=home, timeout_s=1200).status == 0
        require_same_runs(home, calm)
        require_each_once_in_mlflow(server, home)
        assert command("runs", "mend", home=home).out.startswith("nothing to mend")
        assert command("runs", "sync", home=home).out.startswith("nothing to send")
    finally:
        server.kill()


def require_same_runs(home: Path, calm: Path) -> None:
    """All are finished, each once, and what they found is what they find when nothing happens to them."""
    struck, expected = by_id(home), by_id(calm)
    assert struck.keys() == expected.keys()
    assert len(struck) == NUM_RUNS
    for run_id, run in struck.items():
        events = [event["status"] for event in read_json_lines(run.file("events.jsonl"))]
        assert Counter(events)[FINISHED] == 1, run_id
        for name in ("metrics.jsonl", "predictions_val.csv", "stress.csv"):
            assert without_volatile(run.file(name)) == without_volatile(expected[run_id].file(name)), (run_id, name)


def require_each_once_in_mlflow(server: TrackingServer, home: Path) -> None:
    with closing(sqlite3.connect(server.database)) as database:
        told = database.execute(
            "select tags.value, runs.status from runs join tags using (run_uuid) "
            "where tags.key = 'cxr.run_id' and runs.lifecycle_stage = 'active'"
        ).fetchall()
        steps = database.execute(
            "select tags.value, metrics.step from metrics join tags using (run_uuid) join runs using (run_uuid) "
            "where tags.key = 'cxr.run_id' and metrics.key = 'val_loss' and runs.lifecycle_stage = 'active'"
        ).fetchall()
    assert sorted(told) == sorted((run_id, FINISHED) for run_id in by_id(home))
    assert Counter(steps) == Counter((run_id, epoch) for run_id in by_id(home) for epoch in range(NUM_EPOCHS))
