"""One process of one arm, watched from outside: its evaluations as they are written down, timed by one clock.

Both arms run as a user starts them, and both are read from a file that grows: the plain twin's printed lines, our run
folder's metrics.jsonl.  What this process does meanwhile is look at that file fifty times a second.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.interleaved import ROOT
from benchmarks.time_to_quality.arms import Division, compose_arm
from benchmarks.time_to_quality.records import PLAIN, Evaluation, RunRecord
from cxr_experiments.errors import RunError
from cxr_experiments.record.provenance import collect_provenance
from cxr_experiments.record.run_folder import read_json, read_json_lines

LOOK_EVERY_S = 0.02
TOLD = re.compile(r"epoch=(\d+) val_loss=(\S+) val_accuracy=(\S+) elapsed_s=(\S+)")


@dataclass(frozen=True)
class Planned:
    """One run to be made.

    Attributes:
        arm, seed: which.
        size_px: side of the images.
        overrides: what stands behind `cxr_experiments.train`; empty for the plain twin.
        epochs: of the plain twin, at most.
        division: its images.
        synthetic: whether they are phantoms.
    """

    arm: str
    seed: int
    size_px: int
    overrides: tuple[str, ...]
    epochs: int
    division: Division
    synthetic: bool


@dataclass(frozen=True)
class Line:
    """A whole line of a growing file, and when it was first seen."""

    text: str
    since_start_s: float


@dataclass(frozen=True)
class Watched:
    """What a process left: its timed lines, when it started by the wall clock, and how it ended."""

    lines: tuple[Line, ...]
    started_at: float
    wall_s: float
    cpu_s: float
    others_share: float
    failure: str


def run(planned: Planned, home: Path) -> RunRecord:
    """Make one run and give its record.

    Raises:
        RunError: it failed before its first evaluation, or trained on other images than its twin.
    """
    scratch = home / "runs" / f".time_to_quality-{planned.arm}-{planned.size_px}px-{planned.seed}"
    scratch.mkdir(parents=True, exist_ok=True)
    watched, evaluations = (_plain if planned.arm == PLAIN else _ours)(planned, home, scratch)
    if not evaluations:
        why = watched.failure or "it ended without an evaluation"
        raise RunError(f"{planned.arm}, seed {planned.seed}: {why}; all that it said: {scratch / 'stderr.txt'}")
    limit = planned.epochs if planned.arm == PLAIN else compose_arm(planned.overrides).training.epochs
    here = collect_provenance()
    return RunRecord(
        arm=planned.arm,
        seed=planned.seed,
        size_px=planned.size_px,
        epoch_limit=limit,
        command=_told_command(planned),
        ended=watched.failure or ("epoch limit" if len(evaluations) == limit else "early stopping"),
        num_train=planned.division.num_train,
        num_val=planned.division.num_val,
        split_digest=planned.division.digest,
        synthetic=planned.synthetic,
        commit=here.commit,
        dirty=here.dirty,
        processor=here.processor,
        num_cores=here.num_cores,
        versions=", ".join(f"{name} {here.packages[name]}" for name in ("tensorflow", "keras", "numpy")),
        wall_s=round(watched.wall_s, 2),
        cpu_s=round(watched.cpu_s, 2),
        others_share=round(watched.others_share, 4),
        evaluations=evaluations,
    )


def _told_command(planned: Planned) -> str:
    if planned.arm == PLAIN:
        return f"python benchmarks/plain_keras.py FOLDER {planned.size_px} {planned.epochs} {planned.seed}"
    shown = [word for word in planned.overrides if not word.startswith("data.root=")]
    return " ".join(["python -m cxr_experiments.train", *shown])


def _plain(planned: Planned, home: Path, scratch: Path) -> tuple[Watched, tuple[Evaluation, ...]]:
    script = str(ROOT / "benchmarks" / "plain_keras.py")
    words = [script, str(planned.division.folder), str(planned.size_px), str(planned.epochs), str(planned.seed)]
    watched = watch(words, home, scratch, lambda: scratch / "stdout.txt")
    evaluations = []
    for line in watched.lines:
        if told := TOLD.match(line.text):
            epoch, loss, accuracy, elapsed_s = told.groups()
            since_start_s = round(line.since_start_s, 2)
            evaluations.append(Evaluation(int(epoch), float(loss), float(accuracy), since_start_s, float(elapsed_s)))
    return watched, tuple(evaluations)


def _ours(planned: Planned, home: Path, scratch: Path) -> tuple[Watched, tuple[Evaluation, ...]]:
    name = scratch.name.removeprefix(".")
    folders = home / "runs" / (f"phantom-{name}" if planned.synthetic else name)
    shutil.rmtree(folders, ignore_errors=True)  # of an attempt that was interrupted: a finished run is only named again
    words = ["-m", "cxr_experiments.train", *planned.overrides, f"experiment_name={name}"]
    watched = watch(words, home, scratch, lambda: next(folders.glob("*/metrics.jsonl"), None))
    folder = next((path.parent for path in folders.glob("*/identity.json")), None)
    if folder is None:
        return watched, ()
    if read_json(folder / "identity.json")["split_digest"] != planned.division.digest:
        raise RunError(f"{planned.arm}, seed {planned.seed} trained on another division than its twin: see {folder}")
    # the folder is claimed when all is imported, and then batches and model are made
    imports_s = float(next(read_json_lines(folder / "events.jsonl"))["time_s"]) - watched.started_at
    told = [(json.loads(line.text), line.since_start_s) for line in watched.lines]
    return watched, tuple(
        Evaluation(one["epoch"], one["val_loss"], one["val_accuracy"], round(at_s, 2), round(at_s - imports_s, 2))
        for one, at_s in told
    )


def watch(words: Sequence[str], home: Path, scratch: Path, growing: Callable[[], Path | None]) -> Watched:
    """Run a fresh interpreter; each line of the file that `growing` names is stamped when it appears."""
    env = {**os.environ, "CXR_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}
    busy_before, children_before = _busy_s(), _children_s()
    with (scratch / "stdout.txt").open("w") as out, (scratch / "stderr.txt").open("w") as err:
        started_at, began = time.time(), time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=env, stdout=out, stderr=err)
        try:
            lines = _follow(process, growing, began)
        finally:
            process.terminate()  # does nothing to one that has ended
            process.wait()
    wall_s, cpu_s = time.perf_counter() - began, _children_s() - children_before
    others_s = max(0.0, _busy_s() - busy_before - cpu_s)
    failure = ""
    if process.returncode:
        said = (scratch / "stderr.txt").read_text(errors="replace").strip().splitlines()
        failure = f"failed: {(said or [f'status {process.returncode}'])[-1][:300]}"
    return Watched(lines, started_at, wall_s, cpu_s, others_s / (wall_s * (os.cpu_count() or 1)), failure)


def _follow(process: subprocess.Popen[bytes], growing: Callable[[], Path | None], began: float) -> tuple[Line, ...]:
    lines: list[Line] = []
    path, position = None, 0
    while True:
        over = process.poll() is not None  # asked before the last look, so that no line is lost
        path = path or growing()
        if path is not None and path.is_file() and path.stat().st_size > position:
            with path.open("rb") as stream:
                stream.seek(position)
                text = stream.read()
            whole = text[: text.rfind(b"\n") + 1]  # a line half written is read with the next look
            position += len(whole)
            now_s = time.perf_counter() - began
            lines += [Line(one, now_s) for one in whole.decode(errors="replace").splitlines()]
        if over:
            return tuple(lines)
        time.sleep(LOOK_EVERY_S)


def _busy_s() -> float:
    """Processor seconds spent on this machine by whomever, since it was started."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
