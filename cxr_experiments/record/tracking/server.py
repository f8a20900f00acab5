"""An MLflow server of the project's own, on its PostgreSQL: started, watched, ended; for this machine alone.

In: the home, a port, whether a login is asked for.  Out: a server under 127.0.0.1 whose runs and artifacts lie in
`mlruns/server/`, and are there at the next start.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_experiments.errors import MachineError, TrackingError
from cxr_experiments.record.attempt import machine, started
from cxr_experiments.record.tracking.postgres import (
    LOGINS,
    TRACKING,
    Postgres,
    end,
    last_line,
    postgres,
    quiet_environment,
)

HOST = "127.0.0.1"
ADMIN, PASSWORD_FILE = "admin", "admin_password"
_KEY, _PASSWORD = "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD"
_NEEDED = {"psycopg": "PostgreSQL", "flask_wtf": "a login"}
_READY_S, _STOP_S, _LOOK_S = 180.0, 10.0, 0.3


@dataclass(frozen=True)
class Server:
    """One that answers.

    Attributes:
        uri: its address.
        mlflow, postgres: its processes.
        log: what MLflow says.
    """

    uri: str
    mlflow: subprocess.Popen[bytes]
    postgres: subprocess.Popen[bytes]
    log: Path


def server_folder(home: Path) -> Path:
    """Where its data lie."""
    return home / "mlruns" / "server"


@contextmanager
def server(home: Path, port: int, *, login: bool, permission: str) -> Iterator[Server]:
    """A server on 127.0.0.1 from when it answers to the end of the block, on the data that are there.

    Args:
        home: CXR_HOME.
        port: where it listens.
        login: whether it answers only who has a name and a password, by MLflow's own means.
        permission: what a login may do with what others have logged: READ, EDIT or MANAGE.

    Raises:
        MachineError: PostgreSQL or an extra is missing, the port is taken, or a server of this home is running.
        TrackingError: it does not start.
    """
    for module, what in _NEEDED.items():
        if find_spec(module) is None and (login or module == "psycopg"):
            raise MachineError(f"{what} needs the extra `server`: pip install 'cxr-experiments[server]'")
    folder = _made_folder(home)
    with _alone(folder):
        _end_left_behind(folder)
        _check_free(port)
        with postgres(folder) as database:
            log = folder / "mlflow.log"
            mlflow = _started(folder, port, database, _login(folder, database, permission) if login else {})
            try:
                _wait_until_ready(mlflow, port, log)
                yield Server(f"http://{HOST}:{port}", mlflow, database.process, log)
            finally:
                for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(one, signal.SIG_IGN)  # a second Ctrl-C would leave the database behind
                end(mlflow, (signal.SIGTERM, _STOP_S))
                _kill_group(mlflow.pid)
                (folder / "process.json").unlink(missing_ok=True)


def watch(running: Server) -> None:
    """Return never; raise when one of the two processes has ended by itself.

    Raises:
        TrackingError: with what it said last.
    """
    logs = {running.mlflow: running.log, running.postgres: running.log.with_name("postgres.log")}
    while True:
        for process, log in logs.items():
            if process.poll() is not None:
                raise TrackingError(f"the server has ended by itself: {last_line(log)} ({log})")
        time.sleep(_LOOK_S)


def _made_folder(home: Path) -> Path:
    folder = server_folder(home)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            folder.chmod(0o711)  # PostgreSQL, which refuses to run as root, passes through as another user
        (folder / "artifacts").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot make {folder}: {error.strerror}") from error
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise MachineError(f"a server on the data in {folder} is running already") from error
    try:
        yield
    finally:
        lock.release()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what the last server left counts as free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise MachineError(f"port {port} of {HOST} cannot be listened on ({error.strerror}): port=N") from error


def _started(folder: Path, port: int, database: Postgres, login: dict[str, str]) -> subprocess.Popen[bytes]:
    """One worker: it takes eight runs at once, and no two of them make the tables of a new database."""
    hosts = (f"localhost:{port}", f"{HOST}:{port}")
    words = {
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": database.uri(TRACKING),
        "--artifacts-destination": (folder / "artifacts").as_uri(),
        "--allowed-hosts": ",".join(hosts),
        "--cors-allowed-origins": ",".join(f"http://{host}" for host in hosts),
        "--x-frame-options": "SAMEORIGIN",
        "--uvicorn-opts": "--log-level warning --no-access-log",
        **({"--app-name": "basic-auth"} if login else {}),
    }
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--serve-artifacts",
                *(one for pair in words.items() for one in pair),
            ],
            env={**quiet_environment(), **quick, **login},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal must not reach it: its database goes after it
        )
    told = {"machine": machine(), "pid": process.pid, "started": started(process.pid)}
    (folder / "process.json").write_text(json.dumps(told), encoding="utf-8")
    return process


def _login(folder: Path, database: Postgres, permission: str) -> dict[str, str]:
    """What MLflow's own login is told, in the environment: no secret stands in the list of processes, or in a log.

    The admin's first password comes from MLFLOW_AUTH_ADMIN_PASSWORD, or is made and kept in a file for this user alone.
    """
    settings, password = folder / "basic_auth.ini", folder / PASSWORD_FILE
    told = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN}
    told[_KEY] = os.environ.get(_KEY) or _kept_secret(folder / "flask_secret_key")
    # without the file, the admin of an earlier start has a password of the user's own
    if _PASSWORD not in os.environ and (password.is_file() or not settings.is_file()):
        told[_PASSWORD] = _kept_secret(password)
    lines = (
        "[mlflow]",
        f"default_permission = {permission}",
        f"database_uri = {database.uri(LOGINS)}",
        f"admin_username = {ADMIN}",
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
    )
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return told


def _kept_secret(path: Path) -> str:
    """Made once, readable by this user alone."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(secrets.token_urlsafe(24))
    return path.read_text(encoding="utf-8").strip()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while not _is_healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise TrackingError(f"the MLflow server does not start: {last_line(log)} ({log})")
        time.sleep(_LOOK_S)


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_left_behind(folder: Path) -> None:
    """The MLflow of a command that was killed: it has lost its master, and holds the port."""
    told = folder / "process.json"
    try:
        left = json.loads(told.read_text(encoding="utf-8"))
        pid, began, where = int(left["pid"]), str(left["started"]), str(left["machine"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if began and where == machine() and started(pid) in ("", began):  # not another process that has its number now
        _kill_group(pid)
    told.unlink(missing_ok=True)


def _kill_group(leader: int) -> None:
    """What has not ended with its leader, waited for: it holds the port until it is gone.

    Nobody else gets the number of a group that is not empty.
    """
    deadline = time.monotonic() + _STOP_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(leader, signal.SIGKILL)
            time.sleep(_LOOK_S / 10)
