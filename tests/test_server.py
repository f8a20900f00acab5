"""`make server`: MLflow on PostgreSQL takes many runs at once, loses none, asks who is there, and starts again."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from conftest import SMALL, Command
from test_ui import ask, free_port

from cxr_experiments.config.compose import write_config
from cxr_experiments.config.schema import ExperimentConfig, TrackingConfig
from cxr_experiments.errors import CxrError, MachineError, TrackingError
from cxr_experiments.record import tracking
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, mlflow_run_id, read_state, write_json
from cxr_experiments.record.tracking.known import remember
from cxr_experiments.record.tracking.postgres import find_programs
from cxr_experiments.record.twin_in_mlflow import where_told

ROOT = Path(__file__).resolve().parents[1]
NUM_WORKERS = 8


def why_not() -> str:
    """What this machine lacks for a server; "" when nothing."""
    if find_spec("psycopg") is None or find_spec("flask_wtf") is None:
        return "the extra `server` is not installed: pip install 'cxr-experiments[server]'"
    try:
        find_programs(Path("/none"))
    except MachineError as error:
        return str(error)
    return ""


needs_postgres = pytest.mark.skipif(bool(why_not()), reason=why_not() or "nothing is missing")


@pytest.fixture
def open_home(tmp_path: Path) -> Iterator[Path]:
    """A home that PostgreSQL can enter; pytest's own folders are closed to the user as which root starts it."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="cxr-home-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Served:
    """`python -m cxr_experiments.server` on a free port, which can be ended in any way."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home, self.words, self.port = home, words, free_port()
        self.said = home / "said.txt"
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def folder(self) -> Path:
        return self.home / "mlruns" / "server"

    def start(self) -> None:
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cxr_experiments.server", f"port={self.port}", *self.words],
                env={**os.environ, "CXR_HOME": str(self.home)},
                cwd=ROOT,
                stdout=said,
                stderr=said,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        deadline = time.monotonic() + 240
        while f"MLflow is on {self.uri} " not in self.said.read_text():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.2)

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """Its status, and what it said."""
        self.process.send_signal(how)
        return self.process.wait(timeout=120), self.said.read_text()

    def rows(self, query: str) -> list[str]:
        """Asked of PostgreSQL itself."""
        sockets = (self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[4]
        programs = find_programs(self.folder / "postgres")
        words = [programs / "psql", "-X", "-A", "-t", "-h", sockets, "-U", "mlflow", "-d", "mlflow", "-c", query]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@contextmanager
def served(home: Path, *words: str) -> Iterator[Served]:
    one = Served(home, *words)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)


@dataclass(frozen=True)
class Told:
    """A run as MLflow has it: all that may be lost or doubled on the way."""

    status: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    values: Counter[tuple[str, int, float]]
    files: frozenset[str]
    num_models: int
    num_datasets: int
    started_ms: int


def told(uri: str) -> dict[str, Told]:
    """Every run: by our id, else by its name; MLflow's own addresses in tags left out."""
    from mlflow import MlflowClient

    client, found = MlflowClient(uri), {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            mlflow_id = run.info.run_id
            key = f"{experiment.name}/{run.data.tags.get('cxr.run_id') or run.info.run_name}"
            assert key not in found, f"{key} is there twice"
            values = [value for name in run.data.metrics for value in client.get_metric_history(mlflow_id, name)]
            found[key] = Told(
                run.info.status,
                run.info.run_name,
                dict(run.data.params),
                {k: v for k, v in run.data.tags.items() if k not in ("cxr.carried_from", "cxr.data_report_link")},
                Counter((value.key, value.step, value.value) for value in values),
                frozenset(files(client, mlflow_id, None)),
                len(client.search_logged_models([experiment.experiment_id], f"source_run_id = '{mlflow_id}'")),
                len(run.inputs.dataset_inputs),
                run.info.start_time,
            )
    return found


def files(client: Any, mlflow_id: str, folder: str | None) -> Iterator[str]:
    for one in client.list_artifacts(mlflow_id, folder):
        yield from files(client, mlflow_id, one.path) if one.is_dir else (one.path,)


def begun(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.train", *SMALL, *words],
        env={**os.environ, "CXR_HOME": str(home)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@needs_postgres
@pytest.mark.long
@pytest.mark.fault
def test_eight_trainings_at_once_on_a_new_server_lose_nothing(open_home: Path, tmp_path: Path) -> None:
    """Each in a home of its own, as on eight machines: no lock of ours keeps them apart."""
    with served(open_home) as server:
        words = ("tracking=server", f"tracking.uri={server.uri}", "experiment_name=together")
        homes = [tmp_path / f"home{seed}" for seed in range(NUM_WORKERS)]
        for home in homes:
            home.mkdir()
        trainings = [begun(home, f"seed={seed}", *words) for seed, home in enumerate(homes)]
        said = [one.communicate(timeout=900) for one in trainings]
        assert [one.returncode for one in trainings] == [0] * NUM_WORKERS, said
        assert not [line for _, err in said for line in err.splitlines() if "warning" in line]
        runs = [run for home in homes for run in all_runs(home / "runs")]
        assert [read_state(run).status for run in runs] == [FINISHED] * NUM_WORKERS
        found = told(server.uri)
        assert found.keys() == {f"phantom-together/{run.run_id}" for run in runs}
        for run in runs:
            one = found[f"phantom-together/{run.run_id}"]
            assert one.status == "FINISHED"
            assert one.num_models == 1
            assert Counter(step for name, step, _ in one.values.elements() if name == "val_loss") == {0: 1, 1: 1}
            kept = [
                server.folder / "artifacts" / experiment
                for experiment in server.rows("select experiment_id from experiments")
            ]
            (place,) = (folder for where in kept if (folder := where / mlflow_run_id(run) / "artifacts").is_dir())
            for name in one.files:
                assert (place / name).read_bytes() == run.file(name).read_bytes(), name
            assert {"config.yaml", "split.csv", "metrics.jsonl", "predictions_val.csv", "scores.csv"} <= one.files
        assert server.rows("select count(*) from runs where status = 'FINISHED'") == [str(NUM_WORKERS)]
        assert server.rows("select count(*) from metrics where key = 'val_loss'") == [str(2 * NUM_WORKERS)]
        assert server.rows("select count(*) from experiments where name = 'phantom-together'") == ["1"]


@needs_postgres
@pytest.mark.long
def test_runs_that_are_the_first_of_their_images_at_once_all_begin(open_home: Path, tmp_path: Path) -> None:
    card = tracking.RunCard("first", {}, {}, "phantom", "d" * 64)
    with served(open_home) as server, ThreadPoolExecutor(NUM_WORKERS) as threads:
        for number in range(20):
            place = tracking.open_place(TrackingConfig("server", server.uri), tmp_path, f"together-{number}")
            assert (
                len(set(threads.map(lambda _, at=place: tracking.start_run(at, card), range(NUM_WORKERS))))
                == NUM_WORKERS
            )
        assert server.rows("select count(*) from datasets") == ["20"]
        assert server.rows("select count(*) from inputs") == [str(20 * NUM_WORKERS)]


NUM_EPOCHS, NUM_METRICS = 100, 10
LOGGER = f"""
import sys
from pathlib import Path
from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.record import tracking as t
home, uri = Path(sys.argv[1]), sys.argv[2]
(home / 'note.txt').write_text(home.name)
place = t.open_place(TrackingConfig('server', uri), home, 'together')
run = t.start_run(place, t.RunCard(home.name, {{'worker': home.name}}, {{}}, 'phantom', 'd' * 64))
with (home / 'answered.txt').open('w', buffering=1) as answered:
    for epoch in range({NUM_EPOCHS}):
        t.log_epoch(place, run, epoch, {{f'm{{n}}': epoch + n / 10 for n in range({NUM_METRICS})}})
        print(epoch, file=answered)
t.log_files(place, run, [home / 'note.txt'])
t.end_run(place, run, 'FINISHED')
"""


def eight_loggers(place: Path, uri: str, ended: ExitStack) -> list[tuple[Path, subprocess.Popen[str]]]:
    """Processes that log, each with its home; none outlives `ended`."""
    loggers = []
    for worker in range(NUM_WORKERS):
        home = place / f"{place.name}-{worker}"
        home.mkdir(parents=True)
        words = [sys.executable, "-c", LOGGER, str(home), uri]
        process = ended.enter_context(subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        ended.callback(process.kill)
        loggers.append((home, process))
    return loggers


def answered(home: Path) -> int:
    path = home / "answered.txt"
    return len(path.read_text().splitlines()) if path.is_file() else 0


@needs_postgres
@pytest.mark.long
@pytest.mark.fault
def test_server_that_is_killed_while_eight_log_has_every_row_it_answered_for(open_home: Path, tmp_path: Path) -> None:
    """SIGKILL of command, MLflow and PostgreSQL; the same again undisturbed, ended by Ctrl-C."""
    per_run = "select count(*) from metrics join runs using (run_uuid) where name = '{}'"
    with served(open_home) as server, ExitStack() as ended:
        loggers = eight_loggers(tmp_path / "killed", server.uri, ended)
        deadline = time.monotonic() + 300
        while min(answered(home) for home, _ in loggers) < 20 and time.monotonic() < deadline:
            assert not any(process.poll() for _, process in loggers), [p.communicate() for _, p in loggers if p.poll()]
            time.sleep(0.05)
        for one in (psutil.Process(server.process.pid), *server.processes()):
            with suppress(psutil.NoSuchProcess):  # PostgreSQL's end with the first of them
                one.kill()
        server.process.wait()
        for _, process in loggers:  # a fast one may have been through
            error = process.communicate(timeout=120)[1]
            assert process.returncode == 0 or "MLflow at http://127.0.0.1" in error, error
        assert any(process.returncode for _, process in loggers), "nobody was cut off"
        server.start()
        for home, _ in loggers:
            epochs, (rows,) = answered(home), server.rows(per_run.format(home.name))
            assert 20 <= epochs <= NUM_EPOCHS
            assert int(rows) in (NUM_METRICS * epochs, NUM_METRICS * (epochs + 1)), "the last may have had no answer"
        before, began = server.rows("select count(*) from metrics"), time.monotonic()
        loggers = eight_loggers(tmp_path / "whole", server.uri, ended)
        errors = [process.communicate(timeout=600)[1] for _, process in loggers]
        assert [process.returncode for _, process in loggers] == [0] * NUM_WORKERS, errors
        print(f"8 x {NUM_EPOCHS} epochs of {NUM_METRICS} metrics in {time.monotonic() - began:.1f} s, imports too")
        for home, _ in loggers:
            assert server.rows(per_run.format(home.name)) == [str(NUM_METRICS * NUM_EPOCHS)]
        sent = NUM_WORKERS * NUM_METRICS * NUM_EPOCHS
        assert server.rows("select count(*) from metrics") == [str(int(before[0]) + sent)]
        assert server.rows("select count(*) from runs where status = 'FINISHED'") == [str(NUM_WORKERS)]
        notes = [path.read_text() for path in (server.folder / "artifacts").rglob("note.txt")]
        assert sorted(notes) == sorted(home.name for home, _ in loggers)
        left = server.processes()
        status, said = server.end(signal.SIGINT)
        assert (status, said.splitlines()[-1]) == (0, "ending")
        assert not alive(left)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, left = psutil.wait_procs(processes, timeout=1)
    return [one for one in left if one.status() != psutil.STATUS_ZOMBIE]


@needs_postgres
@pytest.mark.long
@pytest.mark.fault
def test_what_a_killed_command_leaves_is_ended_by_the_next_and_a_dead_part_ends_all(
    open_home: Path, command: Command
) -> None:
    with served(open_home) as server:
        second = command("server", f"port={free_port()}", home=open_home)
        assert (second.status, len(second.err.splitlines())) == (2, 1)
        assert "is running already" in second.err
        left = server.processes()
        server.process.kill()  # alone: MLflow and PostgreSQL go on
        server.process.wait()
        assert {one.name() for one in alive(left)} >= {"postgres"}
        assert len(alive(left)) == len(left)
        server.start()
        assert not alive(left)
        (postmaster,) = (one for one in server.processes() if one.name() == "postgres" and "-D" in one.cmdline())
        postmaster.kill()
        assert server.process.wait(timeout=60) == 2
        assert "server: the server has ended by itself" in server.said.read_text()
        assert "Traceback" not in server.said.read_text()
        server.start()  # on the same port, with the same data
        assert server.rows("select count(*) from experiments") == ["1"]


@needs_postgres
@pytest.mark.long
def test_login_is_asked_for_and_no_secret_is_kept_or_shown(open_home: Path, tmp_path: Path, command: Command) -> None:
    """By MLflow's own means: nobody, a wrong password, the admin, and a user whom the admin has made."""
    with served(open_home, "login=true") as server:
        words = ("train", *SMALL, "tracking=server", f"tracking.uri={server.uri}")
        file = server.folder / "admin_password"
        admin = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": file.read_text()}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        user = {"MLFLOW_TRACKING_USERNAME": "colleague", "MLFLOW_TRACKING_PASSWORD": "s3cret-of-colleague"}
        for who in ({}, {**admin, "MLFLOW_TRACKING_PASSWORD": "s3cret-but-wrong"}, user):
            refused = command(*words, home=tmp_path, **who)
            assert (refused.status, len(refused.err.splitlines())) == (2, 1), refused.err
            assert "it answers only who logs in, and did not take this login: it belongs into MLFLOW_" in refused.err
            assert not all_runs(tmp_path / "runs")
        assert command(*words, home=tmp_path, **admin).status == 0
        make = json.dumps({"username": "colleague", "password": user["MLFLOW_TRACKING_PASSWORD"]})
        new = "/api/2.0/mlflow/users/create"
        assert ask(server.port, "POST", new, make).status == 401
        assert ask(server.port, "POST", new, make, Authorization=basic(admin)).status == 200
        said = command(*words, "seed=1", home=tmp_path, **user)  # into the admin's experiment
        assert (said.status, "warning" in said.err) == (0, False), said.err
        assert server.rows("select count(*) from runs where status = 'FINISHED'") == ["2"]
        answers_this_machine_alone(server)
        kept = [path for path in (*open_home.rglob("*"), *tmp_path.rglob("*")) if path.is_file() and path != file]
        shown = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
        assert any(server.uri.rpartition(":")[2] in line and "basic-auth" in line for line in shown)
        for secret in (file.read_text(), user["MLFLOW_TRACKING_PASSWORD"], "s3cret-but-wrong"):
            assert not [path for path in kept if secret.encode() in path.read_bytes()]
            assert not [line for line in shown if secret in line]


def basic(who: dict[str, str]) -> str:
    from base64 import b64encode

    return "Basic " + b64encode(":".join(who.values()).encode()).decode()


def answers_this_machine_alone(server: Served) -> None:
    """As `make ui`: 127.0.0.1 and a socket, no foreign host, no page from elsewhere, no other user."""
    listening = set()
    for each in server.processes():
        with suppress(psutil.NoSuchProcess):  # PostgreSQL's come and go
            listening |= {one.laddr.ip for one in each.net_connections("inet") if one.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    new, own = "/api/2.0/mlflow/experiments/create", f"http://127.0.0.1:{server.port}"
    for host in ("evil.example", f"evil.example:{server.port}", "192.168.0.9"):
        assert ask(server.port, "GET", "/", Host=host).status == 403, host
    assert ask(server.port, "POST", new, '{"name": "a"}', Origin="https://evil.example").status == 403
    assert ask(server.port, "GET", "/health", Origin=own).status == 200
    sockets = Path((server.folder / "postgres" / "postmaster.pid").read_text().splitlines()[4])
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    if os.geteuid() == 0:  # who owns the socket, too, is no user of the databases
        psql = str(find_programs(server.folder / "postgres") / "psql")
        for name in ("postgres", "nobody"):
            for role in ("mlflow", "postgres"):
                asked = [psql, "-h", str(sockets), "-U", role, "-d", "mlflow", "-c", "select 1"]
                ids = pwd.getpwnam(name)
                done = subprocess.run(
                    asked, user=ids.pw_uid, group=ids.pw_gid, extra_groups=[], cwd="/", capture_output=True, text=True
                )
                assert done.returncode != 0
                assert "Peer authentication failed" in done.stderr or "Permission denied" in done.stderr


@needs_postgres
@pytest.mark.long
def test_local_project_moves_to_a_server_whole_and_once(open_home: Path, tmp_path: Path, command: Command) -> None:
    """A sweep with its summaries, evaluated, an ensemble, a data report, a killed run, a note, a run made by hand."""
    from mlflow import MlflowClient

    def ran(*words: str) -> str:
        said = command(*words, home=tmp_path)
        assert said.status == 0, said.err
        return said.out

    named = "experiment_name=moved"
    ran("train", "-m", *SMALL, "seed=0,1,3", named)
    killed = begun(tmp_path, "seed=2", "training.epochs=500", "training.patience=0", named)
    while not any(read_state(run).status == "RUNNING" and run.file("mlflow.json").is_file() and
                  run.file("metrics.jsonl").is_file() for run in all_runs(tmp_path / "runs")):  # fmt: skip
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    ran("runs", "mend")
    ran("verify", "data=phantom", "data.num_patients=40")
    done = [run.run_id for run in all_runs(tmp_path / "runs") if read_state(run).status == FINISHED]
    ran("evaluate", f"run={done[0]},{done[1]}", "ensemble=true")  # the third is evaluated after the move
    local = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    local.set_tag(mlflow_run_id(all_runs(tmp_path / "runs")[0]), "mlflow.note.content", "looked at by hand")
    by_hand = local.create_run(local.create_experiment("by_hand"), run_name="mine").info.run_id
    for step in range(1200):
        local.log_metric(by_hand, "x", step / 7, step=step)
    local.set_terminated(by_hand)
    ran("runs", "sync")  # of the killed run its own database lacks the files
    before = told(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    with served(open_home) as server:
        move = ("runs", "sync", "tracking=server", f"tracking.uri={server.uri}")
        said = ran(*move)
        after = told(server.uri)
        assert {key: replace(one, started_ms=0) for key, one in after.items()} == {
            key: replace(one, started_ms=0) for key, one in before.items()
        }, said
        for key, one in before.items():  # a data report begins anew where it is told again
            assert abs(after[key].started_ms - one.started_ms) < 60_000 or one.tags.get("kind") == "data_report"
        assert len(after) == 8
        with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
            counts = (
                "select (select count(*) from runs where lifecycle_stage = 'active'), (select count(*) from metrics)"
            )
            assert server.rows(counts) == ["|".join(map(str, database.execute(counts).fetchone()))]
        assert ran(*move).startswith("nothing to send")
        assert ran("runs", "sync").startswith("nothing to send"), "the server is where they are told now"
        assert told(server.uri) == after
        ran("evaluate", f"run={done[2]}")
        assert {name for name, *_ in told(server.uri)[f"phantom-moved/{done[2]}"].values} >= {"test_auroc"}
        assert "test_auroc" not in local.get_run(local_id(local, done[2])).data.metrics
        assert ran(*move).startswith("nothing to send")


def local_id(client: Any, run_id: str) -> str:
    experiments = [one.experiment_id for one in client.search_experiments()]
    (run,) = client.search_runs(experiments, f"tags.`cxr.run_id` = '{run_id}'")
    return str(run.info.run_id)


def test_missing_postgresql_is_one_line_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"PostgreSQL is not on this machine .*: apt install postgresql$"):
        find_programs(tmp_path / "data", places=())


def test_data_are_read_by_the_version_that_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("14", "16"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in ("postgres", "initdb"):
            (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}.3'\n")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/14/bin:/usr/bin:/bin")
    places, data = (f"{tmp_path}/*/bin",), tmp_path / "data"
    assert find_programs(data, places) == tmp_path / "16" / "bin", "the newest, for new data"
    data.mkdir()
    (data / "PG_VERSION").write_text("14\n")
    assert find_programs(data, places) == tmp_path / "14" / "bin"
    (data / "PG_VERSION").write_text("13\n")
    with pytest.raises(MachineError, match="are of PostgreSQL 13, and here is 16: apt install postgresql-13"):
        find_programs(data, places)


def test_make_server_is_the_command() -> None:
    words = [
        "make",
        "--no-print-directory",
        "-n",
        "-o",
        "install",
        "server",
        "PORT=5011",
        "LOGIN=true",
        "CXR_HOME=/x y",
    ]
    recipe = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert recipe.strip() == "CXR_HOME='/x y' .venv/bin/python -m cxr_experiments.server port=5011 login=true"


def test_run_that_was_moved_is_told_where_it_was_moved_to_once_the_user_has_named_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "exp" / ("a" * 12))
    folder.path.mkdir(parents=True)
    write_config(folder.file("config.yaml"), ExperimentConfig())
    assert where_told(folder, tmp_path) == TrackingConfig()
    write_json(folder.file("mlflow.json"), {"run_id": "b" * 32, "experiment_id": "1"})
    assert where_told(folder, tmp_path) == TrackingConfig(), "as it was written before there were servers"
    moved = TrackingConfig("server", "http://127.0.0.1:9")
    write_json(folder.file("mlflow.json"), {"run_id": "b" * 32, "experiment_id": "1", "uri": moved.uri})
    with pytest.raises(TrackingError, match="nothing was sent there"):
        where_told(folder, tmp_path)
    remember(moved, tmp_path)
    assert where_told(folder, tmp_path) == moved
    write_config(folder.file("config.yaml"), ExperimentConfig(tracking=moved))
    write_json(folder.file("mlflow.json"), {"run_id": "b" * 32, "experiment_id": "1", "uri": ""})
    assert where_told(folder, tmp_path) == TrackingConfig(), "moved back"


class AsksForLogin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"You are not authenticated")

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


def test_server_that_asks_for_a_login_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    with ThreadingHTTPServer(("127.0.0.1", 0), AsksForLogin) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        named = TrackingConfig("server", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(CxrError, match=r"answers only who logs in.*MLFLOW_TRACKING_USERNAME") as caught:
            tracking.open_place(named, tmp_path, "x")
        server.shutdown()
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not tracking.has_answered(named, tmp_path), "a refusal is no answer"


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone starts PostgreSQL as another user")
@needs_postgres
def test_home_that_is_closed_to_postgresql_is_one_line(tmp_path: Path, command: Command) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    said = command("server", f"port={free_port()}", home=closed)
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert "who may not enter" in said.err
    assert "set CXR_HOME" in said.err
