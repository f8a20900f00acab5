"""A disk that is full or read-only, memory that is refused, images that go, a clock that is set back: one line each,
nothing damaged, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Command
from PIL import Image
from test_resume import NUM_EPOCHS, WORDS, require_equal, the_run, undisturbed
from test_store import plant

from cxr_experiments.record.run_folder import FAILED, FINISHED, all_runs, read_json_lines, read_state

pytestmark = pytest.mark.fault
__all__ = ["undisturbed"]

# In a mount namespace of its own, so that no right of the administrator's is needed and nothing stays mounted.  The
# disk is filled to the last byte as soon as the run's folder has $WATCH; then it is freed, and the command runs again.
ON_A_DISK_THAT_FILLS = """
mount -t tmpfs -o size=$SIZE tmpfs "$CXR_HOME" || exit 99
( while [ "$WATCH" ]; do
    if ls "$CXR_HOME"/runs/*/*/$WATCH > /dev/null 2>&1; then cat /dev/zero > "$CXR_HOME/filler" 2> /dev/null; exit; fi
    sleep 0.005
  done ) & filler=$!
"$@" 2> "$OUT/err.1"; echo $? > "$OUT/status.1"
kill $filler 2> /dev/null; wait; rm -f "$CXR_HOME/filler"
cp -r "$CXR_HOME" "$OUT/home.1"
mount -o remount,size=400m "$CXR_HOME"
"$@" 2> "$OUT/err.2"; echo $? > "$OUT/status.2"
cp -r "$CXR_HOME" "$OUT/home.2"
"""
ON_A_DISK_THAT_CANNOT_BE_WRITTEN = """
mount -t tmpfs -o size=1m,ro tmpfs "$CXR_HOME" || exit 99
"$@" 2> "$OUT/err.1"; echo $? > "$OUT/status.1"
"""


@dataclass(frozen=True)
class Done:
    """What a command left: in its first try, and in its second."""

    out: Path

    def status(self, time: int) -> int:
        return int((self.out / f"status.{time}").read_text())

    def err(self, time: int) -> str:
        return (self.out / f"err.{time}").read_text()

    def home(self, time: int) -> Path:
        return self.out / f"home.{time}"


def in_own_mounts(script: str, out: Path, *, size: str = "20m", watch: str = "") -> Done:
    """Run the training under a script that mounts CXR_HOME."""
    home = out / "home"
    home.mkdir()
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system gives out no mount namespaces")
    told = {"CXR_HOME": str(home), "OUT": str(out), "SIZE": size, "WATCH": watch, "MLFLOW_DISABLE_TELEMETRY": "true"}
    train = [sys.executable, "-m", "cxr_experiments.train", *WORDS]
    shell = ["unshare", "-rm", "sh", "-c", script, "sh", *train]
    subprocess.run(shell, env={**os.environ, **told}, cwd=out, stdout=subprocess.DEVNULL, check=True)
    return Done(out)


def one_line(error: str) -> str:
    """The line that says what failed: the last one, and no traceback before it."""
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("train: ")]
    return line


def require_full_disk_told(done: Done) -> None:
    line = one_line(done.err(1))
    assert "No space left on device" in line or "database or disk is full" in line
    assert {read_state(run).status for run in all_runs(done.home(1) / "runs")} <= {FAILED}


def test_disk_that_fills_up_is_told_and_the_same_command_goes_on(tmp_path: Path) -> None:
    done = in_own_mounts(ON_A_DISK_THAT_FILLS, tmp_path, watch="states/epoch-00005.state")
    assert (done.status(1), done.status(2)) == (2, 0), done.err(1) + done.err(2)
    require_full_disk_told(done)
    (run,) = all_runs(done.home(2) / "runs")
    assert read_state(run).status == FINISHED
    assert [line["epoch"] for line in read_json_lines(run.file("metrics.jsonl"))] == list(range(NUM_EPOCHS))


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "watch"),
    [
        *((size, "") for size in ("100k", "700k", "1500k", "3500k", "5500k")),
        *(("20m", name) for name in ("config.yaml", "metrics.jsonl", "states/epoch-00005.state")),
        *(("20m", name) for name in ("predictions_train.csv", "stress.csv", "model.keras", "scores.csv", "figures")),
    ],
)
def test_disk_that_fills_up_at_any_write(size: str, watch: str, undisturbed: Path, tmp_path: Path) -> None:
    done = in_own_mounts(ON_A_DISK_THAT_FILLS, tmp_path, size=size, watch=watch)
    assert (done.status(1), done.status(2)) == (2, 0), done.err(1) + done.err(2)
    require_full_disk_told(done)
    require_equal(done.home(2), undisturbed)


def test_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = in_own_mounts(ON_A_DISK_THAT_CANNOT_BE_WRITTEN, tmp_path)
    assert done.status(1) == 2, done.err(1)
    line = one_line(done.err(1))
    assert "Read-only file system" in line
    assert "CXR_HOME" in line


@pytest.mark.long
def test_memory_that_is_refused_fails_the_run_in_one_line(tmp_path: Path, command: Command) -> None:
    """TensorFlow's own refusal: a layer of 64 TiB."""
    (tmp_path / "huge.py").write_text(
        "import keras\n\n\n"
        "def build(inputs, seed):\n"
        "    return keras.layers.Dense(2**34)(keras.layers.Flatten()(inputs))\n"
    )
    said = command("train", "model=custom", "model.builder=huge.py:build", *WORDS[:2], home=tmp_path)
    assert said.status == 2, said.err
    assert "out of memory" in one_line(said.err)
    (run,) = all_runs(tmp_path / "runs")
    assert read_state(run).status == FAILED
    assert "out of memory" in read_state(run).reason


@pytest.mark.long
def test_images_that_go_during_training_change_nothing(tmp_path: Path, command: Command) -> None:
    """A run reads its images from the store; a film that is removed or changed meanwhile is seen by the next run."""
    plant(tmp_path / "films", num_images=40)
    words = ("data=folder", f"data.root={tmp_path / 'films'}", *WORDS[1:])
    assert command("train", *words, home=tmp_path).status == 0
    again = begun_on(tmp_path, *words, "rerun=true")
    wait_for_epochs(tmp_path, again, count=9)
    (tmp_path / "films" / "NORMAL" / "00.png").unlink()
    Image.new("L", (50, 50)).save(tmp_path / "films" / "NORMAL" / "02.png")
    error = again.communicate(timeout=120)[1]
    assert again.returncode == 0, error
    first, second = all_runs(tmp_path / "runs")
    assert first.file("scores.csv").read_text() == second.file("scores.csv").read_text()
    third = command("train", *words, home=tmp_path)
    assert third.status == 0, third.err
    assert len(all_runs(tmp_path / "runs")) == 3, "other images, another run"


def begun_on(home: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.train", *words],
        env={**os.environ, "CXR_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_epochs(home: Path, process: subprocess.Popen[str], *, count: int) -> None:
    """Until so many epochs, of all runs together, are told."""
    deadline = time.monotonic() + 120
    while sum(len(list(read_json_lines(path))) for path in home.glob("runs/*/*/metrics.jsonl")) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.long
def test_clock_that_is_set_back_an_hour_changes_nothing(undisturbed: Path, tmp_path: Path, command: Command) -> None:
    """In the first start after two epochs; that start is killed, and for the next one it is earlier from the start."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(
        "import os, time\nbefore = time.time\n"
        "time.time = lambda: before() - 3600 * os.path.exists(os.environ['CXR_HOME'] + '/set_back')\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    path = os.pathsep.join([str(tmp_path / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])])
    first = begun_on(home, *WORDS, PYTHONPATH=path)
    wait_for_epochs(home, first, count=2)
    (home / "set_back").touch()
    wait_for_epochs(home, first, count=4)
    first.kill()
    first.communicate(timeout=30)
    said = command("train", *WORDS, home=home, PYTHONPATH=path)
    assert said.status == 0, said.err
    require_equal(home, undisturbed)
    times = [event["time_s"] for event in read_json_lines(the_run(home).file("events.jsonl"))]
    assert times[1] < times[0], "the clock did go back"
    assert "finished before" in command("train", *WORDS, home=home, PYTHONPATH=path).out
