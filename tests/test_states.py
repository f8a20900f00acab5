"""The state of a training: a training that goes on from it ends bit for bit like one that was never stopped."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_trainer import CONFIG, pipeline_of

from cxr_experiments.config.schema import (
    AugmentationConfig,
    AveragingConfig,
    BatchNormConfig,
    ExperimentConfig,
    OptimizerConfig,
    ResolutionConfig,
    ScheduleConfig,
)
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import RunError
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.trainer import Trained, start_tensorflow, train_model, twin
from cxr_experiments.learning.trainer.states import NUM_KEPT, latest_state, read_state, write_state

pytestmark = [
    pytest.mark.fault,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

WHOLE = replace(
    CONFIG,
    augmentation=AugmentationConfig(rotation_degrees=10.0, contrast_fraction=0.2),
    training=replace(CONFIG.training, epochs=5, patience=0),
)
LONG = ("sgd with momentum under a cosine", "averaged weights")
VARIED: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd with momentum under a cosine": {
        "optimizer": OptimizerConfig("sgd", momentum=0.9),
        "schedule": ScheduleConfig("cosine", warmup_epochs=1),
    },
    "averaged weights": {"averaging": AveragingConfig("ema"), "batch_norm": BatchNormConfig("precise")},
    "growing images, last epoch kept": {
        "resolution": ResolutionConfig("progressive"),
        "training": replace(WHOLE.training, keep="last"),
    },
}


class Killed(Exception):
    """Raised in the middle of an epoch."""


def trained(
    config: ExperimentConfig, states: Path | None, *, stop: tuple[int, int] | None = None
) -> tuple[Any, Trained]:
    """Train in a process that knows nothing of an earlier training; with `stop` until (epoch, step)."""
    twin.forget_twin()
    start_tensorflow(config)
    model = build_model(config, resolve_seeds(config))

    def end_step(record: Any) -> None:
        if (record.epoch, record.step) == stop:
            raise Killed

    return model, train_model(model, pipeline_of(config), config, [], end_step, states)


def told(model: Any, done: Trained) -> tuple[list[Any], list[bytes], int]:
    """History without times, weights to the last bit, the epoch kept."""
    history = [(record.epoch, sorted(record.metrics.items())) for record in done.history]
    return history, [weight.tobytes() for weight in model.get_weights()], done.best_epoch


@pytest.mark.parametrize(
    "changed",
    [pytest.param(VARIED[name], id=name, marks=[pytest.mark.long] * (name in LONG)) for name in VARIED],
)
def test_stopped_training_ends_bit_for_bit_like_one_that_never_stopped(changed: dict[str, Any], tmp_path: Path) -> None:
    config = replace(WHOLE, **changed)
    expected = told(*trained(config, None))
    for stop in ((1, 2), (2, 0), (4, 5)):  # in the second, third and last epoch, of which each is begun anew
        with pytest.raises(Killed):
            trained(config, tmp_path, stop=stop)
        assert len(list(tmp_path.glob("*.state"))) == min(NUM_KEPT, stop[0])
    assert told(*trained(config, tmp_path)) == expected
    assert told(*trained(config, tmp_path)) == expected  # from the state behind the last epoch: nothing is trained


def test_stop_by_patience_is_remembered(tmp_path: Path) -> None:
    config = replace(WHOLE, training=replace(WHOLE.training, epochs=40, patience=1))
    config = replace(config, optimizer=OptimizerConfig(learning_rate=0.5))  # leaps about
    expected = trained(config, tmp_path)[1]
    assert expected.stopped_early
    again = trained(config, tmp_path)[1]
    assert again == expected, "times included: no epoch was trained again"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was stopped in its third epoch."""
    folder = tmp_path_factory.mktemp("states")
    with pytest.raises(Killed):
        trained(WHOLE, folder, stop=(2, 1))
    return folder


def test_broken_last_state_gives_way_to_the_one_before(left: Path, tmp_path: Path) -> None:
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "epoch-00002.state"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    found = latest_state(tmp_path)
    assert found is not None
    assert len(found.history) == 1
    assert told(*trained(WHOLE, tmp_path)) == told(*trained(WHOLE, None))


def test_state_of_another_network_is_refused(left: Path, tmp_path: Path) -> None:
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    wider = replace(WHOLE, pooling=replace(WHOLE.pooling, dense_units=9))
    with pytest.raises(RunError, match="of another network"):
        trained(wider, tmp_path)


def test_disk_that_is_full_leaves_the_states_before(left: Path, tmp_path: Path) -> None:
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    history = [{"epoch": number, "metrics": {}, "duration_s": 1.0, "images_per_s": 1.0} for number in range(3)]

    def arrays() -> Any:
        yield np.zeros(4)
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"cannot keep the state of the training in .*: No space left"):
        write_state(tmp_path, {"history": history, "kept_epoch": 0, "patience": [1.0, 0.0, 0]}, arrays(), [])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_state_with_objects_or_compressed_entries_is_refused(left: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(left / "epoch-00002.state") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    header = contents["kept-00000.npy"]
    torn = header.replace(b"'fortran_order': False,", b"'fortran_order': (((((,")  # an error of tokenize's
    large = header[:10] + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(118) + b"\n"
    assert torn != header
    for method, entries in (
        (zipfile.ZIP_STORED, {**contents, "kept-00000.npy": torn}),
        (zipfile.ZIP_STORED, {**contents, "kept-00000.npy": large}),  # 4 TB, which NumPy would ask for
        (zipfile.ZIP_DEFLATED, contents),
        (zipfile.ZIP_STORED, {**contents, "kept-00000.npy": pickled.read_bytes()}),
        (zipfile.ZIP_STORED, {**contents, "told.json": b'{"history": [], "kept_epoch": 0, "patience": [1, 1, 1]}'}),
        (zipfile.ZIP_STORED, {name: value for name, value in contents.items() if name != "told.json"}),
    ):
        path = tmp_path / "epoch-00009.state"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, value in entries.items():
                archive.writestr(name, value)
        with pytest.raises(RunError, match="not a readable state"):
            read_state(path)


@settings(deadline=None, max_examples=100)
@given(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_mutated_state_is_read_or_refused(left: Path, place: float, byte: int) -> None:
    content = bytearray((left / "epoch-00001.state").read_bytes())
    content[int(place * (len(content) - 1))] = byte
    path = left.parent / "epoch-00001.state"
    path.write_bytes(bytes(content))
    try:
        found = read_state(path)
    except RunError:
        return
    assert json.dumps([record.metrics for record in found.history])
