"""A run's folder is claimed once, tells its state whatever happened, and survives broken files with our own error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cxr_experiments.config.identity import Identity, identify
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import RunError
from cxr_experiments.record.attempt import own_attempt, started
from cxr_experiments.record.run_folder import (
    FAILED,
    FINISHED,
    RunFolder,
    all_runs,
    append_json_line,
    claim,
    find_run,
    finished,
    is_at_work,
    read_json,
    read_json_lines,
    read_state,
    record_event,
    write_json,
)

pytestmark = pytest.mark.fault

IDENTITY = identify(ExperimentConfig(), "d" * 64, "s" * 64)


def other(number: int) -> Identity:
    return identify(ExperimentConfig(), "d" * 64, "s" * 64, replicate=number)


def test_claimed_run_is_running_and_cannot_be_claimed_again(tmp_path: Path) -> None:
    folder = claim(tmp_path, "exp", IDENTITY)
    assert folder.path == tmp_path / "exp" / IDENTITY.run_id
    assert is_at_work(folder)
    with pytest.raises(RunError, match=f"is being trained by process {os.getpid()}"):
        claim(tmp_path, "exp", IDENTITY)
    assert json.loads(folder.file("identity.json").read_text())["dataset_digest"] == "d" * 64


def test_attempt_of_a_dead_process_is_taken_up_again(tmp_path: Path) -> None:
    folder = claim(tmp_path, "exp", IDENTITY)
    folder.file("note.txt").write_text("kept")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    who = replace(own_attempt(), pid=gone.pid, started=started(gone.pid))
    gone.wait()
    event = {"time_s": 0.0, "status": "RUNNING", "reason": "", **asdict(who)}
    append_json_line(folder.file("events.jsonl"), event)
    again = claim(tmp_path, "exp", IDENTITY)
    assert again == folder
    assert again.file("note.txt").read_text() == "kept"
    assert (read_state(again).attempt, read_state(again).reason) == (own_attempt(), "taken up again after RUNNING")
    assert all_runs(tmp_path) == [again]


def test_finished_run_is_found_by_identity(tmp_path: Path) -> None:
    folder = claim(tmp_path, "exp", IDENTITY)
    assert finished(tmp_path, "exp", IDENTITY) is None
    record_event(folder, FINISHED)
    assert finished(tmp_path, "exp", IDENTITY) == folder
    assert finished(tmp_path, "exp", other(1)) is None
    events = folder.file("events.jsonl").read_text()
    with pytest.raises(RunError, match=f"run {IDENTITY.run_id} was finished meanwhile"):
        claim(tmp_path, "exp", IDENTITY)
    assert folder.file("events.jsonl").read_text() == events


def test_eight_processes_that_want_one_run_share_it_out_to_one(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom cxr_experiments.config.identity import identify\n"
        "from cxr_experiments.config.schema import ExperimentConfig\nfrom cxr_experiments.errors import RunError\n"
        "from cxr_experiments.record.run_folder import claim\n"
        "identity = identify(ExperimentConfig(), 'd' * 64, 's' * 64)\n"
        "try:\n    claim(Path(sys.argv[1]), 'exp', identity)\n    print('mine', flush=True)\n    time.sleep(6)\n"
        "except RunError as error:\n    print('not mine', error)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    answers = [process.communicate(timeout=60)[0] for process in started]
    assert sum(answer.startswith("mine") for answer in answers) == 1, answers
    assert [path.name for path in (tmp_path / "exp").iterdir()] == [IDENTITY.run_id], "no draft is left behind"


def test_runs_are_found_by_id_and_by_its_first_digits(tmp_path: Path) -> None:
    folders = [claim(tmp_path, "exp", other(number)) for number in range(3)]
    assert find_run(tmp_path, folders[1].run_id) == folders[1]
    assert find_run(tmp_path, folders[2].run_id[:6]) == folders[2]
    with pytest.raises(RunError, match="there are:"):
        find_run(tmp_path, "ffffffffffff")
    with pytest.raises(RunError, match="no run"):
        find_run(tmp_path, folders[0].run_id[:3])


def test_runs_are_listed_oldest_first(tmp_path: Path) -> None:
    folders = [claim(tmp_path, "exp", other(number)) for number in range(4)]
    record_event(folders[0], FAILED, "late news do not change the order")
    assert all_runs(tmp_path) == folders


@pytest.mark.parametrize("text", ["", "[]", "{", '{"status": 3}\n', "null\n", "\x00"])
def test_state_that_cannot_be_read_is_our_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "events.jsonl").write_text(text)
    with pytest.raises(RunError):
        read_state(RunFolder(tmp_path))


def test_half_written_last_line_is_left_out_and_a_broken_earlier_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    assert list(read_json_lines(path)) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\noops\n{"a": 3}\n')
    with pytest.raises(RunError, match=r"lines.jsonl, line 2: not JSON"):
        list(read_json_lines(path))


def test_json_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(RunError, match="expected a JSON object"):
        read_json(tmp_path / "b.json")
    with pytest.raises(RunError, match="cannot read"):
        read_json(tmp_path / "absent.json")
