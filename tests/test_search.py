"""The search command: a book that many processes share, trials that are runs, and a winner that promises no more."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import Command, Said
from hydra import compose, initialize_config_dir

from cxr_experiments.config.compose import CONF_DIR, read_config
from cxr_experiments.config.identity import identify
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.search_space import read_space
from cxr_experiments.config.search_spec import SearchConfig, SearchSpec
from cxr_experiments.errors import ConfigError, RunError
from cxr_experiments.record.places import Places
from cxr_experiments.record.run_folder import FINISHED, KILLED, RunFolder, all_runs, read_json_lines, read_state
from cxr_experiments.search import __main__ as search_command
from cxr_experiments.search.plan import Plan, make_plan

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'cxr-experiments[search]'")

from cxr_experiments.search import book as books
from cxr_experiments.search.book import Book, finish_trial, open_book, rows_of, take_trial, tell_epoch

assert search_command  # importing a command registers its schema

SPACE = {"optimizer.learning_rate": "tag(log, interval(0.0001, 0.1))", "pooling": "gap,flatten,gmp"}


def plan_of(trials: int = 6, **more: object) -> Plan:
    """A plan that needs no image; Optuna's part sees its space, its options and its folder alone."""
    config = SearchConfig(name="mine", trials=trials, **{"startup_trials": 2, "min_epochs": 1, **more})  # type: ignore[arg-type]
    base = ExperimentConfig()
    return Plan(
        "mine", config, SearchSpec((), SPACE), read_space(SPACE), base, identify(base, "d", "s"), True, Places()
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    return tmp_path


def loss_at(params: dict[str, object]) -> float:
    return float(str(params["optimizer.learning_rate"])) + len(str(params["pooling"]))


def drawn_with(plan: Plan, *, abandoned_at: int | None = None) -> list[dict[str, object]]:
    """What the trials draw when the book is opened anew for each, as by processes that come and go."""
    found = []
    for number in range(plan.config.trials):
        book = open_book(plan)
        if number == abandoned_at:
            abandon(book)
        trial = take_trial(book)
        assert trial is not None
        found.append(dict(trial.params))
        finish_trial(book, trial, books.FINISHED, loss=loss_at(trial.params))
    assert take_trial(open_book(plan)) is None
    return found


def abandon(book: Book) -> dict[str, object]:
    """Take a trial as a process that is gone by now."""
    trial = take_trial(book)
    assert trial is not None
    trial.set_user_attr("attempt", {**trial.user_attrs["attempt"], "pid": 2**22, "started": "1"})
    return dict(trial.params)


def test_draws_depend_on_seed_and_results_alone_not_on_processes_and_deaths(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    undisturbed = drawn_with(plan_of())
    assert len({str(params) for params in undisturbed}) == 6
    for number, more in enumerate(({}, {"sampler_seed": 1})):
        monkeypatch.setenv("CXR_HOME", str(tmp_path_factory.mktemp(f"home{number}")))
        again = drawn_with(plan_of(**more), abandoned_at=3)
        assert (again == undisturbed) == (not more)


def test_abandoned_trial_is_handed_out_again_and_fails_the_third_time(home: Path) -> None:
    book = open_book(plan_of(trials=1))
    first = abandon(book)
    assert abandon(book) == first
    assert abandon(book) == first
    assert take_trial(book) is None
    (row,) = rows_of(book)
    assert (row.state, row.params) == (books.FAILED, first)


def test_trial_at_work_is_left_alone_and_no_more_are_handed_out(home: Path) -> None:
    book = open_book(plan_of(trials=2))
    taken = [take_trial(book), take_trial(book)]
    assert all(taken)
    assert take_trial(open_book(plan_of(trials=2))) is None
    assert take_trial(open_book(plan_of(trials=3))) is not None, "a later command may ask for more"


@pytest.mark.parametrize(("silent_s", "is_taken"), [(60.0, False), (600.0, True)])
def test_trial_of_another_machine_is_taken_after_three_minutes_of_silence(
    home: Path, silent_s: float, is_taken: bool
) -> None:
    book = open_book(plan_of(trials=1))
    trial = take_trial(book)
    assert trial is not None
    told = {**trial.user_attrs["attempt"], "machine": "elsewhere", "sign": "elsewhere-1-1.alive"}
    trial.set_user_attr("attempt", told)
    book.signs.mkdir()
    sign = book.signs / told["sign"]
    sign.touch()
    os.utime(sign, (time.time() - silent_s,) * 2)
    assert (take_trial(open_book(plan_of(trials=1))) is not None) == is_taken


TAKES = """\
import sys
sys.path.insert(0, {tests!r})
import test_search
from cxr_experiments.search.book import finish_trial, open_book, take_trial, FINISHED
book = open_book(test_search.plan_of(trials=12))
print("ready", flush=True)
sys.stdin.readline()
while (trial := take_trial(book)) is not None:
    finish_trial(book, trial, FINISHED, loss=test_search.loss_at(trial.params))
    print(trial.number, flush=True)
"""


def test_two_processes_take_each_trial_once_and_none_too_many(home: Path) -> None:
    program = TAKES.format(tests=str(Path(__file__).parent))
    pipe = subprocess.PIPE
    workers = [subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for worker in workers:  # both have their imports behind them
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    taken = [int(number) for worker in workers for number in worker.communicate(timeout=300)[0].split()]
    assert sorted(taken) == list(range(12))
    assert all(row.state == books.FINISHED for row in rows_of(open_book(plan_of(trials=12))))


def test_half_line_of_a_killed_writer_gives_way(home: Path) -> None:
    book = open_book(plan_of())
    journal = book.plan.folder / "journal.jsonl"
    whole = journal.read_text()
    with journal.open("a") as stream:
        stream.write('{"op_code": 4, "wor')
    assert take_trial(open_book(plan_of())) is not None
    assert journal.read_text().startswith(whole)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_broken_journal_is_one_line(home: Path) -> None:
    journal = open_book(plan_of()).plan.folder / "journal.jsonl"
    journal.write_text("[]\n" + journal.read_text())
    with pytest.raises(RunError, match="is not a readable journal of a search"):
        open_book(plan_of())


def test_process_that_lost_its_trial_stops(home: Path) -> None:
    book = open_book(plan_of())
    trial = take_trial(book)
    assert trial is not None
    trial.set_user_attr("attempt", {**trial.user_attrs["attempt"], "pid": 2**22, "started": "1"})
    assert take_trial(open_book(plan_of())) is not None
    with pytest.raises(RunError, match="trial 0 was handed on"):
        tell_epoch(trial, 0.5, 1)
    with pytest.raises(RunError, match="trial 0 was handed on"):
        finish_trial(book, trial, books.FINISHED, loss=0.5)


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruner_gives_up_what_is_far_behind_and_not_before_min_epochs(home: Path, pruner: str) -> None:
    book = open_book(plan_of(trials=8, pruner=pruner, min_epochs=3))
    pruned_after = set()
    for number in range(8):
        trial = take_trial(book)
        assert trial is not None
        for trained in range(1, 13):
            tell_epoch(trial, 0.1 * number + 1 / trained, trained)
            if trial.should_prune():
                pruned_after.add(trained)
                finish_trial(book, trial, books.PRUNED, reason="behind")
                break
        else:
            finish_trial(book, trial, books.FINISHED, loss=0.1 * number)
    assert min(pruned_after) >= 3


@pytest.fixture(scope="module")
def composing() -> Iterator[None]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give search=NAME .there are: demo.*, or name=NAME"),
        ("model=gap,flatten", "trials=20: the space has 2 settings; -m of train runs them all"),
        ("model=flaten,gap", "model=flaten: no such option; did you mean flatten"),
        ("training.epochs=99999,2", "training.epochs=99999: expected 1 to 10000 epochs"),
        ("data=kaggle,phantom", "data=kaggle cannot be searched over: trials are judged on the same validation"),
        ("training.label_smoothing=0.1,0", "the pruner cannot compare trials: pruner=none"),
        ("data.num_patients=x model=gap,flatten", "search.baseline: data.num_patients=x: Value 'x'"),
    ],
)
def test_search_that_cannot_be_run_is_refused_before_an_image_is_read(
    words: str, message: str, home: Path, composing: None
) -> None:
    named = ["name=mine"] if words else []
    config = read_config(compose("search", named, return_hydra_config=True), SearchConfig)
    with pytest.raises(ConfigError, match=message):
        make_plan(SearchConfig(name=config.name, overrides=tuple(words.split()), choices=config.choices))
    assert not list(home.iterdir())


# A run of seconds: 60 phantom patients at 32 px, a net of two layers.
TINY = (
    *("name=tiny", "data.num_patients=60", "data.image_size_px=32", "data.difficulty=0", "augmentation=none"),
    *("depth.filters=[8,16]", "depth.convolutions=[1,1]", "pooling.dense_units=8"),
    *("training.epochs=4", "training.batch_size=16", "training.patience=0"),
    *("optimizer.learning_rate=tag(log, interval(0.00001, 0.1))", "pooling=gap,flatten"),
    *("trials=6", "startup_trials=2", "min_epochs=1"),
)


@dataclass(frozen=True)
class Done:
    """A home in which the tiny search ran undisturbed, and what it said."""

    home: Path
    said: Said

    @property
    def folder(self) -> Path:
        search_id = self.said.out.partition("(")[2].partition(")")[0]
        return self.home / "runs" / ".searches" / "tiny" / search_id


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def settings(folder: Path) -> list[tuple[str, ...]]:
    """What became of each trial, without its number: one that was handed out again has a later one."""
    told = ("state", "run_id", "epochs", "value", "low", "high", "setting", "reason")
    return [tuple(row[name] for name in told) for row in table(folder)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Done:
    home = tmp_path_factory.mktemp("search")
    return Done(home, command("search", *TINY, home=home))


def begin(home: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.search", *TINY, *more],
        cwd=home,
        env={**os.environ, "CXR_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def num_epochs(home: Path, num_runs: int) -> int:
    """Epochs of the last run once so many are there, else 0."""
    runs = sorted((home / "runs").glob("phantom-tiny/*/metrics.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    return len(runs[-1].read_text().splitlines()) if len(runs) >= num_runs else 0


def wait_for(home: Path, num_runs: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    while num_epochs(home, num_runs) < 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.long
def test_search_ends_in_trials_that_are_runs_and_a_winner_with_its_interval(done: Done, command: Command) -> None:
    from mlflow import MlflowClient

    assert done.said.status == 0, done.said.err
    assert done.said.err == ""
    rows = table(done.folder)
    assert [row["trial"] for row in rows] == list("012345")
    states = {row["run_id"]: row["state"] for row in rows}
    assert {"finished", "pruned"} == set(states.values())
    client = MlflowClient(f"sqlite:///{done.home}/mlruns/mlflow.db")
    for run in all_runs(done.home / "runs"):
        state, pruned = read_state(run), states[run.run_id] == "pruned"
        assert state.status == (KILLED if pruned else FINISHED)
        assert state.reason.startswith("PRUNED: val_loss ") == pruned
        twin = client.get_run(json.loads(run.file("mlflow.json").read_text())["run_id"])
        assert (twin.info.status, twin.data.tags["search"]) == (state.status, "tiny")
    best = min((row for row in rows if row["value"]), key=lambda row: float(row["value"]))
    num_settings = len({row["run_id"] for row in rows if row["state"] == "finished"})
    told = (
        f"winner: trial {best['trial']}, run {best['run_id']}, best val_log_loss of {num_settings} settings that were"
    )
    assert f"SYNTHETIC {told} trained to their end (6 trials): {best['setting']}" in done.said.out
    interval = f"{float(best['value']):.4f}  [{float(best['low']):.4f}, {float(best['high']):.4f}]"
    assert re.search(rf"SYNTHETIC val_log_loss +{re.escape(interval)}", done.said.out)
    assert "SYNTHETIC val_auroc" in done.said.out
    assert "is optimistic" in done.said.out
    assert not list(done.home.rglob("predictions_test.csv"))
    assert not list(done.home.rglob("test_ledger.jsonl"))
    (line,) = [line for line in done.said.out.splitlines() if line.startswith("  python -m cxr_experiments.study")]
    _, _, name, *words = shlex.split(line)
    confirming = command(
        name.removeprefix("cxr_experiments."), *words, "study.margin=0.4", "--cfg", "job", home=done.home
    )
    assert confirming.status == 0, confirming.err
    assert best["setting"].split()[0] in confirming.out


@pytest.mark.long
def test_same_command_trains_nothing_and_other_searches_take_what_is_finished(done: Done, command: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done.home / "runs" / "phantom-tiny").rglob("*.*")}
    again = command("search", *TINY, home=done.home)
    assert again.status == 0
    assert "6 done" in again.out.splitlines()[0]
    assert again.out.splitlines()[1:] == [
        line for line in done.said.out.splitlines()[1:] if not re.search("(finished|pruned) +trial", line)
    ]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = command("search", *TINY, "objective=val_auroc", "trials=2", home=done.home)
    assert other.status == 0, other.err
    assert "of this name is another one: objective differ" in other.out
    assert "best val_auroc of 2 settings" in other.out
    finished = {path: at for path, at in before.items() if path.name == "scores.csv"}
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(all_runs(done.home / "runs")) == len({row["run_id"] for row in table(done.folder)})


@pytest.mark.long
def test_setting_that_cannot_be_built_costs_its_trial_alone(home: Path, composing: None) -> None:
    from cxr_experiments.search.trial import run_trial

    space = {"pooling": "gap,flatten", "resolution": "full,progressive"}
    plan = replace(plan_of(), spec=SearchSpec((), space), space=read_space(space))
    book = open_book(plan)
    book.study.enqueue_trial({"pooling": "flatten", "resolution": "progressive"})
    trial = take_trial(book)
    assert trial is not None
    outcome = run_trial(plan, trial)
    assert (outcome.state, outcome.loss) == (books.FAILED, None)
    assert "resolution=progressive is not possible with pooling=flatten" in outcome.reason
    finish_trial(book, trial, outcome.state, reason=outcome.reason)
    (row,) = rows_of(book)
    assert (row.state, row.reason) == (books.FAILED, outcome.reason)


@pytest.mark.long
def test_run_that_somebody_else_trains_is_waited_for(done: Done, tmp_path: Path, command: Command) -> None:
    first = table(done.folder)[0]
    fixed = [word for word in TINY if word.partition("=")[0].partition(".")[0] in ("data", "depth", "training")]
    words = [*fixed, "augmentation=none", "pooling.dense_units=8", *first["setting"].split(), "experiment_name=tiny"]
    training = subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.train", *words],
        cwd=tmp_path,
        env={**os.environ, "CXR_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    wait_for(tmp_path, 1, training)
    said = command("search", *TINY, "trials=1", home=tmp_path, timeout_s=600)
    assert (said.status, training.wait(timeout=300)) == (0, 0), said.err
    (folder,) = all_runs(tmp_path / "runs")
    assert [event["status"] for event in read_json_lines(folder.file("events.jsonl"))] == ["RUNNING", FINISHED]
    (row,) = table(next((tmp_path / "runs" / ".searches" / "tiny").iterdir()))
    assert row == first


@pytest.mark.long
def test_pruned_run_can_be_taken_up_by_train(done: Done, command: Command) -> None:
    pruned = next(row for row in table(done.folder) if row["state"] == "pruned")
    fixed = [word for word in TINY if word.partition("=")[0].partition(".")[0] in ("data", "depth", "training")]
    words = [*fixed, "augmentation=none", "pooling.dense_units=8", *pruned["setting"].split(), "experiment_name=tiny"]
    folder = RunFolder(done.home / "runs" / "phantom-tiny" / pruned["run_id"])
    said = command("train", *words, home=done.home)
    assert said.status == 0, said.err
    assert read_state(folder).status == FINISHED
    events = [event["reason"] for event in read_json_lines(folder.file("events.jsonl"))]
    assert events[-2] == "taken up again after KILLED"


@pytest.mark.long
def test_search_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(done: Done, tmp_path: Path) -> None:
    """Ctrl-C in one trial, SIGKILL in another; the third start ends bit for bit as the undisturbed search."""
    stopped = begin(tmp_path)
    wait_for(tmp_path, 1, stopped)
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=600)
    assert stopped.returncode == 130, err
    assert "tiny: stopped with 0 of 6 trials done; the same command goes on" in out
    assert err.splitlines()[-1] == "search: interrupted"
    killed = begin(tmp_path)
    wait_for(tmp_path, 2, killed)
    killed.kill()
    killed.communicate(timeout=600)
    last = begin(tmp_path)
    out, err = last.communicate(timeout=600)
    assert last.returncode == 0, err
    assert settings(Done(tmp_path, done.said).folder) == settings(done.folder)
    told = [
        line.partition(", run ")[2] for line in (*out.splitlines(), *done.said.out.splitlines()) if "winner:" in line
    ]
    assert told[0] == told[1]
    for row in table(done.folder):
        ours, theirs = (home / "runs" / "phantom-tiny" / row["run_id"] for home in (tmp_path, done.home))
        if row["state"] == "finished":
            assert (ours / "predictions_val.csv").read_bytes() == (theirs / "predictions_val.csv").read_bytes()


@pytest.mark.long
def test_two_workers_share_the_trials_and_one_that_dies_leaves_none_behind(tmp_path: Path) -> None:
    first, second = begin(tmp_path), begin(tmp_path)
    wait_for(tmp_path, 2, first)
    first.kill()
    first.communicate(timeout=600)
    third = begin(tmp_path)
    told = [worker.communicate(timeout=900) for worker in (second, third)]
    assert [worker.returncode for worker in (second, third)] == [0, 0], told
    rows = table(next((tmp_path / "runs" / ".searches" / "tiny").iterdir()))
    assert len(rows) == 6
    assert {row["state"] for row in rows} <= {"finished", "pruned"}
    winners = {line for out, _ in told for line in out.splitlines() if "winner:" in line}
    assert len(winners) == 1
    starts = [event for run in all_runs(tmp_path / "runs") for event in read_json_lines(run.file("events.jsonl"))]
    num_finished = sum(event["status"] == FINISHED for event in starts)
    assert num_finished == len({row["run_id"] for row in rows if row["state"] == "finished"}), "each was trained once"
