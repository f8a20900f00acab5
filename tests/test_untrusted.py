"""A run folder from a stranger: nothing in it is executed, nothing leaves it, nobody is told; and no secret is kept."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import fuzz_runs
import numpy as np
import pytest
from conftest import SMALL, Command
from PIL import Image
from test_fuzz import assert_survived, attack

from cxr_experiments.config.command_line import check_sweep
from cxr_experiments.config.commands import EvaluateConfig, PredictConfig
from cxr_experiments.config.compose import load_config, write_config
from cxr_experiments.config.schema import ExperimentConfig, ModelConfig, TrackingConfig
from cxr_experiments.errors import ConfigError, RunError, TrackingError, one_line
from cxr_experiments.evaluate.__main__ import evaluate_runs
from cxr_experiments.learning.trainer import load_model
from cxr_experiments.learning.trainer.states import write_state
from cxr_experiments.predict.__main__ import predict_images
from cxr_experiments.record import tracking
from cxr_experiments.record.attempt import machine
from cxr_experiments.record.mending import mend
from cxr_experiments.record.results import read_threshold
from cxr_experiments.record.run_folder import RunFolder, all_runs, read_json, read_json_lines
from cxr_experiments.record.syncing import sync
from cxr_experiments.record.tracking.known import remember
from cxr_experiments.runs import model_and_example

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]
# Nothing may keep any of these.
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "s3cret-user",
    "MLFLOW_TRACKING_PASSWORD": "s3cret-password",
    "MLFLOW_TRACKING_TOKEN": "s3cret-token",
    "AWS_ACCESS_KEY_ID": "s3cret-aws-id",
    "AWS_SECRET_ACCESS_KEY": "s3cret-aws-key",
    "KAGGLE_KEY": "s3cret-kaggle",
    "CXR_ANY_OTHER": "s3cret-other",
}


@dataclass(frozen=True)
class Trained:
    """A home with one finished run, made with secrets in the environment, and what was said."""

    home: Path
    run: RunFolder
    said: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Trained:
    home = tmp_path_factory.mktemp("home")
    said = command("train", *SMALL, "experiment_name=handed_on", home=home, **SECRETS)
    assert said.status == 0, said.err
    (run,) = all_runs(home / "runs")
    return Trained(home, run, said.out + said.err)


@pytest.fixture
def foreign(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The run in the home of someone else, to whom it was handed on."""
    home = tmp_path / "home"
    shutil.copytree(trained.home / "runs", home / "runs")
    monkeypatch.setenv("CXR_HOME", str(home))
    return RunFolder(home / "runs" / trained.run.experiment_name / trained.run.run_id)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def film(folder: Path) -> str:
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8)).save(folder / "film.png")
    return str(folder / "film.png")


def test_no_secret_of_the_environment_is_kept_or_shown(trained: Trained) -> None:
    kept = files_of(trained.home)
    assert {"provenance.json", "config.yaml", "card.json"} <= {Path(name).name for name in kept}
    assert "mlruns/mlflow.db" in kept
    for name, content in [*kept.items(), ("what was said", trained.said.encode())]:
        found = [variable for variable, secret in SECRETS.items() if secret.encode() in content]
        assert not found, f"{name} holds {found}"
    assert b"PATH" not in kept[str(trained.run.file("provenance.json").relative_to(trained.home))]


@pytest.mark.parametrize("more", [(), ("-m", "seed=0,1"), ("seed=[",)])
def test_password_on_the_command_line_is_refused_and_not_repeated(
    more: tuple[str, ...], tmp_path: Path, command: Command
) -> None:
    typed = "tracking.uri=http://me:s3cret@127.0.0.1:9"
    said = command("train", *more, "tracking=server", typed, home=tmp_path)
    assert said.status == 2
    assert len(said.err.splitlines()) == 1
    assert "s3cret" not in said.out + said.err
    assert not any(b"s3cret" in content for content in files_of(tmp_path).values())
    assert ("MLFLOW_TRACKING_PASSWORD" in said.err) == (more != ("seed=[",))


def test_password_in_any_override_of_a_sweep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["-m", "mirror=https://me:s3cret@host/x", "data=kaggle,pneumoniamnist"]
    monkeypatch.setattr("sys.argv", ["download.py", *words])
    with pytest.raises(ConfigError, match="belong into MLFLOW_TRACKING_USERNAME") as caught:
        check_sweep("download", ExperimentConfig)
    assert "s3cret" not in str(caught.value)


def test_model_predicts_where_pickle_is_forbidden(
    foreign: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    predict_images(PredictConfig(run=foreign.run_id, images=(film(tmp_path),), json=True))
    assert 0 <= json.loads(capsys.readouterr().out)["probability"] <= 1


def test_builder_and_references_in_a_foreign_config_stay_text(
    foreign: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "evil.py"
    own.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'executed')!r}).touch()\n\ndef build(x, y): ...\n")
    monkeypatch.setenv("CXR_ANY_OTHER", SECRETS["CXR_ANY_OTHER"])
    config = load_config(foreign.file("config.yaml"))
    choices = {**config.choices, "model": "custom", "depth": "${oc.env:CXR_ANY_OTHER}"}
    changed = replace(
        config,
        model=ModelConfig(f"{own}:build"),
        choices=choices,
        tags={"note": "${oc.env:CXR_ANY_OTHER}", "_target_": "os.system"},
    )
    write_config(foreign.file("config.yaml"), changed)
    assert load_config(foreign.file("config.yaml")).tags["note"] == "${oc.env:CXR_ANY_OTHER}"
    predict_images(PredictConfig(run=foreign.run_id, images=(film(tmp_path),)))
    evaluate_runs(EvaluateConfig(run=foreign.run_id, tracking=TrackingConfig("disabled")))
    said = capsys.readouterr()
    assert SECRETS["CXR_ANY_OTHER"] not in said.out + said.err
    assert not any(SECRETS["CXR_ANY_OTHER"].encode() in content for content in files_of(foreign.path).values())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: {_target_: os.system, command: touch executed}", "data._target_: no such key"),
        ("data: {}\nexperiment_name: ../../outside", "expected a plain folder name"),
        ("data: !!python/object/apply:os.system [touch executed]", "could not determine a constructor"),
        ("!!binary aGk=", "it holds no keys with values"),
        ("data: &a [1]\nseeds: [*a, *a]", "holds a reference"),
        ("data: {}\nseed: " + "9" * 5000, "cannot read the config"),
        ("data: {root: '\x1b[31m', image_size_px: 'a\n\nb'}", "unacceptable character"),
        ("data: {}\noptimizer: {learning_rate: " + "1" + "0" * 400 + "}", "optimizer.learning_rate="),
        ("data: {}\nchoices: {a: " + "x" * (1 << 20) + "}", "larger than 1 MiB"),
    ],
)
def test_foreign_config_is_refused_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
    assert list(tmp_path.iterdir()) == [path]


def test_threshold_that_names_another_folder_is_refused(foreign: RunFolder) -> None:
    for rule, target in (("../../../x", 0.5), ("youden", "../x"), (["a"], 0.5), ("youden", True * 7)):
        told = {"value": 0.5, "rule": rule, "target": target, "num_images": 11}
        foreign.file("threshold.json").write_text(json.dumps(told))
        with pytest.raises(RunError, match="is not a frozen threshold"):
            read_threshold(foreign)


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights on Windows")
@pytest.mark.parametrize("name", ["events.jsonl", "config.yaml", "figures", "figures/test_roc.png", "tta-3"])
def test_link_out_of_a_run_folder_is_refused_before_anything_is_written(
    name: str, foreign: RunFolder, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    inside = foreign.file(name)
    if inside.is_dir() or inside.exists():
        shutil.move(inside, outside)
    else:
        outside.write_text("mine")
    inside.symlink_to(outside)
    before = files_of(outside) if outside.is_dir() else outside.read_bytes()
    config = EvaluateConfig(run=foreign.run_id, tracking=TrackingConfig("disabled"))
    with pytest.raises(RunError, match=f"{inside} is a symbolic link"):
        evaluate_runs(config)
    assert (files_of(outside) if outside.is_dir() else outside.read_bytes()) == before
    assert any("is a symbolic link" in line for line in mend(foreign.path.parents[2]))


class Listener(http.server.BaseHTTPRequestHandler):
    """A server that remembers who called."""

    called: list[str]

    def do_GET(self) -> None:
        self.called.append(self.path)
        self.send_error(500)

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


def test_server_that_only_a_foreign_config_names_is_told_nothing(
    foreign: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    Listener.called = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri, home = f"http://127.0.0.1:{server.server_port}", foreign.path.parents[2]
        elsewhere = TrackingConfig("server", uri)
        config, twin = load_config(foreign.file("config.yaml")), read_json(foreign.file("mlflow.json"))
        untold = {name: value for name, value in twin.items() if name != "uri"}
        for told_to, where in (
            (TrackingConfig(), {"uri": uri}),  # as after `runs sync tracking=server`
            (TrackingConfig("local", uri), {}),
            (TrackingConfig("local", f"sqlite:///{home}/x.db"), {}),
            (elsewhere, {}),
        ):
            write_config(foreign.file("config.yaml"), replace(config, tracking=told_to))
            foreign.file("mlflow.json").write_text(json.dumps(untold | where))
            with pytest.raises(TrackingError, match="which no command here has named and reached, so nothing was sent"):
                evaluate_runs(EvaluateConfig(run=foreign.run_id))
            (line,) = sync(home, model_and_example)
            assert "which no command here has named" in line
            assert Listener.called == []
            assert not (home / "x.db").exists()
        with pytest.raises(TrackingError, match=f"MLflow at {uri}"):  # named by the user, who may
            evaluate_runs(EvaluateConfig(run=foreign.run_id, tracking=elsewhere))
        assert Listener.called
        write_config(foreign.file("config.yaml"), replace(config, tracking=elsewhere))
        num_calls = len(Listener.called)
        assert "no command here" in next(sync(home, model_and_example)), "an error is no answer"
        assert len(Listener.called) == num_calls
        remember(elsewhere, home)  # as after an answer
        assert "no command here" not in next(sync(home, model_and_example))
        assert len(Listener.called) > num_calls
        server.shutdown()


def test_address_is_remembered_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    named = TrackingConfig("server", "http://me:s3cret@127.0.0.1:9")
    with pytest.raises(TrackingError):
        tracking.open_place(named, tmp_path, "x")
    assert not tracking.has_answered(named, tmp_path), "it may be mistyped"
    remember(named, tmp_path)
    assert tracking.has_answered(named, tmp_path)
    assert (tmp_path / "mlruns" / "servers.txt").read_text() == "http://127.0.0.1:9\n"
    assert tracking.named_before(TrackingConfig("server", "http://127.0.0.1:9"), tmp_path).uri


def test_run_in_mlflow_that_is_another_one_is_left_alone(trained: Trained, tmp_path: Path) -> None:
    home = shutil.copytree(trained.home, tmp_path / "home")
    (run,) = all_runs(home / "runs")
    other = shutil.copytree(run.path, run.path.with_name("0" * 12)) / "mlflow.json"
    with pytest.raises(TrackingError, match=r"its run [0-9a-f]{32} is not that of"):
        tracking.find_place(TrackingConfig(), home, other)
    assert tracking.find_place(TrackingConfig(), home, run.file("mlflow.json"))[1]


@pytest.mark.parametrize(
    "event",
    [
        '{"status": "RUNNING", "reason": "", "pid": 1e400, "started": "0", "host": "h", "machine": "HERE"}',
        '{"status": "RUNNING", "reason": "", "pid": ' + "9" * 40 + ', "started": "0", "host": "h", "machine": "HERE"}',
        '{"status": "RUNNING", "reason": "", "pid": -1, "started": "0", "host": "h", "machine": "HERE"}',
        "[" * 100_000,
        "[1]",
        "null",
    ],
)
def test_odd_events_are_one_of_our_errors_or_a_state(event: str, foreign: RunFolder) -> None:
    event = event.replace("HERE", machine())
    foreign.file("events.jsonl").write_text(f"{event}\n{event}\n")
    (line,) = mend(foreign.path.parents[2])
    assert "does not tell the run's state" in line or "not JSON" in line or "its process is gone" in line
    assert line.isprintable()


@pytest.fixture(scope="module")
def to_break(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's files with a state of its training beside them, as it stood after its second epoch."""
    folder = shutil.copytree(trained.run.path, tmp_path_factory.mktemp("to_break"), dirs_exist_ok=True)
    speed = ("epoch", "duration_s", "images_per_s")
    lines = list(read_json_lines(folder / "metrics.jsonl"))
    history = [
        {
            "metrics": {key: value for key, value in line.items() if key not in speed},
            **{key: line[key] for key in speed},
        }
        for line in lines
    ]
    weights = load_model(folder / "model.keras").get_weights()
    write_state(folder, {"history": history, "kept_epoch": 1, "patience": [0.5, 0.5, 0]}, weights, weights)
    return folder


def survives(numbers: range, folder: Path) -> Counter[tuple[str, str]]:
    outcomes = attack(numbers, "fuzz_runs.py", str(folder))
    assert_survived(outcomes, fuzz_runs.name_of)
    return Counter((fuzz_runs.kind_of(one.number), one.told[:7]) for one in outcomes)


def test_twenty_broken_files_of_each_kind_are_read_or_refused(to_break: Path) -> None:
    told = survives(range(20 * len(fuzz_runs.KINDS)), to_break)
    assert sum(told.values()) == 120
    assert sum(count for (_, outcome), count in told.items() if outcome == "decoded") >= 5, told


@pytest.mark.long
def test_two_hundred_broken_files_of_each_kind_are_read_or_refused(to_break: Path) -> None:
    told = survives(range(1_000, 1_000 + 200 * len(fuzz_runs.KINDS)), to_break)
    print(told)
    assert min(sum(told[kind, what] for what in ("decoded", "refused")) for kind in fuzz_runs.KINDS) == 200


def test_text_of_anyone_is_shown_as_one_line() -> None:
    assert one_line("a\nb\t\x1b[31mred\x00\u202e") == "a b \\x1b[31mred\\x00\\u202e"
    assert one_line("x" * 1000) == "x" * 300 + "..."
