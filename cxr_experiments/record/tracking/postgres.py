"""A PostgreSQL of the project's own: its data in a folder, its door a socket for the user who started it alone.

Nothing listens on the network and there is no password to lose: with `peer` the kernel says who is at the other end of
the socket, and nobody but that user is let in.  PostgreSQL refuses to run as root; root starts it as `postgres`.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_experiments.errors import MachineError, TrackingError, one_line

TRACKING, LOGINS = "mlflow", "mlflow_logins"
MISSING = "PostgreSQL is not on this machine (no initdb in PATH or /usr/lib/postgresql): apt install postgresql"
_ROLE, _OWNER = "mlflow", "postgres"  # MLflow's has rights on its two databases alone
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_READY_S, _STOP_S = 300.0, 60.0  # after a crash it first makes good what was under way


@dataclass(frozen=True)
class Postgres:
    """One that answers: its process, and the folder of its socket."""

    process: subprocess.Popen[bytes]
    sockets: Path

    def uri(self, database: str) -> str:
        """As SQLAlchemy takes it.  No secret is in it."""
        return f"postgresql+psycopg://{_ROLE}@/{database}?host={self.sockets}"


@dataclass(frozen=True)
class _Programs:
    """Where they lie, and as whom the server runs: root's rights are put down."""

    folder: Path
    user: int

    def __call__(self, name: str, *words: str) -> list[str]:
        return [str(self.folder / name), *words]

    def as_user(self) -> dict[str, Any]:
        """Words of Popen.  A session of its own, so that Ctrl-C in the terminal does not reach it."""
        own = {"env": quiet_environment(), "cwd": "/", "start_new_session": True}
        if os.geteuid() != 0:
            return own
        return {**own, "user": self.user, "group": pwd.getpwuid(self.user).pw_gid, "extra_groups": []}


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Run it on the data in `folder`, made when there are none, and stop it at the end.

    Args:
        folder: for `postgres/`, `postgres.log` and who may enter; nobody else may use it at the same time.

    Raises:
        MachineError: no PostgreSQL, one of another version than the data, or a folder that it cannot enter.
        TrackingError: it does not start.
    """
    data = folder / "postgres"
    programs = _Programs(find_programs(data), _runs_as(data))
    _check_way(folder, programs.user)
    if not data.is_dir():
        _make_data(data, programs)
    elif (data / "postmaster.pid").is_file():  # left by a command that was killed; nothing, when it is gone too
        subprocess.run(
            programs("pg_ctl", "stop", "--silent", "--mode=fast", f"--pgdata={data}"),
            **programs.as_user(),
            capture_output=True,
            check=False,
        )
    # under /tmp, since the path of a socket has at most 107 characters; mkdtemp's is nobody else's
    with tempfile.TemporaryDirectory(prefix="cxr-", dir="/tmp", ignore_cleanup_errors=True) as sockets:
        if os.geteuid() == 0:
            os.chown(sockets, programs.user, -1)
        process = _started(folder, Path(sockets), programs)
        try:
            _wait_until_ready(process, folder, sockets, programs)
            _make_databases(sockets, programs)
            yield Postgres(process, Path(sockets))
        finally:
            # SIGINT: what is under way is rolled back; SIGQUIT: made good at the next start
            end(process, (signal.SIGINT, _STOP_S), (signal.SIGQUIT, _STOP_S))


def find_programs(data: Path, places: tuple[str, ...] = _PLACES) -> Path:
    """Folder of the newest PostgreSQL, or of that which made the data, which no other can read.

    Raises:
        MachineError: there is none.
    """
    initdb = shutil.which("initdb")
    found = [Path(initdb).resolve().parent] if initdb else []
    for place in places:
        found += Path("/").glob(place.lstrip("/"))
    versions = {version: one for one in reversed(found) if (version := _version(one))}
    if not versions:
        raise MachineError(MISSING)
    if not data.is_dir():
        return versions[max(versions)]
    made_by = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    if made_by.isdecimal() and int(made_by) in versions:
        return versions[int(made_by)]
    raise MachineError(
        f"the data in {data} are of PostgreSQL {one_line(made_by)}, and here is {max(versions)}: apt install "
        f"postgresql-{one_line(made_by)}, or bring them over with pg_upgrade"
    )


def quiet_environment() -> dict[str, str]:
    """The environment without what would have PostgreSQL's clients go elsewhere (PGHOST, PGSERVICE, ...)."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def last_line(log: Path) -> str:
    """What a program said last, as the end of a message."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    return one_line(next((line for line in reversed(lines) if line.strip()), "it said nothing"))


def end(process: subprocess.Popen[bytes], *asked: tuple[signal.Signals, float]) -> None:
    """Ask a process to end in one way after another, waiting so many seconds each time, then kill it."""
    for how, wait_s in asked:
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(timeout=wait_s)
            return
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()


def _version(programs: Path) -> int | None:
    """15 of `postgres (PostgreSQL) 15.10 (Debian ...)`; None where it cannot be run."""
    try:
        said = subprocess.run([str(programs / "postgres"), "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    return int(found.group(1)) if found and (programs / "initdb").is_file() else None


def _runs_as(data: Path) -> int:
    """The user that the data belong to; for new ones this user, or the system's own for databases instead of root."""
    if os.geteuid() != 0:
        return os.geteuid()
    owner = data.stat().st_uid if data.is_dir() else 0
    try:
        return owner or pwd.getpwnam(_OWNER).pw_uid
    except KeyError as error:
        raise MachineError(f"PostgreSQL refuses to run as root, and there is no user {_OWNER}: {MISSING}") from error


def _check_way(folder: Path, user: int) -> None:
    """Root's home, say, is closed to the user that PostgreSQL has to run as."""
    if os.geteuid() != 0:
        return
    for one in (folder, *folder.parents):
        if one.stat().st_uid != user and not one.stat().st_mode & stat.S_IXOTH:
            raise MachineError(
                f"PostgreSQL refuses to run as root, so it runs as {pwd.getpwuid(user).pw_name}, who may not enter "
                f"{one}: set CXR_HOME to a folder that others may enter, or start this as an ordinary user"
            )


def _make_data(data: Path, programs: _Programs) -> None:
    """New data, under their name when they are whole."""
    for left in data.parent.glob(f".{data.name}.*"):
        shutil.rmtree(left)
    draft = data.with_name(f".{data.name}.{os.getpid()}")
    draft.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(draft, programs.user, -1)
    words = ("--auth=reject", "--encoding=UTF8", "--no-locale", f"--username={_OWNER}", f"--pgdata={draft}")
    made = subprocess.run(programs("initdb", *words), **programs.as_user(), capture_output=True, text=True, check=False)
    if made.returncode != 0:
        shutil.rmtree(draft)
        raise TrackingError(f"PostgreSQL's initdb failed: {one_line(made.stderr)}")
    draft.rename(data)


def _started(folder: Path, sockets: Path, programs: _Programs) -> subprocess.Popen[bytes]:
    """Who may enter is told by files beside the data: root writes none where another user could have put a link."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    doors, names = folder / "pg_hba.conf", folder / "pg_ident.conf"
    doors.write_text("local all all peer map=cxr\n", encoding="utf-8")
    names.write_text(f'cxr "{user}" {_ROLE}\ncxr "{user}" {_OWNER}\n', encoding="utf-8")
    for file in (doors, names):
        file.chmod(0o644)  # PostgreSQL reads them as another user when root has started it
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "hba_file": str(doors),
        "ident_file": str(names),
    }
    words = [f"--{name}={value}" for name, value in settings.items()]
    with (folder / "postgres.log").open("ab") as log:
        return subprocess.Popen(
            programs("postgres", "-D", str(folder / "postgres"), *words),
            **programs.as_user(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path, sockets: str, programs: _Programs) -> None:
    deadline = time.monotonic() + _READY_S
    asked = programs("pg_isready", "--quiet", f"--host={sockets}", f"--username={_OWNER}")
    while subprocess.run(asked, env=quiet_environment(), check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            log = folder / "postgres.log"
            raise TrackingError(f"PostgreSQL does not start: {last_line(log)} ({log})")
        time.sleep(0.1)


def _make_databases(sockets: str, programs: _Programs) -> None:
    """MLflow's two, and a role that owns them and nothing else; what is there is left alone."""
    words = [f"select 'create role {_ROLE} login' where not exists (select from pg_roles where rolname = '{_ROLE}')"]
    for name in (TRACKING, LOGINS):
        missing = f"not exists (select from pg_database where datname = '{name}')"
        words.append(f"select 'create database {name} owner {_ROLE}' where {missing}")
    done = subprocess.run(
        programs("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", sockets, "-U", _OWNER, "-d", "postgres"),
        input="".join(f"{one} \\gexec\n" for one in words),
        env=quiet_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TrackingError(f"PostgreSQL does not make MLflow's databases: {one_line(done.stderr)}")
