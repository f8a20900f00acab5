"""Sweeps on Ray and submitit: one job may die, or its worker, or be preempted; none is lost, none outlives its sweep.

The engines are extras: what needs one is skipped where it is not installed.  Jobs on Slurm itself are not tried here.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import SMALL, Command
from hydra import compose, initialize_config_dir
from test_process_launcher import finished_in_mlflow, is_alive, runs_of, wait_for

from cxr_experiments.config.compose import CONF_DIR
from cxr_experiments.config.launcher import JobLauncher
from cxr_experiments.config.processes import Child
from cxr_experiments.config.submitit_launcher import SlurmOptions, slurm_parameters
from cxr_experiments.config.sweep import log_files
from cxr_experiments.config.worker import Errand, do_errand, lines_passed_on
from cxr_experiments.errors import ConfigError
from cxr_experiments.record.run_folder import FINISHED, KILLED, RUNNING, RunFolder, read_json_lines, read_state
from cxr_experiments.train import main
from hydra_plugins.cxr_process_launcher import ENGINES

assert main  # importing a command registers its schema

pytestmark = pytest.mark.fault

EXTRAS = {"ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}


def engine(name: str, *more: str) -> Any:
    """A case for the engine, skipped where it is not installed."""
    absent = importlib.util.find_spec("ray" if name == "ray" else "submitit") is None
    reason = f"the extra {EXTRAS[name]} is not installed: pip install 'cxr-experiments[{EXTRAS[name]}]'"
    return pytest.param((f"hydra/launcher={name}", *more), marks=pytest.mark.skipif(absent, reason=reason), id=name)


TWO_AT_ONCE = [engine("ray", "hydra.launcher.n_jobs=2"), engine("submitit_local", "hydra.launcher.array_parallelism=2")]


def launcher(name: str, *words: str) -> JobLauncher:
    """The launcher as Hydra makes it from the command line, not set up yet."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        words = (f"hydra/launcher={name}", *words)
        options = dict(compose("config", list(words), return_hydra_config=True).hydra.launcher)
    assert options.pop("_target_") == f"hydra_plugins.cxr_process_launcher.{ENGINES[name][0].__name__}"
    return ENGINES[name][0](**options)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_composes_and_says_which_extra_it_lacks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    monkeypatch.setattr("shutil.which", lambda program: program)
    with pytest.raises(ConfigError, match=rf"needs \w+, which is not installed: .*\[{EXTRAS[name]}\]'$"):
        launcher(name).check()
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: package)
    launcher(name).check()


@pytest.mark.parametrize(
    ("name", "word", "message"),
    [
        ("ray", "hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0: expected 1 to 100000 jobs"),
        ("ray", "hydra.launcher.num_gpus=one", "hydra.launcher.num_gpus=one: expected a number"),
        ("ray", "+hydra.launcher.num_cpu=2", "hydra.launcher.num_cpu: no such key; did you mean num_cpus?"),
        ("submitit_local", "hydra.launcher.timeout_min=0", "hydra.launcher.timeout_min=0: expected 1 to 525600 min"),
        ("submitit_slurm", "hydra.launcher.signal_delay_s=5", "hydra.launcher.signal_delay_s=5: expected 30 to 3600 s"),
    ],
)
def test_wrong_option_of_an_engine_is_told_before_anything_runs(name: str, word: str, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        launcher(name, word).check()
    assert str(told.value).startswith(message)


def test_missing_extra_is_one_line_and_nothing_is_trained(tmp_path: Path) -> None:
    script = (
        "import runpy, sys\n"
        "sys.modules['ray'] = None\n"
        "sys.argv = ['train', '-m', 'hydra/launcher=ray', 'seed=0,1']\n"
        "runpy.run_module('cxr_experiments.train', run_name='__main__', alter_sys=True)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CXR_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    message = "hydra/launcher=ray needs ray, which is not installed: pip install 'cxr-experiments[ray]'\n"
    assert (said.returncode, said.stdout, said.stderr) == (2, "", f"train: {message}")
    assert not list(tmp_path.glob("runs/*/*/config.yaml"))


def test_slurm_is_told_cores_requeue_and_one_place_per_key() -> None:
    told = slurm_parameters(SlurmOptions(partition="gpu", mem_gb=8.0, setup=("module load x",), cpus_per_task=3))
    assert told["cpus_per_task"] == 3
    assert told["slurm_srun_args"] == ["--cpus-per-task=3"]
    assert told["slurm_additional_parameters"] == {"requeue": True}
    assert (told["slurm_partition"], told["mem_gb"], told["slurm_setup"]) == ("gpu", 8.0, ["module load x"])
    assert "slurm_qos" not in told
    assert "max_num_timeout" not in told, "it is the executor's"


def test_errand_leaves_its_lines_and_its_end_and_the_launcher_passes_them_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = "import sys; print('a line'); print('an error', file=sys.stderr); sys.stdout.write('half'); sys.exit(3)"
    errand = Errand(str(tmp_path), 4, Child((sys.executable, "-c", says), "", "[seed=4] "))
    with lines_passed_on([errand, replace(errand, number=5)]):
        outcome = do_errand(errand)
    assert (outcome.end, outcome.status) == (None, 3)
    assert outcome.why == "its process ended with status 3 and without a result"
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[seed=4] a line\n[seed=4] half\n", "[seed=4] an error\n")
    assert log_files(tmp_path, 4)["stdout"].read_text() == "a line\nhalf\n"


@pytest.mark.parametrize("words", [engine("submitit_slurm")])
def test_jobs_that_sbatch_refuses_are_one_line(words: tuple[str, ...], tmp_path: Path, command: Command) -> None:
    for name, script in {
        "srun": "exit 1",
        "sbatch": "echo 'sbatch: error: invalid partition: fast' >&2; exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = command("train", "-m", *words, "hydra.launcher.partition=fast", "seed=0,1", home=tmp_path, PATH=path)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("train: the jobs were refused: ")
    assert "invalid partition: fast" in said.err
    assert said.err.count("\n") == 1
    (script,) = tmp_path.glob("runs/.sweeps/*/.submitit/.submission_file_*.sh")
    for line in ("--array=0-1%2", "--requeue", "--signal=USR2@120", "--partition=fast", "--time=240"):
        assert f"#SBATCH {line}\n" in script.read_text()


def steady(*words: str) -> tuple[str, ...]:
    """A sweep of two runs that last long enough to be caught in the middle."""
    return (*words, "seed=0,1", *SMALL[:3], "training.batch_size=16", "training.epochs=40", "training.patience=0")


def begun(home: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep under way: at least two of its runs have two epochs behind them."""
    sweep = subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.train", "-m", *words],
        env={**os.environ, "CXR_HOME": str(home)},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    )
    wait_for(lambda: sweep.poll() is not None or len(under_way(home)) == 2, at_most_s=300)
    assert sweep.poll() is None, sweep.communicate()[1]
    return sweep


def under_way(home: Path) -> list[RunFolder]:
    """The runs at work that have two epochs behind them."""
    runs = [one for one in runs_of(home, RUNNING) if one.file("metrics.jsonl").is_file()]
    return [one for one in runs if len(one.file("metrics.jsonl").read_text().splitlines()) >= 2]


def epochs_of(run: RunFolder) -> list[int]:
    return [line["epoch"] for line in read_json_lines(run.file("metrics.jsonl"))]


def statuses_of(run: RunFolder) -> list[str]:
    return [line["status"] for line in read_json_lines(run.file("events.jsonl"))]


def worker_of(run: RunFolder) -> psutil.Process:
    """The engine's own process, beside which the run's is."""
    parent = psutil.Process(read_state(run).attempt.pid).parent()
    assert parent is not None
    return parent


@pytest.mark.long
@pytest.mark.parametrize("words", TWO_AT_ONCE)
@pytest.mark.parametrize("victim", ["job", "worker"])
def test_killed_job_or_worker_costs_its_run_alone_and_the_same_command_finishes_it(
    words: tuple[str, ...], victim: str, tmp_path: Path, command: Command
) -> None:
    sweep = begun(tmp_path, *steady(*words))
    killed = under_way(tmp_path)[0]
    job = psutil.Process(read_state(killed).attempt.pid)
    (job if victim == "job" else worker_of(killed)).kill()
    _out, err = sweep.communicate(timeout=400)
    assert sweep.returncode == 2, err
    head, named = err.splitlines()[-2:]
    assert head == "train: 1 of 2 jobs failed, the others went on; the same command runs what is missing"
    reasons = {
        "job": "its process was killed by SIGKILL (out of memory?)",
        "worker": "its Ray worker is gone" if "ray" in words[0] else "ended without a result",
    }
    assert named.startswith("  FAILED seed=")
    assert reasons[victim] in named
    assert named.strip() in err.splitlines(), "it was told when it happened, too"
    assert "Traceback" not in err
    wait_for(lambda: not is_alive(job.pid), at_most_s=15)
    assert len(runs_of(tmp_path, FINISHED)) == 1
    assert finished_in_mlflow(tmp_path) == 1
    before = epochs_of(killed)
    assert 2 <= len(before) < 40

    again = command("train", "-m", *steady(*words), home=tmp_path)
    assert again.status == 0, again.err
    assert again.out.count("finished before") == 1
    assert len(runs_of(tmp_path, FINISHED)) == 2
    assert statuses_of(killed)[-2:] == [RUNNING, FINISHED]
    assert epochs_of(killed) == list(range(40)), "it went on behind its last epoch"
    assert finished_in_mlflow(tmp_path) == 2
    plain = command("train", "-m", *steady(), home=tmp_path)
    assert plain.status == 0, plain.err
    assert plain.out.count("finished before") == 2, "they are the runs that no launcher would have made otherwise"


@pytest.mark.long
@pytest.mark.parametrize("words", TWO_AT_ONCE[1:])
@pytest.mark.parametrize("signals", [(signal.SIGUSR2,), (signal.SIGTERM, signal.SIGUSR2)])
def test_preempted_job_is_marked_killed_queued_again_and_goes_on(
    words: tuple[str, ...], signals: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, *steady(*words))
    run = under_way(tmp_path)[0]
    worker = worker_of(run)
    assert "submitit.core._submit" in worker.cmdline()
    for one in signals:
        worker.send_signal(one)
        psutil.Process(read_state(run).attempt.pid).send_signal(one)  # Slurm tells every process of a job
    _out, err = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, err
    assert "Traceback" not in err
    assert statuses_of(run) == [RUNNING, KILLED, RUNNING, FINISHED]
    assert epochs_of(run) == list(range(40))
    assert len(runs_of(tmp_path, FINISHED)) == 2
    assert finished_in_mlflow(tmp_path) == 2


@pytest.mark.long
@pytest.mark.parametrize("words", TWO_AT_ONCE)
@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_sweep_marks_its_runs_and_leaves_no_process(
    words: tuple[str, ...], kind: signal.Signals, status: int, tmp_path: Path
) -> None:
    sweep = begun(tmp_path, *steady(*words), "tracking=disabled")
    runs = under_way(tmp_path)
    family = psutil.Process(sweep.pid).children(recursive=True)
    if kind == signal.SIGINT:
        os.killpg(sweep.pid, kind)  # as a terminal does: the engine's processes get it too
    else:
        sweep.send_signal(kind)
    err = sweep.communicate(timeout=60)[1]
    assert sweep.returncode == status, err
    assert "Traceback" not in err
    wait_for(lambda: not any(is_alive(one.pid) for one in family), at_most_s=15)
    assert {read_state(one).status for one in runs} == {KILLED}


@pytest.mark.long
@pytest.mark.parametrize("words", TWO_AT_ONCE[:1])
def test_cluster_of_this_machine_listens_to_it_alone_and_ends_with_a_killed_launcher(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, *steady(*words), "tracking=disabled")
    family = psutil.Process(sweep.pid).children(recursive=True)
    open_to = {one.laddr.ip for child in family for one in child.net_connections() if one.status == psutil.CONN_LISTEN}
    assert open_to <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert open_to
    jobs = [read_state(one).attempt.pid for one in under_way(tmp_path)]
    sweep.kill()
    sweep.communicate(timeout=60)
    wait_for(lambda: not any(map(is_alive, jobs)), at_most_s=30)
    wait_for(lambda: not any(is_alive(one.pid) for one in family), at_most_s=180)  # Ray's agents look about at leisure
