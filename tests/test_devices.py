"""Two devices learn what one learns, to rounding, and repeat and resume to the last bit; mistakes are one line.

The devices are parts of one processor; what is promised of them is in docs/devices.md.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import SMALL, Command
from on_devices import CASES
from test_train import without_volatile

from cxr_experiments.config.identity import identify
from cxr_experiments.config.schema import ExperimentConfig, TrainingConfig
from cxr_experiments.config.together import check_together
from cxr_experiments.errors import ConfigError
from cxr_experiments.evidence.evaluation import read_predictions
from cxr_experiments.learning.devices import (
    check_last_batch,
    mirrored_twin,
    num_replicas,
    start_devices,
    validation_batch_size,
)
from cxr_experiments.record.console import say_devices
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, read_json, read_state

# Keras 3.15 reads its variables with np.array, whose copy argument tf.Variable does not know yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TOLERANCE = 1e-5  # what docs/devices.md promises of weights, losses and probabilities
RUN_TOLERANCE = 5e-5  # 8e-6 was seen in such a run
WORDS = (*SMALL, "optimizer=sgd")  # Adam's first steps magnify rounding, on one device too: docs/devices.md
MIRRORED = ("training.strategy=mirrored", "training.num_devices=2", *WORDS)


def config_of(**training: object) -> ExperimentConfig:
    return replace(ExperimentConfig(), training=replace(TrainingConfig(), **training))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What on_devices.py leaves."""
    folder = tmp_path_factory.mktemp("devices")
    words = [sys.executable, str(Path(__file__).with_name("on_devices.py")), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_two_devices_learn_what_one_learns(case: str, both: Path) -> None:
    """Dropout, augmentation and an uneven last batch included; in validation loss and accuracy, too."""
    told = json.loads((both / f"{case}.json").read_text())
    assert (told["1"]["devices"], told["2"]["devices"]) == (1, 2)
    assert told["1"]["kept"] == told["2"]["kept"]
    for one, two in zip(told["1"]["metrics"], told["2"]["metrics"], strict=True):
        assert two == pytest.approx(one, abs=TOLERANCE)
    with np.load(both / f"{case}-1.npz") as one, np.load(both / f"{case}-2.npz") as two:
        for name in one.files:
            np.testing.assert_allclose(two[name], one[name], rtol=0, atol=TOLERANCE)


@pytest.mark.long
@pytest.mark.fault
@pytest.mark.parametrize("case", CASES)
def test_training_on_two_devices_is_taken_up_bit_for_bit(case: str, both: Path) -> None:
    told = json.loads((both / f"{case}.json").read_text())
    assert told["resumed equal"] is True
    assert told["layers"] == ["keras"], "the network that is kept is Keras' own"


def the_run(home: Path) -> RunFolder:
    (folder,) = all_runs(home / "runs")
    assert read_state(folder).status == FINISHED
    return folder


@pytest.mark.long
@pytest.mark.fault
def test_run_on_two_devices_predicts_as_on_one_and_survives_a_kill(tmp_path: Path, command: Command) -> None:
    homes = {name: tmp_path / name for name in ("one", "two", "killed")}
    for home in homes.values():
        home.mkdir()
    one = command("train", *WORDS, home=homes["one"])
    two = command("train", *MIRRORED, home=homes["two"])
    assert (one.status, two.status) == (0, 0), one.err + two.err
    assert "2 devices share each batch of 16 images (CPU:0, CPU:1): parts of one processor" in two.out
    assert "devices share" not in one.out
    assert not two.err.strip(), two.err
    single, shared = the_run(homes["one"]), the_run(homes["two"])
    assert single.run_id != shared.run_id
    assert read_json(shared.file("costs.json"))["num_devices"] == 2
    first, second = (read_predictions(folder.predictions("val")) for folder in (single, shared))
    assert list(first.image_id) == list(second.image_id)
    np.testing.assert_allclose(second.probability, first.probability, rtol=0, atol=RUN_TOLERANCE)
    kill_after_an_epoch(homes["killed"])
    again = command("train", *MIRRORED, home=homes["killed"])
    assert again.status == 0, again.err
    for name in ("metrics.jsonl", "predictions_val.csv", "predictions_train.csv", "stress.csv"):
        resumed = without_volatile(the_run(homes["killed"]).file(name))
        assert resumed == without_volatile(shared.file(name)), name


def kill_after_an_epoch(home: Path) -> None:
    """SIGKILL as soon as the state of the first epoch is whole."""
    import os

    words = [sys.executable, "-m", "cxr_experiments.train", *MIRRORED]
    process = subprocess.Popen(words, env={**os.environ, "CXR_HOME": str(home)}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(home.glob("runs/*/*/states/epoch-00001.state")) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended by itself"
        time.sleep(0.005)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL


@pytest.mark.long
def test_more_devices_than_tensorflow_started_with_is_one_line(tmp_path: Path, command: Command) -> None:
    """A sweep in one process that divides the processor only in its second job."""
    said = command("train", "-m", *SMALL, "training.strategy=mirrored", "training.num_devices=1,2", home=tmp_path)
    assert said.status == 2
    assert "finds one device, CPU:0, and trains as strategy=none does" in said.out
    assert "training.num_devices=2: TensorFlow has already started in this process with fewer" in said.err


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"num_devices": 2}, "training.num_devices=2 has no effect with training.strategy=none"),
        (
            {"strategy": "mirrored", "num_devices": 3},
            r"training.batch_size=32 cannot be shared evenly by 3 devices: choose a multiple of 3, such as 33",
        ),
    ],
)
def test_contradictions_are_told_before_anything_starts(training: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_together(config_of(**training))


def test_keras_own_loader_is_refused() -> None:
    config = config_of(strategy="mirrored", num_devices=2)
    with pytest.raises(ConfigError, match="mirrored needs pipeline=store"):
        check_together(replace(config, pipeline=replace(config.pipeline, kind="keras_directory")))


def test_last_batch_must_give_each_device_an_image() -> None:
    for num_images in (64, 66, 94, 20):  # whole batches, 2 left, 30 left, one small batch
        check_last_batch(num_images, 32, 2)
    with pytest.raises(ConfigError, match="last of the batches of 65 training images with 1 for 2 devices"):
        check_last_batch(65, 32, 2)
    with pytest.raises(ConfigError, match="last of the batches of 21 training images with 21 for 2 devices"):
        check_last_batch(21, 32, 2)  # the only batch, whose parts Keras averages


def test_validation_batches_leave_no_device_without_an_image() -> None:
    for num_devices in (2, 3, 4, 8):
        for num_images in range(6 * num_devices, 300):
            size = validation_batch_size(num_images, 64, num_devices)
            assert size % num_devices == 0
            assert size <= 64
            assert min(num_images, size) % num_devices == 0
            assert num_images % size == 0 or num_images % size >= num_devices
    assert validation_batch_size(65, 32, 1) == 32, "one device takes what it took before"
    with pytest.raises(ConfigError, match="5 validation images are too few for 2 devices"):
        validation_batch_size(5, 32, 2)


def net_with(layer: Any) -> keras.Model:
    inputs = keras.Input((4, 4, 2))
    return keras.Model(inputs, keras.layers.Dropout(0.5)(layer(inputs)))


def test_normalization_is_synchronized_also_in_a_network_within_the_network() -> None:
    inner = keras.Input((4, 4, 2))
    model = net_with(keras.Model(inner, keras.layers.BatchNormalization(momentum=0.7)(inner)))
    model.set_weights([np.full(weight.shape, 0.5) for weight in model.get_weights()])
    twin = mirrored_twin(model)
    (norm,) = [one for one in twin._flatten_layers() if isinstance(one, keras.layers.BatchNormalization)]
    assert (norm.synchronized, norm.momentum) == (True, 0.7)
    for one, other in zip(twin.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(getattr(one, "synchronized", False) for one in model._flatten_layers()), "the model stays as it is"


def test_normalization_out_of_reach_is_refused() -> None:
    wrapped = keras.layers.TimeDistributed(keras.layers.BatchNormalization(name="hidden_norm"))
    with pytest.raises(ConfigError, match="normalization hidden_norm stands inside another layer"):
        mirrored_twin(net_with(wrapped))


def test_one_device_is_a_line_and_trains_as_without(capsys: pytest.CaptureFixture[str]) -> None:
    training = TrainingConfig(strategy="mirrored")
    say_devices(training, start_devices(training))
    assert num_replicas(training) == 1
    say_devices(TrainingConfig(), start_devices(TrainingConfig()))
    assert capsys.readouterr().out == (
        "training.strategy=mirrored finds one device, CPU:0, and trains as strategy=none does\n"
    )


def test_strategy_none_keeps_the_ids_that_runs_had_and_mirrored_has_its_own() -> None:
    usual, shared = (identify(config_of(strategy=kind), "d" * 64, "s" * 64) for kind in ("none", "mirrored"))
    assert not {"training.strategy", "training.num_devices"} & set(usual.config)
    assert shared.config["training.strategy"] == "mirrored"
    assert "training.num_devices" not in shared.config
    parts = identify(config_of(strategy="mirrored", num_devices=2), "d" * 64, "s" * 64)
    assert len({usual.run_id, shared.run_id, parts.run_id}) == 3
