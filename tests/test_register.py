"""A registered network answers as its run does: by its name, over HTTP, on another machine; without a pickle."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import Command, Sweep
from numpy.typing import NDArray
from tracking_server import TrackingServer

from cxr_experiments.config.commands import PredictConfig, RegisterConfig
from cxr_experiments.config.schema import DataConfig, TrackingConfig
from cxr_experiments.errors import ConfigError, RunError, TrackingError
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.evaluation import Score
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.images.decode import encode_png
from cxr_experiments.images.manifest import load_pixels, read_manifest
from cxr_experiments.images.prepare import prepare_file
from cxr_experiments.predict.chosen import registered_network
from cxr_experiments.record import tracking
from cxr_experiments.record.registered import Answering, digest_of, keep_network, network_told, read_registered
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, find_run, read_state
from cxr_experiments.record.tracking.registry import MAX_DESCRIPTION, shortened
from cxr_experiments.register import refuse_names

TINY = (
    *("data=phantom", "data.num_patients=40", "data.image_size_px=16", "depth.filters=[8]", "depth.convolutions=[1]"),
    *("pooling.dense_units=16", "training.epochs=1", "training.batch_size=16", "training.patience=0"),
)


def folders_with_models(place: Path, *contents: bytes) -> tuple[RunFolder, ...]:
    """Run folders that hold nothing but a file in a model's place."""
    for number, content in enumerate(contents):
        folder = place / "runs" / "e" / f"{number:012x}"
        folder.mkdir(parents=True)
        (folder / "model.keras").write_bytes(content)
    return tuple(RunFolder(path) for path in sorted((place / "runs" / "e").iterdir()))


def brightness(path: Path) -> Any:
    """A network that is a file of one number: its logit is the mean of the image times that number."""
    factor = float(path.read_bytes())
    return lambda images: images.mean(axis=(1, 2, 3)) * factor


def kept(tmp_path: Path, *contents: bytes) -> tuple[Path, Answering]:
    members = folders_with_models(tmp_path, *contents)
    one = Answering("both", members, DataConfig(image_size_px=16), Threshold(0.75, "youden", 0.0, 9))
    keep_network(tmp_path / "network", one, network_told(one))
    return tmp_path / "network", one


def test_several_members_answer_with_the_mean_of_their_probabilities(tmp_path: Path) -> None:
    place, _ = kept(tmp_path, b"0.01", b"-0.02")
    network = read_registered(place, brightness)
    images = np.full((2, 16, 16, 1), [[[[100]]], [[[200]]]], np.uint8)
    expected = (sigmoid(np.array([1.0, 2.0])) + sigmoid(np.array([-2.0, -4.0]))) / 2
    assert sigmoid(network.predict(images)) == pytest.approx(expected)
    assert (network.size_px, network.resize, network.run_id, network.synthetic) == (16, "squash", "both", True)
    assert [network.label_of(one) for one in (0.7499, 0.75)] == ["NORMAL", "PNEUMONIA"]


def test_what_changes_an_answer_changes_the_digest(tmp_path: Path) -> None:
    _, one = kept(tmp_path, b"0.01", b"-0.02")
    told = network_told(one)
    assert digest_of(told) == digest_of(json.loads(json.dumps(told)))
    for key, value in (("threshold", 0.5), ("resize", "pad"), ("classes", ["PNEUMONIA", "NORMAL"])):
        assert digest_of({**told, key: value}) != digest_of(told)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"threshold": 1.5},
        {"threshold": "nan"},
        {"resize": "../pad"},
        {"classes": ["one"]},
        {"members": {}},
        {"members": {"../../000000000000": "0" * 64}},
        {"members": {"000000000000": "0" * 64}},
        {"members": ["000000000000"]},
        {"members": {"aaaaaaaaaaaa": hashlib.sha256(b"0.01").hexdigest()}},
    ],
    ids=str,
)
def test_folder_that_is_not_what_register_writes_is_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    place, one = kept(tmp_path, b"0.01")
    (place / "network.json").write_text(json.dumps({**network_told(one), **change}))
    with pytest.raises(RunError, match=r"not what `register` writes|missing, or not the network") as caught:
        read_registered(place, brightness)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        *((name, None) for name in (None, "a/b", "a:b", "", "a'b", "-a", "x" * 101)),
        *(("a", alias) for alias in ("latest", "v2", "7", "a b", "")),
    ],
)
def test_name_that_nothing_can_ask_for_is_refused(name: str | None, alias: str | None) -> None:
    with pytest.raises(ConfigError, match=r"name|alias"):
        refuse_names(RegisterConfig(run="aaaaaaaaaaaa", name=name, alias=alias))
    refuse_names(RegisterConfig(run="aaaaaaaaaaaa", name="chest.x-ray_2", alias="champion"))


def test_name_in_the_registry_is_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.parse_version("models:/a.b@champion") == tracking.Version("a.b", "champion", "")
    assert tracking.parse_version("models:/a/12") == tracking.Version("a", "", "12")
    for odd in ("models:/a", "models:/a/b", "models:/a/1/x", "models:a/1", "models:/a@b@c", "models:/m-0123/../x"):
        with pytest.raises(ConfigError, match="expected models:/NAME@ALIAS"):
            tracking.parse_version(odd)
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    with pytest.raises(TrackingError, match="there is no registry under"):
        registered_network(PredictConfig(run="models:/a/1", images=("film.png",)))
    with pytest.raises(ConfigError, match="neither heat maps nor engine=litert"):
        registered_network(PredictConfig(run="models:/a/1", images=("film.png",), engine="litert"))
    assert not list(tmp_path.iterdir()), "a question makes no database"


def test_description_holds_what_mlflow_keeps() -> None:
    assert shortened("short") == "short"
    assert len(shortened("x" * 9000)) == MAX_DESCRIPTION
    assert "model_card.md" in shortened("x" * 9000)


@pytest.fixture(scope="module")
def home(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep's runs under a home of their own, at another place than where they were trained."""
    return Path(shutil.copytree(sweep.home, tmp_path_factory.mktemp("registry") / "home"))


@pytest.fixture(scope="module")
def run(home: Path) -> RunFolder:
    return finished(home)[0]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place, data = tmp_path_factory.mktemp("films"), DataConfig(num_patients=20)
    manifest = read_manifest(data)
    for number, row in enumerate(manifest.rows[:3]):
        encode_png(place / f"{number}.png", load_pixels(row, manifest, data))
    return sorted(place.glob("*.png"))


def finished(home: Path) -> list[RunFolder]:
    return [one for one in all_runs(home / "runs") if read_state(one).status == FINISHED]


def answers_of(command: Command, home: Path, films: list[Path], *words: str) -> list[dict[str, Any]]:
    said = command("predict", *words, "json=true", *map(str, films), home=home)
    assert said.status == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


def versions(home: Path, name: str) -> list[Any]:
    from mlflow import MlflowClient

    uri = f"sqlite:///{home}/mlruns/mlflow.db"
    found = MlflowClient(uri, registry_uri=uri).search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda one: int(one.version))


@pytest.mark.long
def test_registered_once_with_its_card_and_asked_by_its_name(
    home: Path, run: RunFolder, films: list[Path], command: Command
) -> None:
    words = ("register", f"run={run.run_id}", "name=pneumonia", "alias=champion")
    said = command(*words, home=home)
    assert (said.status, said.err) == (0, "")
    assert "registered as version 1 of pneumonia" in said.out
    again = command(*words, home=home)
    assert again.status == 0, again.err
    assert "is this very network already: nothing was registered" in again.out
    assert "champion points at it already" in again.out
    (version,) = versions(home, "pneumonia")
    assert_card(version.description, run)
    assert version.tags["cxr.synthetic"] == "true"
    (card,) = (home / "mlruns").rglob("model_card.md")
    assert card.read_text() == version.description
    assert not [path for path in (home / "mlruns").rglob("*") if path.suffix in (".pkl", ".pickle")]
    plain = answers_of(command, home, films, f"run={run.run_id}")
    named = answers_of(command, home, films, "run=models:/pneumonia@champion")
    for one, other in zip(plain, named, strict=True):
        assert other.pop("probability") == pytest.approx(one.pop("probability"), abs=1e-6)
        assert one == other


def assert_card(card: str, run: RunFolder) -> None:
    """It says what a reader must know; every score with its interval and n, as scores.csv has it."""
    identity = json.loads(run.file("identity.json").read_text())
    threshold = json.loads(run.file("threshold.json").read_text())
    for text in ("Not a medical device", "SYNTHETIC", identity["dataset_digest"], f"{threshold['value']:.6f}"):
        assert text in card
    assert f"{threshold['rule']} {threshold['target']:g}, set on {threshold['num_images']} val images" in card
    for heading in ("Intended use", "Data", "Scores", "Threshold", "Calibration", "Shortcut gate", "Limits"):
        assert f"## {heading}\n" in card
    with run.file("scores.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    for name in ("val_auroc", "val_sensitivity_at_frozen"):
        row = Score(name, *(float(rows[name][key]) for key in ("value", "low", "high")), 0, 0, "")
        interval = f"[{row.low:.4f}, {row.high:.4f}]" if np.isfinite(row.low) else "not defined"
        counts = f"{rows[name]['num_images']} | {rows[name]['num_patients']}"
        assert f"| SYNTHETIC {name} | {row.value:.4f} | {interval} | {counts} |" in card


@pytest.mark.long
def test_alias_moves_and_new_test_scores_reach_the_card(home: Path, command: Command) -> None:
    first, second = finished(home)[:2]
    for number, run in ((1, first), (2, second), (1, first)):
        said = command("register", f"run={run.run_id}", "name=moving", "alias=best", home=home)
        assert said.status == 0, said.err
        assert f"best points at version {number}" in said.out
    assert "no longer at version 2" in said.out
    assert len(versions(home, "moving")) == 2
    assert "The test split was not opened" in versions(home, "moving")[0].description
    assert command("evaluate", f"run={first.run_id}", home=home).status == 0
    said = command("register", f"run={first.run_id}", "name=moving", "alias=best", home=home)
    assert "its card says what is known by now" in said.out
    assert "SYNTHETIC test_auroc" in versions(home, "moving")[0].description
    assert "shortcut" in versions(home, "moving")[0].description.lower()
    cards = [path.read_text() for path in (home / "mlruns").rglob("model_card.md")]
    assert sum("SYNTHETIC test_auroc" in card for card in cards) == 1


@contextmanager
def served(named: str, **environment: str) -> Iterator[tuple[psutil.Process, int]]:
    """`mlflow models serve` of a registered network, as a reader of the docs starts it, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    words = [sys.executable, "-m", "mlflow", "models", "serve", "-m", named, "--env-manager", "local"]
    started = subprocess.Popen(
        [*words, "--port", str(port)],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and started.poll() is None:
            with contextlib.suppress(OSError):
                if ask(port, "GET", "/ping")[0] == 200:
                    break
            time.sleep(0.5)
        else:
            pytest.fail("the model server did not answer within 240 s")
        yield psutil.Process(started.pid), port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(timeout=30)


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if text.strip() else None


def squares(films: list[Path], size_px: int) -> NDArray[np.uint8]:
    return np.stack([prepare_file(film, size_px=size_px, resize="squash") for film in films])


@pytest.mark.long
def test_model_server_answers_on_it_without_a_pickle(
    home: Path, run: RunFolder, films: list[Path], command: Command
) -> None:
    said = command("register", f"run={run.run_id}", "name=served", "alias=champion", home=home)
    assert said.status == 0, said.err
    size_px = json.loads(run.file("identity.json").read_text())["config"]["data.image_size_px"]
    images, expected = squares(films, size_px), answers_of(command, home, films, f"run={run.run_id}")
    place = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlruns/mlflow.db", "CXR_HOME": str(home)}
    with served("models:/served@champion", **place) as (server, port):
        status, told = ask(port, "POST", "/invocations", {"inputs": images.tolist()})
        assert status == 200, told
        assert [set(one) for one in told["predictions"]] == [{"probability", "label", "threshold"}] * 3
        for one, other in zip(told["predictions"], expected, strict=True):
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
            assert (one["label"], one["threshold"]) == (other["label"], other["threshold"])
        for wrong in (images[:, 1:], images / 255.0, images.astype(int) + 256):
            status, told = ask(port, "POST", "/invocations", {"inputs": wrong.tolist()})
            assert status == 400, told
        every = [server, *server.children(recursive=True)]
        listening = [one.laddr for each in every for one in each.net_connections("inet") if one.status == "LISTEN"]
        assert {(place.ip, place.port) for place in listening} == {("127.0.0.1", port)}


@pytest.mark.long
def test_several_runs_are_registered_as_their_mean(tmp_path: Path, films: list[Path], command: Command) -> None:
    words = ("train", "-m", *TINY, "seed=0,1", "experiment_name=two")
    assert command(*words, home=tmp_path).status == 0
    one, other = (run.run_id for run in finished(tmp_path))
    said = command("register", f"run={one},{other}", "name=mean", "alias=champion", home=tmp_path)
    assert (said.status, said.err) == (0, "")
    again = command("register", "ensemble=true", "experiment_name=phantom-two", "name=mean", home=tmp_path)
    assert "version 1 of mean is this very network already" in again.out, again.err
    (version,) = versions(tmp_path, "mean")
    assert set(version.tags["cxr.run_ids"].split()) == {one, other}
    assert "each member has a validation split of its own" in version.description
    assert "mean of the members'" in version.description
    apart = [answers_of(command, tmp_path, films, f"run={run}") for run in (one, other)]
    joint = answers_of(command, tmp_path, films, "run=models:/mean@champion")
    for both, *alone in zip(joint, *apart, strict=True):
        assert both["probability"] == pytest.approx(np.mean([each["probability"] for each in alone]), abs=1e-6)
        assert both["threshold"] == pytest.approx(np.mean([each["threshold"] for each in alone]))


@pytest.mark.long
def test_registry_of_a_server_serves_a_machine_that_has_no_run(
    home: Path, run: RunFolder, films: list[Path], tmp_path: Path, command: Command
) -> None:
    server = TrackingServer(tmp_path)
    try:
        there = ("tracking=server", f"tracking.uri={server.uri}")
        words = ("register", f"run={run.run_id}", "name=shared", "alias=champion", *there)
        for told in ("registered as version 1 of shared", "nothing was registered"):
            said = command(*words, home=home)
            assert said.status == 0, said.err
            assert told in said.out
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        plain = answers_of(command, home, films, f"run={run.run_id}")
        named = answers_of(command, elsewhere, films, "run=models:/shared@champion", *there)
        assert [one["label"] for one in named] == [one["label"] for one in plain]
        assert [one["probability"] for one in named] == pytest.approx([one["probability"] for one in plain], abs=1e-6)
        with served("models:/shared@champion", MLFLOW_TRACKING_URI=server.uri) as (_, port):
            status, told_by_server = ask(
                port, "POST", "/invocations", {"inputs": squares(films, model_size(run)).tolist()}
            )
            assert (status, len(told_by_server["predictions"])) == (200, 3)
    finally:
        server.kill()


@pytest.mark.long
def test_run_that_was_moved_is_registered_where_it_was_moved_to(
    home: Path, run: RunFolder, tmp_path: Path, command: Command
) -> None:
    from mlflow import MlflowClient

    copy = Path(shutil.copytree(home, tmp_path / "home"))
    server = TrackingServer(tmp_path)
    try:
        said = command("runs", "sync", "tracking=server", f"tracking.uri={server.uri}", home=copy)
        assert said.status == 0, said.err
        said = command("register", f"run={run.run_id}", "name=moved", home=copy)
        assert said.status == 0, said.err
        (there,) = MlflowClient(server.uri).search_model_versions("name='moved'")
        assert there.tags["cxr.run_ids"] == run.run_id
        assert not versions(copy, "moved")
    finally:
        server.kill()


def model_size(run: RunFolder) -> int:
    return int(json.loads(run.file("identity.json").read_text())["config"]["data.image_size_px"])


@pytest.mark.long
def test_only_finished_whole_runs_are_registered(home: Path, tmp_path: Path, command: Command) -> None:
    failed = next(one for one in all_runs(home / "runs") if read_state(one).status != FINISHED)
    said = command("register", f"run={failed.run_id}", "name=failed", home=home)
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert f"run {failed.run_id} is FAILED" in said.err
    runs = finished(home)[:2]
    said = command("register", f"run={runs[0].run_id},{runs[1].run_id}", "name=unlike", home=home)
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert "are no ensemble" in said.err
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    damaged = find_run(copy / "runs", runs[0].run_id)
    content = bytearray(damaged.file("model.keras").read_bytes())
    damaged.file("model.keras").write_bytes(content[: len(content) // 2])
    said = command("register", f"run={damaged.run_id}", "name=damaged", home=copy)
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert "is not a readable Keras model" in said.err
    assert not versions(copy, "failed") + versions(copy, "unlike") + versions(copy, "damaged")


def test_registry_is_the_homes_own_unless_named(tmp_path: Path) -> None:
    server = TrackingConfig(kind="server", uri="http://127.0.0.1:9")
    assert tracking.registry_of(server, tmp_path) == server
    with pytest.raises(ConfigError, match="tracking=disabled has no registry"):
        tracking.registry_of(TrackingConfig(kind="disabled"), tmp_path)
