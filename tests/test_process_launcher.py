"""Jobs in processes of their own: one may die in any way and costs itself alone; none outlives its launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import SMALL, Command

from cxr_experiments.config import processes
from cxr_experiments.config.processes import Child, ending, run_all
from cxr_experiments.config.sweep import JobEnd, failures_told, labels
from cxr_experiments.record.run_folder import FINISHED, KILLED, RUNNING, RunFolder, all_runs, read_state

pytestmark = pytest.mark.fault

# What a job does, without the training: it reads its line, leaves its pid, and waits.
WAITS = """\
import os, sys, time
from pathlib import Path
from cxr_experiments.config import processes

processes.GRACE_S = 0.5
folder = Path(processes.follow_parent().strip())
(folder / f"{os.getpid()}.pid").touch()
time.sleep(600)
"""
IGNORES_SIGTERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def child(script: str, request: str = "", prefix: str = "") -> Child:
    return Child((sys.executable, "-c", script), request, prefix)


def pids_in(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.pid")]


def wait_for(truth: Callable[[], object], *, at_most_s: float = 120) -> None:
    deadline = time.monotonic() + at_most_s
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-signal.SIGKILL, "its process was killed by SIGKILL (out of memory?)"),
        (-signal.SIGSEGV, "its process was killed by SIGSEGV (a crash in compiled code)"),
        (-signal.SIGABRT, "its process was killed by SIGABRT (a crash in compiled code)"),
        (-signal.SIGHUP, "its process was killed by SIGHUP"),
        (-40, "its process was killed by signal 40"),
        (143, "its process was stopped by SIGTERM"),
        (130, "its process was stopped by SIGINT"),
        (0, "its process ended with status 0 and without a result"),
    ],
)
def test_end_without_a_word_is_put_into_words(status: int, words: str) -> None:
    assert ending(status) == words


def test_failed_jobs_are_called_by_what_sets_them_apart() -> None:
    jobs = [JobEnd(n, ("depth=deep", f"seed={n}"), "", "" if n else "r", "" if n != 1 else "why") for n in range(3)]
    assert failures_told(jobs).splitlines() == [
        "1 of 3 jobs failed, the others went on; the same command runs what is missing",
        "  FAILED seed=1: why",
    ]
    assert labels(jobs[:1]) == ["depth=deep seed=0"]
    assert labels([JobEnd(4, (), "", "", "")]) == ["job 4"]


def test_children_run_so_many_at_once_and_their_lines_and_statuses_come_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = (
        "import time; print('begins', time.monotonic(), flush=True); time.sleep(0.4); print('ends', time.monotonic())"
    )
    dies = "import os, sys; sys.stderr.write('half a line'); sys.stderr.flush(); os.kill(os.getpid(), 9)"
    ends: dict[int, int] = {}
    run_all(
        [*(child(told, prefix=f"[{place}] ") for place in range(3)), child(dies, prefix="[3] ")],
        num_at_once=2,
        ended=ends.__setitem__,
    )
    said = capsys.readouterr()
    assert ends == {0: 0, 1: 0, 2: 0, 3: -signal.SIGKILL}
    assert said.err == "[3] half a line\n"
    moments = sorted((float(line.split()[2]), line.split()[1]) for line in said.out.splitlines())
    running = [sum(1 if what == "begins" else -1 for _, what in moments[:end]) for end in range(len(moments) + 1)]
    assert max(running) == 2


@pytest.mark.parametrize("first", ["", IGNORES_SIGTERM])
def test_no_child_is_left_when_the_launcher_is_interrupted(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.5)
    waits_for_two = (
        f"import time; from pathlib import Path\nwhile len(list(Path({str(tmp_path)!r}).glob('*.pid'))) < 2:"
    )
    children = [child(first + WAITS, str(tmp_path)) for _ in range(2)] + [child(f"{waits_for_two} time.sleep(0.02)")]

    def interrupt(place: int, status: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(children, num_at_once=3, ended=interrupt)
    assert len(pids_in(tmp_path)) == 2
    assert not any(map(is_alive, pids_in(tmp_path)))


@pytest.mark.parametrize("first", ["", IGNORES_SIGTERM])
def test_no_child_outlives_a_launcher_that_was_killed(first: str, tmp_path: Path) -> None:
    launches = (
        "import sys\nfrom cxr_experiments.config.processes import Child, run_all\n"
        "script, folder = sys.argv[1:]\n"
        "children = [Child((sys.executable, '-c', script), folder, '') for _ in range(2)]\n"
        "run_all(children, num_at_once=2, ended=print)\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", launches, first + WAITS, str(tmp_path)])
    wait_for(lambda: len(pids_in(tmp_path)) == 2)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not any(map(is_alive, pids_in(tmp_path))), at_most_s=15)
    assert len(pids_in(tmp_path)) == 2, "none was started later"


def test_module_of_a_cell_is_no_command(tmp_path: Path, command: Command) -> None:
    said = command("study.cell", "seed=1", home=tmp_path)
    assert (said.status, said.out) == (2, "")
    assert (
        said.err == "cell: this module runs a job of a sweep, and only hydra/launcher=process and its like start it\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hydra/launcher=proces",), "hydra/launcher=proces: no such option; did you mean process?"),
        (
            ("hydra/launcher=process", "hydra.launcher.n_jobs=0"),
            "hydra.launcher.n_jobs=0: expected 1 or more jobs at once",
        ),
    ],
)
def test_wrong_launcher_is_one_line(words: tuple[str, ...], message: str, tmp_path: Path, command: Command) -> None:
    said = command("train", "-m", *words, "seed=0,1", home=tmp_path)
    assert (said.status, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1


def begun(home: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep in processes, two at once, under way: at least one of its runs has an epoch behind it."""
    command = [sys.executable, "-m", "cxr_experiments.train", "-m", "hydra/launcher=process", "hydra.launcher.n_jobs=2"]
    sweep = subprocess.Popen(
        [*command, *words],
        env={**os.environ, "CXR_HOME": str(home)},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts the tests in the background has Ctrl-C ignored in all of them
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: sweep.poll() is not None or list(home.glob("runs/*/*/metrics.jsonl")))
    assert sweep.poll() is None, sweep.communicate()[1]
    return sweep


def runs_of(home: Path, status: str) -> list[RunFolder]:
    return [folder for folder in all_runs(home / "runs") if read_state(folder).status == status]


def finished_in_mlflow(home: Path) -> int:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    known = [one.experiment_id for one in client.search_experiments()]
    wanted = "attributes.status = 'FINISHED' and tags.`cxr.run_id` != ''"
    return len(client.search_runs(known, wanted))


@pytest.mark.long
def test_killed_job_costs_itself_alone_and_is_all_that_is_trained_again(tmp_path: Path, command: Command) -> None:
    words = ("seed=0,1,2", *SMALL)
    sweep = begun(tmp_path, *words)
    victim = next(one for one in runs_of(tmp_path, RUNNING) if one.file("metrics.jsonl").is_file())
    os.kill(read_state(victim).attempt.pid, signal.SIGKILL)
    out, err = sweep.communicate(timeout=240)
    assert sweep.returncode == 2, err
    why = "its process was killed by SIGKILL (out of memory?)"
    head, named = err.splitlines()[-2:]
    assert head == "train: 1 of 3 jobs failed, the others went on; the same command runs what is missing"
    assert named.startswith("  FAILED seed=")
    assert named.endswith(why)
    assert named.strip() in err.splitlines(), "it was told when it happened, too"
    assert "1 of 3 jobs failed and are left out" in out
    assert "Traceback" not in err
    assert len(runs_of(tmp_path, FINISHED)) == 2
    assert runs_of(tmp_path, RUNNING) == [victim]
    assert finished_in_mlflow(tmp_path) == 2
    label = named.removeprefix("  FAILED ").removesuffix(f": {why}")
    assert any(line.startswith(f"[{label}] training ") for line in out.splitlines())

    before = {one.path: one.file("metrics.jsonl").stat().st_mtime_ns for one in runs_of(tmp_path, FINISHED)}
    again = command("train", "-m", "hydra/launcher=process", *words, home=tmp_path)
    assert again.status == 0, again.err
    assert again.out.count("finished before") == 2
    assert not any(line.startswith("[") for line in again.out.splitlines()), "one job at a time needs no label"
    assert len(runs_of(tmp_path, FINISHED)) == 3
    assert {path: RunFolder(path).file("metrics.jsonl").stat().st_mtime_ns for path in before} == before
    assert finished_in_mlflow(tmp_path) == 3


@pytest.mark.long
def test_crash_in_compiled_code_costs_its_job_alone(tmp_path: Path, command: Command) -> None:
    good, aborts = tmp_path / "good.py", tmp_path / "aborts.py"
    good.write_text(
        "import keras\n\n\n"
        "def build(inputs, seed):\n"
        "    return keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))\n"
    )
    aborts.write_text("import os\n\n\ndef build(inputs, seed):\n    os.abort()\n")
    small = [word for word in SMALL if not word.startswith("depth")]
    builders = ",".join(f"{path}:build" for path in (aborts, good))
    words = ("-m", "hydra/launcher=process", "model=custom", f"model.builder={builders}", "tracking=disabled", *small)
    said = command("train", *words, home=tmp_path)
    assert said.status == 2
    last = said.err.splitlines()[-1]
    assert "aborts.py:build" in last
    assert last.endswith("its process was killed by SIGABRT (a crash in compiled code)")
    assert len(runs_of(tmp_path, FINISHED)) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_stopped_sweep_leaves_no_process(kind: signal.Signals, status: int, tmp_path: Path) -> None:
    lasting = ("training.epochs=500", "training.patience=0", "tracking=disabled")
    sweep = begun(tmp_path, "seed=0,1,2", *SMALL[:3], *lasting)
    jobs = psutil.Process(sweep.pid).children()
    assert len(jobs) == 2
    under_way = [one for one in runs_of(tmp_path, RUNNING) if one.file("metrics.jsonl").is_file()]
    sweep.send_signal(kind)
    wait_for(lambda: not any(is_alive(job.pid) for job in jobs), at_most_s=15)
    err = sweep.communicate(timeout=30)[1]
    assert sweep.returncode == status, err
    assert "Traceback" not in err
    assert {read_state(one).status for one in under_way} == {KILLED}
    assert {read_state(one).reason for one in under_way} == {"SIGTERM"}
