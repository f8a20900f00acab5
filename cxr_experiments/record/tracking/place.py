"""Where runs are told to: MLflow's store, SQLite under mlruns/ or a server, opened with care and in one place.

All of MLflow's errors, its database's and its network's leave as TrackingError, without credentials.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from cxr_experiments.config.credentials import WHERE_THEY_BELONG, without_credentials
from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import TrackingError, one_line
from cxr_experiments.record.run_folder import read_json
from cxr_experiments.record.tracking.known import remember
from cxr_experiments.record.tracking.moved import follow_move

if TYPE_CHECKING:
    from mlflow import MlflowClient


QUOTES = "'\""
_OTHERS = (OSError, ValueError, TypeError, ImportError)


@dataclass(frozen=True)
class TrackingPlace:
    """Where runs are told to: MLflow's URI and the experiment's number there."""

    uri: str
    experiment_id: str

    @property
    def is_server(self) -> bool:
        """Whether it may hang; the project's own database fails, or it answers."""
        return not self.uri.startswith("sqlite:")


def open_place(tracking: TrackingConfig, home: Path, experiment_name: str) -> TrackingPlace | None:
    """The experiment in MLflow, made when new; None with tracking=disabled.

    A fresh SQLite database opened by several processes at once can break for good, so it is made under a file lock.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if tracking.kind == "disabled":
        return None
    folder = home / "mlruns"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(f"cannot make {folder}: {error.strerror}") from error
    uri = store_uri(tracking, home)
    with opening_lock(folder), door(uri):
        if uri == _own_uri(home):
            if not _database(home).is_file():
                _make_database(_database(home))
            follow_move(home)
        client = client_of(uri)
        experiment = client.get_experiment_by_name(experiment_name)
        remember(tracking, home)
        if experiment is not None:
            return TrackingPlace(uri, str(experiment.experiment_id))
        # The artifact place can be given here only; a server chooses its own.
        place = None if tracking.kind == "server" else (folder / "artifacts" / experiment_name).as_uri()
        return TrackingPlace(uri, _made_or_found(client, experiment_name, place))


def _made_or_found(client: MlflowClient, name: str, place: str | None) -> str:
    """The experiment's number; on a server another home, whose lock is another one, may make it at the same time."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def reach(tracking: TrackingConfig, home: Path) -> None:
    """Ask a place that the user has named whether it is there, before much is sent to it.

    Raises:
        TrackingError: it does not answer.
    """
    if tracking.kind == "server":
        with door(store_uri(tracking, home)):
            client_of(store_uri(tracking, home)).search_experiments(max_results=1)


def opening_lock(mlruns: Path) -> FileLock:
    """Held while the database is opened, and made when it is not there."""
    return FileLock(mlruns / ".mlflow.lock")


def find_place(tracking: TrackingConfig, home: Path, told: Path) -> tuple[TrackingPlace | None, str]:
    """Where a finished run was told to, and its id there, from its folder's mlflow.json; (None, "") when it was not.

    Args:
        tracking: as the user names it, or as a run's config does after `named_before`.
        home: CXR_HOME.
        told: mlflow.json in the run's folder.

    Raises:
        TrackingError: the local database is gone, or the file names a run that is not the folder's.
        RunError: the file cannot be read.
    """
    if tracking.kind == "disabled" or not told.is_file():
        return None, ""
    if tracking.kind == "local" and not _database(home).is_file():
        raise TrackingError(
            f"{_database(home)} is gone, so the test metrics stand in the run folder alone; `runs sync` sends them"
        )
    if tracking.kind == "local":
        with opening_lock(home / "mlruns"), door(store_uri(tracking, home)):
            follow_move(home)
    values = read_json(told)
    place = TrackingPlace(store_uri(tracking, home), str(values.get("experiment_id")))
    mlflow_id = str(values.get("run_id"))
    with door(place.uri):
        run = client_of(place.uri).get_run(mlflow_id)
        remember(tracking, home)
        if run.data.tags.get("cxr.run_id") != told.parent.name:
            raise ValueError(f"its run {one_line(mlflow_id)} is not that of {told.parent}")
    return place, mlflow_id


def store_uri(tracking: TrackingConfig, home: Path) -> str:
    """MLflow's address, always explicit and absolute: MLflow's own default depends on the current directory."""
    return tracking.uri or _own_uri(home)


def _database(home: Path) -> Path:
    return home / "mlruns" / "mlflow.db"


def _own_uri(home: Path) -> str:
    return f"sqlite:///{_database(home)}"


def _make_database(path: Path) -> None:
    """MLflow's tables in a file that appears when it is whole.

    MLflow makes them by 70 migrations, and SQLite waits for the disk after each: 4.3 s.  A draft that is thrown away
    when the process dies needs no such care until it is whole: 0.7 s.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def carelessly(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")

    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    event.listen(Engine, "connect", carelessly)
    try:
        client_of(f"sqlite:///{draft}").search_experiments(max_results=1)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    finally:
        event.remove(Engine, "connect", carelessly)
        draft.unlink(missing_ok=True)


def load_client() -> None:
    """Import MLflow's client, which may take long on a busy machine: that is no silence of the server's."""
    client_of("http://127.0.0.1:9")  # which sends nothing yet


def client_of(uri: str) -> MlflowClient:
    """MLflow's client, quiet, and soon tired of a server that is gone."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default 7 block 246 s when a server is gone
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run that a server is told
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # 60 lines of migrations on a fresh database
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a traceback of the error that it raises
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def wait_longer() -> None:
    """For a process that trains nothing meanwhile: a busy server may take a minute over an answer."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


@contextmanager
def door(uri: str) -> Iterator[None]:
    """Every error of MLflow, its database and its network becomes one TrackingError without credentials."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, RequestException, *_OTHERS) as error:
        reason = reason_in(str(error))
        if isinstance(error, MlflowException) and error.get_http_status_code() == 401:
            reason = f"it answers only who logs in, and did not take this login: it belongs into {WHERE_THEY_BELONG}"
        raise TrackingError(f"MLflow at {without_credentials(uri)}: {reason}") from error


def reason_in(told: str) -> str:
    """What is wrong, in words, out of what a library says: without its manual, its pools, its retries and credentials.

    Example:
        >>> reason_in("Max retries exceeded (Caused by ConnectionError('Pool(host): Failed: [Errno 111] Refused'))")
        'not reached: [Errno 111] Refused'
    """
    told = " ".join(told.partition("(Background on this error")[0].split())  # SQLAlchemy's advertisement
    if cause := re.search(r"Caused by \w+\((.+)\)\)", told):
        told = f"not reached: {cause[1].strip(QUOTES).rpartition(': ')[2]}"
    return without_credentials(told)[:500]
