"""Whether a process is still at work on a run: by its pid here, by its signs of life elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from cxr_experiments.config.identity import identify
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import RunError
from cxr_experiments.record import attempt
from cxr_experiments.record.attempt import SILENT_S, own_attempt, signs_of_life, silence_s, started
from cxr_experiments.record.mending import mend
from cxr_experiments.record.run_folder import (
    KILLED,
    RUNNING,
    RunFolder,
    append_json_line,
    claim,
    is_at_work,
    read_state,
    require_own,
)

pytestmark = pytest.mark.fault

IDENTITY = identify(ExperimentConfig(), "d" * 64, "s" * 64)


def taken_elsewhere(folder: RunFolder) -> None:
    """The last event is that of a process on another machine, with the pid of this one."""
    who = replace(own_attempt(), machine="another boot/4026531836", host="node17")
    append_json_line(folder.file("events.jsonl"), {"time_s": 0.0, "status": RUNNING, "reason": "", **asdict(who)})


def silent_for(folder: RunFolder, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder.sign_of_life, (then, then))


def test_run_on_another_machine_is_left_alone_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    folder = claim(tmp_path / "runs", "exp", IDENTITY)
    taken_elsewhere(folder)
    silent_for(folder, 60)
    with pytest.raises(RunError, match=rf"process {os.getpid()} on node17 \(last sign of life (60|61) s ago\)"):
        claim(tmp_path / "runs", "exp", IDENTITY)
    assert list(mend(tmp_path)) == []
    silent_for(folder, SILENT_S + 5)
    assert not is_at_work(folder)
    assert claim(tmp_path / "runs", "exp", IDENTITY) == folder
    assert read_state(folder).attempt == own_attempt()
    assert silence_s(folder.sign_of_life) < 5


def test_run_on_another_machine_that_is_silent_is_mended(tmp_path: Path) -> None:
    folder = claim(tmp_path / "runs", "exp", IDENTITY)
    taken_elsewhere(folder)
    folder.sign_of_life.unlink()
    (line,) = mend(tmp_path)
    assert "was RUNNING" in line
    assert read_state(folder).status == KILLED


def test_host_that_gets_another_name_keeps_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = claim(tmp_path, "exp", IDENTITY)
    monkeypatch.setattr(attempt.platform, "node", lambda: "renamed")
    require_own(folder)
    assert is_at_work(folder)


def test_process_that_slept_too_long_has_lost_its_run(tmp_path: Path) -> None:
    folder = claim(tmp_path, "exp", IDENTITY)
    require_own(folder)
    taken_elsewhere(folder)
    with pytest.raises(RunError, match=r"was taken up by process \d+ on node17 .* this one stops"):
        require_own(folder)


def test_signs_are_given_again_and_again_and_end_with_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "BEAT_S", 0.05)
    sign = tmp_path / ".alive"
    with signs_of_life(sign):
        os.utime(sign, (0, 0))
        until = time.monotonic() + 10
        while silence_s(sign) > 1000 and time.monotonic() < until:
            time.sleep(0.05)
        assert silence_s(sign) < 10
    os.utime(sign, (0, 0))
    time.sleep(0.3)
    assert silence_s(sign) > 1000, "no sign after the work"
    assert silence_s(tmp_path / "absent") == float("inf")


def test_zombie_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    began = started(process.pid)
    until = time.monotonic() + 30
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(0.05)
    assert began
    assert started(process.pid) == "", "it has ended, though nobody has waited for it"
    process.wait()


def test_clock_that_is_set_back_does_not_take_a_run_from_its_process(tmp_path: Path) -> None:
    """psutil counts a process's start from the wall clock; here the start is read after the clock has moved."""
    folder = claim(tmp_path, "exp", IDENTITY)
    program = (
        "import sys, time, psutil\nfrom pathlib import Path\n"
        "before = time.time\ntime.time = lambda: before() - 7200\n"
        "boot = psutil.boot_time()\npsutil.boot_time = lambda: boot - 7200\n"
        "from cxr_experiments.record.run_folder import RunFolder, is_at_work\n"
        "print(is_at_work(RunFolder(Path(sys.argv[1]))))\n"
    )
    said = subprocess.run([sys.executable, "-c", program, str(folder.path)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "True"


def test_half_an_event_gives_way_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"a": 1}\n{"a"')
    append_json_line(path, {"a": 2})
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'
    path.write_text('{"a": 1}\n{"a": 2}')  # whole, though an editor has left out the end of the line
    append_json_line(path, {"a": 3})
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n{"a": 3}\n'
