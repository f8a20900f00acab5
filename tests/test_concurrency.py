"""Many processes at once on an empty project, and a project that is moved: every run is told and found."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from conftest import SMALL, Command, Sweep

from cxr_experiments.record.run_folder import FINISHED, RUNNING, all_runs, read_json_lines, read_state

ROOT = Path(__file__).resolve().parents[1]


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.train", *SMALL, *words],
        env={**os.environ, "CXR_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(home: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "mlruns" / "mlflow.db")) as database:
        return database.execute(query).fetchall()


@pytest.mark.long
@pytest.mark.fault
def test_eight_processes_on_an_empty_project_all_finish(tmp_path: Path) -> None:
    """No database, no store; six want runs of their own, two want the same one."""
    seeds = [0, 0, 1, 2, 3, 4, 5, 6]
    processes = [start(tmp_path, f"seed={seed}") for seed in seeds]
    said = [process.communicate(timeout=500) for process in processes]
    statuses = [process.returncode for process in processes]
    assert statuses[2:] == [0] * 6, said
    runs = all_runs(tmp_path / "runs")
    assert Counter(read_state(run).status for run in runs) == {FINISHED: 7}
    told = "\n".join(said[0] + said[1])
    assert sorted(statuses[:2]) == [0, 2] or "finished before" in told, told
    assert any(words in told for words in ("is being trained by process", "finished before", "finished meanwhile"))
    starts = [
        event for run in runs for event in read_json_lines(run.file("events.jsonl")) if event["status"] == RUNNING
    ]
    assert len(starts) == 7, "nothing was trained twice"
    assert not [line for _, err in said for line in err.splitlines() if line.startswith("warning")]
    assert rows(tmp_path, "select count(*) from runs where status = 'FINISHED'") == [(7,)]
    assert rows(tmp_path, "select count(*) from metrics where key = 'val_loss'") == [(14,)]
    assert len([path for path in (tmp_path / "runs" / ".stores").iterdir() if path.is_dir()]) == 1


def test_project_that_is_moved_finds_its_artifacts(sweep: Sweep, tmp_path: Path, command: Command) -> None:
    first = shutil.copytree(sweep.home, tmp_path / "before the move")
    moved = first.rename(tmp_path / "after it")
    run = next(one for one in all_runs(moved / "runs") if read_state(one).status == FINISHED)
    said = command("evaluate", f"run={run.run_id}", home=moved)
    assert said.status == 0, said.err
    assert "warning" not in said.err
    for query in (
        "select artifact_location from experiments where name != 'Default'",
        "select artifact_uri from runs",
        "select artifact_location from logged_models",
    ):
        places = [Path(unquote(urlparse(str(place)).path)) for (place,) in rows(moved, query)]
        assert places
        for place in places:
            assert place.is_relative_to(moved), query
    kept = rows(moved, "select artifact_uri from runs join tags using (run_uuid) where tags.key = 'cxr.run_id'")
    files = [Path(unquote(urlparse(str(place)).path)) / "config.yaml" for (place,) in kept]
    assert sum(file.is_file() for file in files) == len(files)
    evaluated = [path for path in (moved / "mlruns").rglob("predictions_test.csv")]
    assert evaluated, "what is told after the move lies beside the rest"


def test_ui_of_a_moved_project_shows_its_artifacts(sweep: Sweep, tmp_path: Path) -> None:
    """By the line of the Makefile's own recipe that goes before the server."""
    moved = Path(shutil.copytree(sweep.home, tmp_path / "moved"))
    words = ["make", "-n", "-o", "install", "ui", f"CXR_HOME={moved}"]
    recipe = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = (one for one in recipe.splitlines() if "follow_move" in one)
    subprocess.run([sys.executable, *shlex.split(line)[1:]], cwd=ROOT, check=True)
    places = rows(moved, "select artifact_uri from runs")
    assert places
    for (place,) in places:
        assert Path(unquote(urlparse(str(place)).path)).is_relative_to(moved)
