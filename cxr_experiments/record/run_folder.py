"""The run's own folder, runs/<experiment_name>/<run_id>/: claimed once, written once, read back.

The folder is the truth; MLflow is told afterwards.  It is claimed under a lock, so two processes cannot own one run,
and an attempt whose process is gone is taken up again where it stopped.  The last line of `events.jsonl` is the run's
state: RUNNING, FINISHED, FAILED, KILLED.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from cxr_experiments.config.identity import Identity
from cxr_experiments.errors import RunError, one_line
from cxr_experiments.record.attempt import Attempt, attempt_of, own_attempt

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


@dataclass(frozen=True)
class State:
    """A run's last event, and the process that wrote it."""

    status: str
    reason: str
    attempt: Attempt


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and the names of what it holds."""

    path: Path

    @property
    def run_id(self) -> str:
        """The folder's name: 12 hex digits."""
        return self.path.name

    @property
    def experiment_name(self) -> str:
        """The name of the folder above."""
        return self.path.parent.name

    def file(self, name: str) -> Path:
        """A file of the run: config.yaml, identity.json, split.csv, model.keras, predictions_val.csv, ..."""
        return self.path / name

    @property
    def states(self) -> Path:
        """The folder of the training's states at the end of its last epochs; there until the run is finished."""
        return self.path / "states"

    @property
    def sign_of_life(self) -> Path:
        """The file that the process at work on the run touches again and again."""
        return self.path / ".alive"

    def predictions(self, split: str) -> Path:
        """The predictions file of one split."""
        return self.path / f"predictions_{split}.csv"


def claim(runs: Path, experiment_name: str, identity: Identity) -> RunFolder:
    """Make the run's folder, or take over that of an attempt whose process is gone, and write RUNNING into it.

    Whatever the attempt left stays; the training goes on from its last state.

    Raises:
        RunError: another process is training this very run, or has finished it since it was looked for.
    """
    final = runs / experiment_name / identity.run_id
    final.parent.mkdir(parents=True, exist_ok=True)
    with claims_lock(runs):
        if final.exists():
            taken = RunFolder(final)
            if read_state(taken).status == FINISHED:
                raise RunError(
                    f"run {final.name} was finished meanwhile by another process, nothing was trained: {final}"
                )
            if is_at_work(taken):
                who = read_state(taken).attempt.told(taken.sign_of_life)
                raise RunError(f"run {final.name} is being trained by {who}: wait for it, or stop it ({final})")
            taken.sign_of_life.touch()
            record_event(taken, RUNNING, f"taken up again after {read_state(taken).status}")
            return taken
        draft = final.with_name(f".{identity.run_id}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        folder = RunFolder(draft)
        write_json(folder.file("identity.json"), asdict(identity))
        folder.sign_of_life.touch()
        record_event(folder, RUNNING)
        draft.rename(final)
    return RunFolder(final)


def claims_lock(runs: Path) -> FileLock:
    """Held while a run's folder is made or taken over."""
    runs.mkdir(parents=True, exist_ok=True)
    return FileLock(runs / ".claims.lock")


def is_at_work(folder: RunFolder) -> bool:
    """Whether a process works on the run at this moment."""
    state = read_state(folder)
    return state.status == RUNNING and state.attempt.is_at_work(folder.sign_of_life)


def require_own(folder: RunFolder) -> None:
    """Must be called before a file of a claimed run is written: a process that slept too long has lost its run.

    Raises:
        RunError: another process has taken the run up meanwhile.
    """
    state = read_state(folder)
    if state.attempt != own_attempt():
        who = state.attempt.told(folder.sign_of_life)
        raise RunError(f"run {folder.run_id} was taken up by {who} while this one was not heard of: this one stops")


def is_taken_up(folder: RunFolder) -> bool:
    """Whether an attempt before this one has worked in the folder."""
    events = read_json_lines(folder.file("events.jsonl"))
    return sum(bool(event.get("status") == RUNNING) for event in events) > 1


def finished(runs: Path, experiment_name: str, identity: Identity) -> RunFolder | None:
    """The finished run with this identity, or None."""
    folder = RunFolder(runs / experiment_name / identity.run_id)
    return folder if folder.path.is_dir() and read_state(folder).status == FINISHED else None


def record_event(folder: RunFolder, status: str, reason: str = "") -> None:
    """Append one line to events.jsonl, flushed to the disk."""
    event = {"time_s": time.time(), "status": status, "reason": reason, **asdict(own_attempt())}
    append_json_line(folder.file("events.jsonl"), event)


def read_state(folder: RunFolder) -> State:
    """The run's last event.

    Raises:
        RunError: the folder has no readable event, or a symbolic link in it, through which writing would leave it.
    """
    for place, folders, files in os.walk(folder.path):
        if links := [name for name in (*folders, *files) if Path(place, name).is_symlink()]:
            link = Path(place, links[0])
            raise RunError(f"{link} is a symbolic link: put the file itself in its place, or leave this run alone")
    events = list(read_json_lines(folder.file("events.jsonl")))
    try:
        last = events[-1]
        return State(str(last["status"]), one_line(last["reason"]), attempt_of(last))
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        told = one_line(repr(error))
        raise RunError(f"{folder.file('events.jsonl')} does not tell the run's state: {told}") from error


def all_runs(runs: Path, experiment_name: str | None = None) -> list[RunFolder]:
    """Every run folder, by experiment and then by start, oldest first; earlier attempts left out."""
    found = [
        path
        for path in runs.glob("*/*/events.jsonl")
        if "." not in path.parent.name and experiment_name in (None, path.parts[-3])
    ]
    return [RunFolder(path.parent) for path in sorted(found, key=lambda path: (path.parts[-3], _started(path)))]


def _started(events: Path) -> float:
    try:
        return float(next(read_json_lines(events), {})["time_s"])
    except (RunError, KeyError, TypeError, ValueError, OverflowError):
        return 0.0  # `read_state` says what is wrong with it


def find_run(runs: Path, run: str, experiment_name: str | None = None) -> RunFolder:
    """The run with this id, the start of one (6 digits or more), or MLflow's id.

    The same choices under two experiment names are one id twice; `experiment_name` tells them apart.

    Raises:
        RunError: none, or more than one, fits.
    """
    folders = all_runs(runs, experiment_name)
    fits = [folder for folder in folders if folder.run_id == run or (len(run) >= 6 and folder.run_id.startswith(run))]
    fits = fits or [folder for folder in folders if len(run) == 32 and mlflow_run_id(folder) == run]
    if len(fits) == 1:
        return fits[0]
    known = ", ".join(
        f"{folder.run_id} ({folder.experiment_name})" for folder in (fits or folders or all_runs(runs))[-8:]
    )
    place = runs / (experiment_name or "")
    what = f"{len(fits)} runs fit run={run}, add experiment_name=NAME" if fits else f"no run {run} under {place}"
    raise RunError(f"{what}; there are: {known or 'none yet, `train` makes one'}")


def mlflow_run_id(folder: RunFolder) -> str:
    """MLflow's id of the run; empty when it was not told."""
    path = folder.file("mlflow.json")
    return str(read_json(path).get("run_id", "")) if path.is_file() else ""


def begun(folder: RunFolder) -> str:
    """12 hex digits over the line of its first claim: they set the folder apart from one with the same id elsewhere."""
    with folder.file("events.jsonl").open("rb") as stream:
        return hashlib.sha256(stream.readline()).hexdigest()[:12]


def mlflow_link(folder: RunFolder) -> str:
    """Path of the run in MLflow's UI, behind http://HOST:PORT/; empty when MLflow was not told."""
    path = folder.file("mlflow.json")
    told = {"experiment_id": "", "run_id": "", **read_json(path)} if path.is_file() else {}
    # without the last part the UI of MLflow 3 opens in its mode for chat applications
    way = "?workflowType=machine_learning"
    return f"#/experiments/{told['experiment_id']}/runs/{told['run_id']}{way}" if told else ""


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename: a reader never sees half a file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from the run's folder.

    Raises:
        RunError: missing, or no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} holds {type(values).__name__}, expected a JSON object")
    return values


def read_told(folder: RunFolder, name: str) -> str:
    """What leakage.json (by how much the split leaks) or data_report.json (what verify found) tells; "" without it."""
    path = folder.file(name)
    return str(read_json(path).get("told", "")) if path.is_file() else ""


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line and flush it to the disk; half a line, which a crash has left, gives way."""
    line = json.dumps(values).encode() + b"\n"
    with path.open("a+b") as stream:
        stream.seek(0)
        before, _, last = stream.read().rpartition(b"\n")
        whole = _is_json(last)
        size = stream.truncate(len(before) + bool(before) + (len(last) if whole else 0))
        try:
            stream.write(b"\n" * whole + line)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(size)
            raise


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSON-lines file; a half-written last line (a crash) is left out.

    Raises:
        RunError: the file is missing, or a line before the last is no JSON.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {path}: {one_line(error)}") from error
    for position, line in enumerate(lines):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            if position < len(lines) - 1:
                raise RunError(f"{path}, line {position + 1}: not JSON") from error
