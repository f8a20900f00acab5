"""Model + pipeline -> compile, fit, stop -> history, and the weights of the best epoch in the model.

Comes in: an uncompiled model and the batches of all epochs.  Goes out: one record per epoch and the trained model, which
`save_model` writes and `logit_function` turns into a plain NumPy function.  It knows nothing of run folders or of tracking:
those listen through `on_epoch_end`.
"""

from __future__ import annotations

import math
import statistics
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig, OptimizerConfig
from cxr_experiments.config.seeds import Seeds
from cxr_experiments.errors import ConfigError, RunError, TrainingError
from cxr_experiments.learning.pipeline import Pipeline

LogitFunction = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number from 0, Keras' metrics and `learning_rate`, its time with validation, its training speed."""

    epoch: int
    metrics: Mapping[str, float]
    duration_s: float
    images_per_s: float


@dataclass(frozen=True)
class Trained:
    """What training left behind: images_per_s is the median over the epochs after the first, which also compiles."""

    history: tuple[EpochRecord, ...]
    best_epoch: int
    stopped_early: bool
    images_per_s: float
    duration_s: float


@dataclass
class Patience:
    """Counts epochs since validation loss or validation accuracy last reached a new best.

    Example:
        >>> watch = Patience(epochs=1)
        >>> watch.update(val_loss=0.5, val_accuracy=0.8), watch.update(val_loss=0.6, val_accuracy=0.8)
        (True, False)
        >>> watch.exhausted
        True
    """

    epochs: int  # 0 never stops
    best_loss: float = math.inf
    best_accuracy: float = -math.inf
    waited: int = 0

    def update(self, *, val_loss: float, val_accuracy: float) -> bool:
        """Takes in one epoch; True when its validation loss is the lowest so far (a tie is not)."""
        lower_loss, higher_accuracy = val_loss < self.best_loss, val_accuracy > self.best_accuracy
        self.best_loss = min(self.best_loss, val_loss)
        self.best_accuracy = max(self.best_accuracy, val_accuracy)
        self.waited = 0 if lower_loss or higher_accuracy else self.waited + 1
        return lower_loss

    @property
    def exhausted(self) -> bool:
        """True when neither has improved for `epochs` epochs."""
        return 0 < self.epochs <= self.waited


def start_tensorflow(config: ExperimentConfig) -> None:
    """Prepares the process for one run, before its model is built: op determinism, and no layers of an earlier run.

    Op determinism, once on, stays on for the process: in a sweep that mixes both, later runs are deterministic too.
    """
    keras.backend.clear_session()
    if config.training.deterministic:
        tf.config.experimental.enable_op_determinism()


def train_model(
    model: keras.Model,
    pipeline: Pipeline,
    config: ExperimentConfig,
    seeds: Seeds,
    on_epoch_end: Callable[[EpochRecord], None],
    on_batch_end: Callable[[int, int], None] | None = None,
) -> Trained:
    """Trains `model` in place; at the end it holds the weights of the epoch with the lowest validation loss.

    Args:
        model: Uncompiled, as `build_model` gives it.
        pipeline: Batches of all epochs, and of validation.
        config: Checked configuration; `optimizer`, `schedule`, `imbalance`, `training` are read.
        seeds: The run's seeds.
        on_epoch_end: Called after each epoch's validation.
        on_batch_end: Called with (epoch, step within the epoch), both from 0, after each training batch.

    Raises:
        ConfigError: Options of optimizer and schedule that contradict each other.
        TrainingError: The loss is not finite; names epoch and step.
    """
    # Once, here: whatever draws without a seed of its own (a custom builder's layers) repeats from run to run.
    keras.utils.set_random_seed(seeds.init)
    model.compile(
        optimizer=make_optimizer(config, pipeline.steps_per_epoch),
        loss=keras.losses.BinaryCrossentropy(),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
        jit_compile=False,
    )
    watch = _Watch(model, pipeline, Patience(config.training.patience), on_epoch_end, on_batch_end)
    started = time.perf_counter()
    model.fit(
        pipeline.train,
        epochs=config.training.epochs,
        steps_per_epoch=pipeline.steps_per_epoch,
        validation_data=pipeline.val,
        class_weight=class_weights(pipeline.class_counts) if config.imbalance.kind == "class_weight" else None,
        callbacks=[watch.as_callback()],
        shuffle=False,
        verbose=0,
    )
    model.set_weights(watch.best_weights)
    return Trained(
        history=tuple(watch.history),
        best_epoch=watch.best_epoch,
        stopped_early=watch.patience.exhausted and len(watch.history) < config.training.epochs,
        images_per_s=statistics.median(record.images_per_s for record in watch.history[1:] or watch.history),
        duration_s=time.perf_counter() - started,
    )


def make_optimizer(config: ExperimentConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Keras' optimizer of `optimizer.kind` under `schedule`.

    Weight decay is decoupled from the gradient under every kind (Loshchilov and Hutter, 2019) and, as Keras does by default,
    applies to every trainable weight, biases and normalization included.

    Raises:
        ConfigError: Momentum for an optimizer that has none; a warm-up as long as the training.
    """
    optimizer, rate = config.optimizer, make_learning_rate(config, steps_per_epoch)
    decay = optimizer.weight_decay or None
    if optimizer.kind in ("adam", "adamw") and optimizer.momentum > 0:
        raise ConfigError(
            f"optimizer.momentum={optimizer.momentum} has no effect with optimizer.kind={optimizer.kind}: "
            "set it to 0, or use optimizer=sgd or optimizer=rmsprop"
        )
    return _optimizer_of_kind(optimizer, rate, decay)


def make_learning_rate(config: ExperimentConfig, steps_per_epoch: int) -> float | keras.optimizers.schedules.CosineDecay:
    """The learning rate by step: constant or falling as a cosine, after a linear rise from 0 over `warmup_epochs`."""
    peak, schedule = config.optimizer.learning_rate, config.schedule
    if schedule.kind == "constant" and schedule.warmup_epochs == 0:
        return peak
    if schedule.warmup_epochs >= config.training.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={schedule.warmup_epochs} leaves nothing of training.epochs={config.training.epochs}: "
            "make the warm-up shorter than the training"
        )
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else peak,
        decay_steps=max(1, config.training.epochs * steps_per_epoch - warmup_steps),
        alpha=schedule.final_fraction if schedule.kind == "cosine" else 1.0,  # a cosine from 1 to 1 is constant
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def class_weights(class_counts: tuple[int, int]) -> dict[int, float]:
    """Weight of each label, n / (2 n_label): both classes weigh alike in the loss and the mean weight of an image is 1.

    Raises:
        ConfigError: A class has no training image.

    Example:
        >>> class_weights((1, 3))
        {0: 2.0, 1: 0.6666666666666666}
    """
    if min(class_counts) == 0:
        raise ConfigError("imbalance=class_weight needs training images of both classes, and one class has none")
    return {label: sum(class_counts) / (2 * count) for label, count in enumerate(class_counts)}


def logit_function(model: keras.Model) -> LogitFunction:
    """The model up to its layer `logit`, without dropout: images (k, size, size, 1) uint8 -> logits (k,) float64."""
    to_logit = keras.Model(model.input, model.get_layer("logit").output)

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.uint8)])  # type: ignore[untyped-decorator]
    def compute(images: tf.Tensor) -> tf.Tensor:
        return to_logit(images, training=False)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(compute(tf.constant(images)), dtype=np.float64)[:, 0]

    return predict


def save_model(model: keras.Model, path: Path) -> None:
    """Writes architecture and weights, without optimizer, as `path` (.keras); it appears when it is whole."""
    partial = path.with_name(f"{path.stem}.partial.keras")
    keras.Model(model.input, model.output, name=model.name).save(partial)
    partial.replace(path)


def load_model(path: Path) -> keras.Model:
    """The uncompiled model that `save_model` wrote; nothing in the file is executed.

    Raises:
        RunError: The file is missing, broken, unsafe, or not one of ours.
    """
    if not path.is_file():
        raise RunError(f"there is no model {path}")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is not a readable Keras model: {str(error).splitlines()[0]}") from error
    if "logit" not in [layer.name for layer in model.layers]:
        raise RunError(f"{path} has no layer `logit`: it was not written by this package")
    return model


def _optimizer_of_kind(optimizer: OptimizerConfig, rate: Any, decay: float | None) -> keras.optimizers.Optimizer:
    if optimizer.kind == "adam":
        return keras.optimizers.Adam(rate, weight_decay=decay)
    if optimizer.kind == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=optimizer.weight_decay)
    if optimizer.kind == "sgd":
        return keras.optimizers.SGD(rate, momentum=optimizer.momentum, weight_decay=decay)
    return keras.optimizers.RMSprop(rate, momentum=optimizer.momentum, weight_decay=decay)


@dataclass
class _Watch:
    """Listens to `fit`: times it, stops it, keeps the best weights, and tells the callers' functions."""

    model: keras.Model
    pipeline: Pipeline
    patience: Patience
    tell_epoch: Callable[[EpochRecord], None]
    tell_batch: Callable[[int, int], None] | None
    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: list[NDArray[np.float32]] = field(default_factory=list)
    epoch: int = 0
    epoch_began: float = 0.0
    batches_ended: float = 0.0

    def as_callback(self) -> keras.callbacks.Callback:
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=self.begin_epoch, on_train_batch_end=self.end_batch, on_epoch_end=self.end_epoch
        )

    def begin_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        self.epoch, self.epoch_began = epoch, time.perf_counter()

    def end_batch(self, step: int, logs: Mapping[str, float]) -> None:
        # `loss` is the mean over the epoch so far: it turns non-finite with the first batch that does
        self._require_finite("training loss", float(logs["loss"]), f"step {step} of {self.pipeline.steps_per_epoch}")
        self.batches_ended = time.perf_counter()
        if self.tell_batch is not None:
            self.tell_batch(self.epoch, step)

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        metrics = {name: float(logs[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        last_step = self.pipeline.steps_per_epoch - 1
        self._require_finite("validation loss", metrics["val_loss"], f"after step {last_step}")
        metrics["learning_rate"] = float(self.model.optimizer.learning_rate)
        if self.patience.update(val_loss=metrics["val_loss"], val_accuracy=metrics["val_accuracy"]):
            self.best_epoch, self.best_weights = epoch, self.model.get_weights()
        images_per_s = self.pipeline.num_train / (self.batches_ended - self.epoch_began)
        record = EpochRecord(epoch, metrics, time.perf_counter() - self.epoch_began, images_per_s)
        self.history.append(record)
        self.tell_epoch(record)
        self.model.stop_training = self.patience.exhausted

    def _require_finite(self, name: str, value: float, where: str) -> None:
        if not math.isfinite(value):
            rate = float(self.model.optimizer.learning_rate)
            raise TrainingError(
                f"the {name} became {value} in epoch {self.epoch}, {where} (both from 0), at learning rate {rate:g}: "
                f"try a smaller one, such as optimizer.learning_rate={rate / 10:g}"
            )
