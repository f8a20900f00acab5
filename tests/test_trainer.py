"""Training: stopping, best weights, optimizers and schedules, non-finite losses, and bitwise repetition."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import (
    AveragingConfig,
    BatchNormConfig,
    DataConfig,
    DepthConfig,
    ExperimentConfig,
    ImbalanceConfig,
    ModelConfig,
    OptimizerConfig,
    PoolingConfig,
    ResolutionConfig,
    ScheduleConfig,
    TrainingConfig,
)
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import ConfigError, RunError, TrainingError
from cxr_experiments.learning.augmentation import make_augmentation
from cxr_experiments.learning.fused_normalization import FusedBatchNormalization
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.pipeline import Pipeline, Source, evaluation_batches, training_batches
from cxr_experiments.learning.trainer import (
    EpochRecord,
    Patience,
    StepRecord,
    Trained,
    class_weights,
    load_model,
    logit_function,
    make_learning_rate,
    make_optimizer,
    save_model,
    start_tensorflow,
    train_model,
    twin,
)

# Keras 3.15 reads its variables with np.array, whose copy argument tf.Variable does not know yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SIZE_PX, NUM_TRAIN, NUM_VAL = 16, 44, 12
NUM_MEASURED = 40  # training images that batch_norm=precise looks at, whole batches
CONFIG = ExperimentConfig(
    data=DataConfig(image_size_px=SIZE_PX),
    depth=DepthConfig(filters=(4, 8), convolutions=(1, 1)),
    pooling=PoolingConfig(dense_units=8),
    training=TrainingConfig(epochs=3, batch_size=8),
)
PLAIN = replace(
    CONFIG,
    training=replace(CONFIG.training, epochs=8, patience=0),
    optimizer=OptimizerConfig(learning_rate=0.02),
    schedule=ScheduleConfig("cosine"),
)


FLAT = """
import keras

def build(inputs, seed):
    return keras.layers.Dense(4)(keras.layers.Flatten()(inputs))
"""
FROZEN = """
import keras

def build(inputs, seed):
    norm = keras.layers.BatchNormalization
    values = norm(name="frozen", trainable=False)(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.layers.Flatten()(norm(name="learning")(values))
"""


def tiny_images() -> NDArray[np.uint8]:
    """Noise (NORMAL) and noise on a bright ground (PNEUMONIA), three to one: learnt at once."""
    noise = np.random.default_rng(0).integers(0, 128, (NUM_TRAIN + NUM_VAL, SIZE_PX, SIZE_PX, 1), dtype=np.uint8)
    return noise + 64 * tiny_labels().astype(np.uint8)[:, None, None, None]


def tiny_labels() -> NDArray[np.int8]:
    return (np.arange(NUM_TRAIN + NUM_VAL) % 4 > 0).astype(np.int8)


def pipeline_of(config: ExperimentConfig) -> Pipeline:
    images, labels = tiny_images(), tiny_labels()
    source = Source(images, labels, np.arange(NUM_TRAIN))
    val = evaluation_batches(images, labels, np.arange(NUM_TRAIN, len(images)), config.training.batch_size)
    steps = math.ceil(NUM_TRAIN / config.training.batch_size)

    def train_from(epoch: int) -> tf.data.Dataset:
        seeds, augment = resolve_seeds(config), make_augmentation(config.augmentation)
        return training_batches(source, config, seeds, augment, first_step=epoch * steps)

    positives = int(labels[:NUM_TRAIN].sum())
    as_used = evaluation_batches(images, labels, np.arange(NUM_MEASURED), config.training.batch_size)
    return Pipeline(train_from, val, steps, NUM_TRAIN, NUM_VAL, (NUM_TRAIN - positives, positives), as_used)


def trained_on(
    config: ExperimentConfig, pipeline: Pipeline | None = None, **listeners: Any
) -> tuple[keras.Model, Trained]:
    start_tensorflow(config)
    model = build_model(config, resolve_seeds(config))
    return model, train_model(model, pipeline or pipeline_of(config), config, **listeners)


def fingerprint(config: ExperimentConfig) -> str:
    """History and weights of one training, to the last bit."""
    model, trained = trained_on(config)
    history = [sorted(record.metrics.items()) for record in trained.history]
    weights = b"".join(np.ascontiguousarray(weight).tobytes() for weight in model.get_weights())
    return json.dumps(history) + hashlib.sha256(weights).hexdigest()


def optimizer_config(kind: str = "adam", **changed: float) -> ExperimentConfig:
    return replace(CONFIG, optimizer=OptimizerConfig(kind, **changed))


def rate_of(schedule: ScheduleConfig, steps_per_epoch: int = 6) -> Any:
    """The learning rate under `schedule`, peak 0.5, three epochs."""
    return make_learning_rate(replace(optimizer_config(learning_rate=0.5), schedule=schedule), steps_per_epoch)


def test_op_determinism_is_switched_on() -> None:
    """Seen from outside: a random operation without any seed is then refused."""
    start_tensorflow(CONFIG)
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="determinism is enabled"):
        tf.random.uniform([1])


def test_patience_ends_when_neither_loss_nor_accuracy_has_improved() -> None:
    watch = Patience(epochs=2)
    epochs = [(0.9, 0.5), (0.8, 0.5), (0.85, 0.6), (0.85, 0.6), (0.8, 0.6)]
    told = [(watch.update(val_loss=loss, val_accuracy=accuracy), watch.exhausted) for loss, accuracy in epochs]
    # loss falls, loss falls, accuracy rises, nothing, a tie in loss is nothing too
    assert told == [(True, False), (True, False), (False, False), (False, False), (False, True)]


def test_patience_goes_on_while_accuracy_alone_improves() -> None:
    watch = Patience(epochs=1)
    for accuracy in (0.5, 0.6, 0.7, 0.8):
        watch.update(val_loss=0.5 + accuracy, val_accuracy=accuracy)
        assert not watch.exhausted
    watch.update(val_loss=2.0, val_accuracy=0.8)
    assert watch.exhausted


def test_patience_of_zero_never_ends() -> None:
    watch = Patience(epochs=0)
    for _ in range(50):
        watch.update(val_loss=1.0, val_accuracy=0.5)
    assert not watch.exhausted


@dataclass(frozen=True)
class Told:
    """One training and what its listeners heard."""

    model: keras.Model
    trained: Trained
    steps: list[StepRecord]
    epochs: list[EpochRecord]


@pytest.fixture(scope="module")
def plain() -> Told:
    """Eight epochs under a cosine from 0.02."""
    steps: list[StepRecord] = []
    epochs: list[EpochRecord] = []
    model, trained = trained_on(PLAIN, on_epoch_end=[lambda record: None, epochs.append], on_batch_end=steps.append)
    return Told(model, trained, steps, epochs)


def test_training_tells_every_step_and_epoch(plain: Told) -> None:
    assert [(told.epoch, told.step) for told in plain.steps] == [(e, s) for e in range(8) for s in range(6)]
    assert tuple(plain.epochs) == plain.trained.history
    assert [record.epoch for record in plain.epochs] == list(range(8))
    assert set(plain.epochs[0].metrics) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert plain.steps[-1].loss == pytest.approx(plain.epochs[-1].metrics["loss"])
    assert not plain.trained.stopped_early


def test_training_learns_what_is_easy(plain: Told) -> None:
    assert plain.epochs[-1].metrics["loss"] < 0.5 * plain.epochs[0].metrics["loss"]
    assert plain.epochs[-1].metrics["accuracy"] > 0.9


def test_speed_and_duration_are_those_of_the_epochs(plain: Told) -> None:
    speeds = [record.images_per_s for record in plain.epochs]
    assert plain.trained.images_per_s == pytest.approx(np.median(speeds[1:]))
    assert plain.trained.duration_s >= sum(record.duration_s for record in plain.epochs)
    for record in plain.epochs:
        assert record.images_per_s > NUM_TRAIN / record.duration_s  # validation is not counted
    assert plain.steps[5].images_per_s == pytest.approx(speeds[0])


def test_history_tells_the_rate_at_the_end_of_each_epoch(plain: Told) -> None:
    expected = [0.02 * (1 + math.cos(math.pi * epoch / 8)) / 2 for epoch in range(1, 9)]
    assert [record.metrics["learning_rate"] for record in plain.epochs] == pytest.approx(expected, abs=1e-6)


def test_weights_of_the_lowest_validation_loss_are_put_back_and_training_stops() -> None:
    """Turned validation labels: what is learnt makes validation worse, so an early epoch is the best."""
    config = replace(
        CONFIG,
        training=replace(CONFIG.training, epochs=30, patience=2),
        optimizer=OptimizerConfig(learning_rate=0.02),
    )
    images, labels = tiny_images(), tiny_labels()
    turned = evaluation_batches(images, 1 - labels, np.arange(NUM_TRAIN, len(images)), 8)
    model, trained = trained_on(config, replace(pipeline_of(config), val=turned))
    losses = [record.metrics["val_loss"] for record in trained.history]
    assert trained.stopped_early
    assert len(losses) < 30
    assert trained.best_epoch == int(np.argmin(losses)) < len(losses) - 1
    logits = logit_function(model)(images[NUM_TRAIN:])
    assert losses[trained.best_epoch] == pytest.approx(log_loss(logits, 1 - labels[NUM_TRAIN:]), rel=1e-5)
    assert losses[-1] > losses[trained.best_epoch]


def test_weights_of_the_last_epoch_are_kept_when_asked_for() -> None:
    config = replace(PLAIN, training=replace(PLAIN.training, epochs=3, keep="last"))
    images, labels = tiny_images(), tiny_labels()
    turned = evaluation_batches(images, 1 - labels, np.arange(NUM_TRAIN, len(images)), 8)
    model, trained = trained_on(config, replace(pipeline_of(config), val=turned))
    losses = [record.metrics["val_loss"] for record in trained.history]
    assert trained.best_epoch == 2
    assert np.argmin(losses) != 2
    logits = logit_function(model)(images[NUM_TRAIN:])
    assert losses[2] == pytest.approx(log_loss(logits, 1 - labels[NUM_TRAIN:]), rel=1e-5)


def test_average_of_the_weights_is_validated_and_kept() -> None:
    """One step an epoch under decay d: the average after step t is d average + (1 - d) weights, by hand."""
    config = replace(
        PLAIN, training=TrainingConfig(epochs=4, batch_size=NUM_TRAIN, patience=0, keep="last", deterministic=True)
    )
    averaged = replace(config, averaging=AveragingConfig("ema", decay=0.5))
    weights = []
    for epochs in range(1, 5):  # the raw weights after each step: the rate must not depend on the number of epochs
        raw = replace(config, training=replace(config.training, epochs=epochs), schedule=ScheduleConfig())
        weights.append(trained_on(raw)[0].get_layer("logit").get_weights()[0])
    average = weights[0]
    for later in weights[1:]:
        average = 0.5 * average + 0.5 * later
    model, trained = trained_on(replace(averaged, schedule=ScheduleConfig()))
    assert model.get_layer("logit").get_weights()[0] == pytest.approx(average, rel=1e-5)
    images, labels = tiny_images()[NUM_TRAIN:], tiny_labels()[NUM_TRAIN:]
    told = trained.history[-1].metrics["val_loss"]
    assert told == pytest.approx(log_loss(logit_function(model)(images), labels), rel=1e-5)


@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_precise_batch_norm_has_the_statistics_of_the_images_under_the_kept_weights(averaging: str) -> None:
    """By definition, for the first normalization: mean and variance of what reaches it, over all images and pixels."""
    config = replace(
        PLAIN, averaging=AveragingConfig(averaging, decay=0.9), batch_norm=BatchNormConfig("precise", NUM_MEASURED)
    )
    model, trained = trained_on(config)
    norm = model.get_layer("block1_norm1")
    reaching = keras.Model(model.input, norm.input)(tiny_images()[:NUM_MEASURED]).numpy().astype(np.float64)
    assert norm.moving_mean.numpy() == pytest.approx(reaching.mean((0, 1, 2)), rel=1e-4, abs=1e-5)
    assert norm.moving_variance.numpy() == pytest.approx(reaching.var((0, 1, 2)), rel=1e-4, abs=1e-5)
    images, labels = tiny_images()[NUM_TRAIN:], tiny_labels()[NUM_TRAIN:]
    told = trained.history[trained.best_epoch].metrics["val_loss"]
    assert told == pytest.approx(log_loss(logit_function(model)(images), labels), rel=1e-5)


def test_precise_batch_norm_trains_not_one_weight_differently() -> None:
    config = replace(PLAIN, training=replace(PLAIN.training, keep="last"))
    precise = replace(config, batch_norm=BatchNormConfig("precise", NUM_MEASURED))
    (running, before), (measured, after) = trained_on(config), trained_on(precise)
    for one, other in zip(running.trainable_weights, measured.trainable_weights, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), one.path
    assert [record.metrics["loss"] for record in before.history] == [record.metrics["loss"] for record in after.history]
    assert before.history[0].metrics["val_loss"] != after.history[0].metrics["val_loss"]


def test_precise_batch_norm_leaves_frozen_layers_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "frozen.py"
    path.write_text(FROZEN)
    config = replace(PLAIN, model=ModelConfig(f"{path}:build"), batch_norm=BatchNormConfig("precise", NUM_MEASURED))
    model, _ = trained_on(config)
    norm = model.get_layer("frozen")
    assert (norm.moving_mean.numpy().tolist(), norm.moving_variance.numpy().tolist()) == ([0.0], [1.0])
    assert model.get_layer("learning").moving_variance.numpy().tolist() != [1.0]


def test_net_of_ones_own_without_batch_norm_refuses_precise(tmp_path: Path) -> None:
    path = tmp_path / "bare.py"
    path.write_text(FLAT)
    config = replace(PLAIN, model=ModelConfig(f"{path}:build"), batch_norm=BatchNormConfig("precise"))
    with pytest.raises(ConfigError, match="batch_norm=precise has no effect: the network has no batch normalization"):
        trained_on(config)


def test_smoothed_targets_enter_the_losses() -> None:
    """By definition: targets 0.1 and 0.9 under a smoothing of 0.2."""
    config = replace(PLAIN, training=replace(PLAIN.training, epochs=1, label_smoothing=0.2))
    model, trained = trained_on(config)
    logits = logit_function(model)(tiny_images()[NUM_TRAIN:])
    targets = 0.8 * tiny_labels()[NUM_TRAIN:] + 0.1
    assert trained.history[0].metrics["val_loss"] == pytest.approx(log_loss(logits, targets), rel=1e-5)


def test_growing_images_train_and_the_model_takes_the_full_size(plain: Told) -> None:
    config = replace(PLAIN, data=DataConfig(image_size_px=32), resolution=ResolutionConfig("progressive"))
    noise = np.random.default_rng(0).integers(0, 128, (NUM_TRAIN + NUM_VAL, 32, 32, 1), dtype=np.uint8)
    images, labels = noise + 64 * tiny_labels().astype(np.uint8)[:, None, None, None], tiny_labels()
    val = evaluation_batches(images, labels, np.arange(NUM_TRAIN, len(images)), 8)
    source = Source(images, labels, np.arange(NUM_TRAIN))
    train = training_batches(source, config, resolve_seeds(config), make_augmentation(config.augmentation))
    model, trained = trained_on(config, replace(pipeline_of(PLAIN), train_from=lambda epoch: train, val=val))
    assert trained.history[-1].metrics["loss"] < 0.5 * trained.history[0].metrics["loss"]
    assert model.input.shape == (None, 32, 32, 1)


def test_net_of_ones_own_for_one_size_refuses_growing_images(tmp_path: Path) -> None:
    path = tmp_path / "flat.py"
    path.write_text(FLAT)
    config = replace(PLAIN, model=ModelConfig(f"{path}:build"), resolution=ResolutionConfig("progressive"))
    with pytest.raises(ConfigError, match="resolution=progressive trains on images of several sizes"):
        trained_on(config)


def log_loss(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Binary cross-entropy of logits, from its definition."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def test_logits_are_those_of_the_probability_and_are_float64() -> None:
    seeds = resolve_seeds(CONFIG)
    model = build_model(CONFIG, seeds)
    logits = logit_function(model)(tiny_images()[:5])
    assert logits.dtype == np.float64
    assert logits.shape == (5,)
    assert model(tiny_images()[:5]).numpy()[:, 0] == pytest.approx(1 / (1 + np.exp(-logits)), rel=1e-5)


def test_loss_of_a_confident_mistake_is_not_cut_off() -> None:
    """Computed from the logit: 1 - sigmoid(100) is 0 in float32, and its logarithm would be clipped to 16."""
    model = build_model(CONFIG, resolve_seeds(CONFIG))
    model.get_layer("logit").set_weights([np.zeros((8, 1), np.float32), np.array([100.0], np.float32)])
    model.compile(loss=keras.losses.BinaryCrossentropy())
    assert model.evaluate(tiny_images()[:4], np.zeros((4, 1)), verbose=0) == pytest.approx(100.0)


def test_broken_labels_stop_training_with_epoch_and_step() -> None:
    def spoil(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return batch[0], batch[1] * tf.where(step == 8, math.nan, 1.0)

    pipeline = pipeline_of(CONFIG)
    told: list[EpochRecord] = []
    spoiled = pipeline.train.enumerate().map(spoil)
    with pytest.raises(TrainingError, match=r"training loss became nan in epoch 1, step 2 of 6 .*learning_rate=0.001"):
        trained_on(CONFIG, replace(pipeline, train_from=lambda epoch: spoiled), on_epoch_end=[told.append])
    assert [record.epoch for record in told] == [0]


def test_huge_learning_rate_stops_training_and_says_what_to_try() -> None:
    config = replace(CONFIG, optimizer=OptimizerConfig("sgd", learning_rate=1e38))
    with pytest.raises(TrainingError, match=r"loss became (nan|inf) in epoch 0, .*try a smaller one, such as 1e\+37"):
        trained_on(config)


def test_class_weights_change_the_loss_and_the_training(plain: Told) -> None:
    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    told: list[EpochRecord] = []
    with pytest.raises(KeyboardInterrupt):
        trained_on(replace(PLAIN, imbalance=ImbalanceConfig("class_weight")), on_epoch_end=[told.append, stop])
    for name in ("loss", "val_loss"):
        assert told[0].metrics[name] != plain.epochs[0].metrics[name]


def test_class_weights_make_both_classes_weigh_alike() -> None:
    weights = class_weights((11, 33))
    assert 11 * weights[0] == pytest.approx(33 * weights[1])
    assert (11 * weights[0] + 33 * weights[1]) / 44 == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="imbalance=class_weight needs training images of both classes"):
        class_weights((0, 5))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("adam", keras.optimizers.Adam),
        ("adamw", keras.optimizers.AdamW),
        ("sgd", keras.optimizers.SGD),
        ("rmsprop", keras.optimizers.RMSprop),
    ],
)
def test_each_optimizer_takes_rate_and_decay(kind: str, expected: type[keras.optimizers.Optimizer]) -> None:
    optimizer = make_optimizer(optimizer_config(kind, learning_rate=0.25, weight_decay=0.125), 6)
    assert type(optimizer) is expected
    assert float(optimizer.learning_rate) == 0.25
    assert optimizer.weight_decay == 0.125
    assert not make_optimizer(optimizer_config(kind), 6).weight_decay


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "rmsprop"])
def test_weight_decay_shrinks_weights_apart_from_the_gradient(kind: str) -> None:
    optimizer = make_optimizer(optimizer_config(kind, learning_rate=0.5, weight_decay=0.25), 6)
    weight = keras.Variable(np.array([8.0], np.float32))
    optimizer.apply([tf.zeros(1)], [weight])
    assert weight.numpy()[0] == pytest.approx(8.0 * (1 - 0.5 * 0.25))


@pytest.mark.parametrize("kind", ["sgd", "rmsprop"])
def test_momentum_reaches_the_optimizers_that_have_it(kind: str) -> None:
    assert make_optimizer(optimizer_config(kind, momentum=0.75), 6).momentum == 0.75


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_momentum_is_refused_where_it_would_have_no_effect(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"optimizer.momentum=0.9 has no effect with optimizer.kind={kind}"):
        make_optimizer(optimizer_config(kind, momentum=0.9), 6)


def test_cosine_rises_to_the_peak_and_falls_to_its_end() -> None:
    """3 epochs of 6 steps, one of warm-up: from 0 to 0.5 over 6 steps, then down to 0.1 * 0.5 over 12."""
    schedule = ScheduleConfig("cosine", warmup_epochs=1.0, final_fraction=0.1)
    rate = rate_of(schedule)
    assert [float(rate(step)) for step in (0, 3, 6)] == pytest.approx([0.0, 0.25, 0.5])
    assert float(rate(12)) == pytest.approx(0.5 * (0.9 * 0.5 + 0.1))
    assert [float(rate(step)) for step in (18, 30)] == pytest.approx([0.05, 0.05])


def test_cosine_without_warm_up_begins_at_the_peak() -> None:
    rate = rate_of(ScheduleConfig("cosine"))
    assert [float(rate(step)) for step in (0, 9, 18)] == pytest.approx([0.5, 0.25, 0.0], abs=1e-7)


def test_constant_schedule_can_warm_up_too() -> None:
    rate = rate_of(ScheduleConfig(warmup_epochs=0.5))
    assert [float(rate(step)) for step in (0, 1, 3, 17)] == pytest.approx([0.0, 0.5 / 3, 0.5, 0.5])
    assert rate_of(ScheduleConfig()) == 0.5


def test_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule.warmup_epochs=3.0 leaves nothing of training.epochs=3"):
        rate_of(ScheduleConfig(warmup_epochs=3.0))


def test_same_seed_repeats_bit_for_bit_in_another_process_and_after_another_training() -> None:
    """Alone in a process of its own, against second in a process that has trained before."""
    config = replace(CONFIG, training=replace(CONFIG.training, epochs=2))
    other, second = fingerprint(replace(config, seed=1)), fingerprint(config)
    assert second == fresh_fingerprint(config)
    assert second != other


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"optimizer": OptimizerConfig("sgd", momentum=0.9)},
        {"optimizer": OptimizerConfig("adamw", weight_decay=0.01), "schedule": ScheduleConfig("cosine")},
        {"averaging": AveragingConfig("ema")},
        {"resolution": ResolutionConfig("progressive")},
    ],
)
def test_second_training_takes_over_the_traced_steps_and_nothing_else(
    changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 1, then 0, against 0 on a twin of its own: to the last bit, and no layer is called by `fit` once more."""
    config = replace(CONFIG, **changed)
    twin.forget_twin()
    alone = fingerprint(config)
    twin.forget_twin()
    trained_on(replace(config, seed=1))
    calls: list[str] = []
    whole_call = FusedBatchNormalization.call

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(self.name)
        return whole_call(self, *arguments, **named)

    monkeypatch.setattr(FusedBatchNormalization, "call", counted)
    assert fingerprint(config) == alone
    assert not calls


def test_twin_of_another_graph_or_of_a_training_that_failed_is_not_taken_over(tmp_path: Path) -> None:
    trained_on(CONFIG)
    latest = twin._kept[0].twin
    others = [
        replace(CONFIG, optimizer=OptimizerConfig(learning_rate=0.5)),
        replace(CONFIG, depth=DepthConfig((4, 4), (1, 1))),
        replace(CONFIG, training=replace(CONFIG.training, label_smoothing=0.1)),
    ]
    for config in others:
        trained_on(config)
        assert twin._kept[0].twin is not latest
        latest = twin._kept[0].twin
    with pytest.raises(TrainingError):
        trained_on(replace(CONFIG, optimizer=OptimizerConfig("sgd", learning_rate=1e38)))
    assert not twin._kept


def test_length_of_an_epoch_matters_to_a_schedule_alone() -> None:
    model = build_model(CONFIG, resolve_seeds(CONFIG))
    for schedule, is_taken in ((ScheduleConfig(), True), (ScheduleConfig("cosine"), False)):
        config = replace(CONFIG, schedule=schedule)
        first = twin.compiled_twin(model, config, 6)
        twin.keep_twin(first, config, 6)
        assert (twin.compiled_twin(model, config, 7) is first) == is_taken


def fresh_fingerprint(config: ExperimentConfig) -> str:
    """`fingerprint` in a process of its own; the config differs from CONFIG in its training alone."""
    code = f"from test_trainer import *; print(fingerprint(replace(CONFIG, training={config.training!r})))"
    root = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root.parent}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def stored_arrays(path: Path) -> list[str]:
    """Names of everything in the weights file of a .keras file."""
    names: list[str] = []
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        weights.visit(names.append)
    return names


def test_unreadable_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"there is no model {tmp_path / 'absent.keras'}"):
        load_model(tmp_path / "absent.keras")
    (tmp_path / "broken.keras").write_bytes(b"not a zip file")
    with pytest.raises(RunError, match=f"{tmp_path / 'broken.keras'} is not a readable Keras model"):
        load_model(tmp_path / "broken.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(RunError, match="has no layer `logit`"):
        load_model(tmp_path / "other.keras")


def test_model_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((2,))
    hidden = keras.layers.Lambda(lambda x: x * 2, name="logit")(inputs)
    keras.Model(inputs, hidden).save(tmp_path / "unsafe.keras")
    with pytest.raises(RunError, match="is not a readable Keras model"):
        load_model(tmp_path / "unsafe.keras")


def test_trained_model_is_saved_without_its_optimizer(plain: Told, tmp_path: Path) -> None:
    save_model(plain.model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert not any("optimizer" in name for name in stored_arrays(tmp_path / "model.keras"))
    assert np.array_equal(logit_function(loaded)(tiny_images()), logit_function(plain.model)(tiny_images()))
