"""compile, fit, stop: the one training loop, and what watches it."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import RunError, TrainingError
from cxr_experiments.learning.devices import num_replicas, start_devices
from cxr_experiments.learning.pipeline import Pipeline
from cxr_experiments.learning.trainer.batch_norm import PreciseBatchNorm
from cxr_experiments.learning.trainer.optimizer import class_weights
from cxr_experiments.learning.trainer.records import EpochRecord, StepRecord, Trained
from cxr_experiments.learning.trainer.states import latest_state, told_of, write_state
from cxr_experiments.learning.trainer.twin import compiled_twin, forget_twin, keep_twin, twin_is_kept


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


def start_tensorflow(config: ExperimentConfig) -> tuple[str, ...]:
    """Prepares the process for one run, before its model is built: devices, determinism, nothing of an earlier run.

    Keras' session is cleared unless the run can take over the traced steps of the one before: they go with it.
    Op determinism, once on, stays on for the process: in a sweep that mixes both, later runs are deterministic too.

    Returns:
        The names of the devices that will train.

    Raises:
        ConfigError: they are not there, or cannot share a batch evenly.
    """
    devices = start_devices(config.training)
    if twin_is_kept(config):
        gc.collect()  # what the run before has left
    else:
        forget_twin()
        keras.backend.clear_session()
        # forgotten with the session; without it, checking a saved model draws a bar
        keras.config.disable_interactive_logging()
    if config.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    return devices


def train_model(
    model: keras.Model,
    pipeline: Pipeline,
    config: ExperimentConfig,
    on_epoch_end: Sequence[Callable[[EpochRecord], None]] = (),
    on_batch_end: Callable[[StepRecord], None] = lambda record: None,
    states: Path | None = None,
) -> Trained:
    """Trains `model`; at the end it holds the weights of the epoch that `training.keep` names.

    What is fitted is its twin with fused batch normalization, which computes the same faster.  With a folder of states
    the training goes on behind the last epoch that an earlier process left there, and ends bit for bit as if it had
    never been stopped.

    Args:
        model: Uncompiled, as `build_model` gives it.
        pipeline: Batches of all epochs, and of validation.
        config: Checked configuration; all that concerns the training is read.
        on_epoch_end: Each is called after each epoch's validation; for those before a resumption, at its start.
        on_batch_end: Called after each training step.
        states: Where the whole state is kept at the end of each epoch; nowhere without.

    Raises:
        ConfigError: Options of optimizer and schedule that contradict each other; batch_norm=precise without any.
        TrainingError: The loss is not finite; names epoch and step.
        RunError: The state left is of another network, or one cannot be written.
    """
    twin = compiled_twin(model, config, pipeline.steps_per_epoch)
    watch = _Watch(twin, pipeline, config, on_epoch_end, on_batch_end, states)
    # ahead of the watch: at the end of an epoch the watch finds the averaged weights in the model
    averaging = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if config.averaging.kind == "ema" else []
    # behind the averaging: what is measured belongs to the weights that are validated
    measuring = [PreciseBatchNorm(twin, pipeline.as_used)] if config.batch_norm.kind == "precise" else []
    for callback in averaging if watch.take_up() else ():
        callback._ema_weights_in_model = True  # as they are at the end of an epoch; the next one swaps them back
    if not watch.is_over:
        twin.fit(
            pipeline.train_from(len(watch.history)),
            initial_epoch=len(watch.history),
            epochs=config.training.epochs,
            steps_per_epoch=pipeline.steps_per_epoch,
            validation_data=pipeline.val,
            class_weight=class_weights(pipeline.class_counts) if config.imbalance.kind == "class_weight" else None,
            callbacks=[*averaging, *measuring, watch.as_callback()],
            shuffle=False,
            verbose=0,
        )
    model.set_weights(watch.kept_weights)
    keep_twin(twin, config, pipeline.steps_per_epoch)
    return Trained(
        history=tuple(watch.history),
        best_epoch=watch.kept_epoch,
        stopped_early=watch.patience.exhausted and len(watch.history) < config.training.epochs,
        images_per_s=statistics.median(record.images_per_s for record in watch.history[1:] or watch.history),
        duration_s=sum(record.duration_s for record in watch.history),
        num_devices=num_replicas(config.training),
    )


@dataclass
class _Watch:
    """Listens to `fit`: times it, stops it, keeps the weights asked for, and tells the callers' functions."""

    model: keras.Model
    pipeline: Pipeline
    config: ExperimentConfig
    tell_epoch: Sequence[Callable[[EpochRecord], None]]
    tell_batch: Callable[[StepRecord], None]
    states: Path | None = None
    history: list[EpochRecord] = field(default_factory=list)
    kept_epoch: int = 0
    kept_weights: list[NDArray[np.float32]] = field(default_factory=list)
    epoch: int = 0
    epoch_began: float = 0.0
    training_s: float = 0.0

    def __post_init__(self) -> None:
        self.patience = Patience(self.config.training.patience)

    def as_callback(self) -> keras.callbacks.Callback:
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=self.begin_epoch, on_train_batch_end=self.end_batch, on_epoch_end=self.end_epoch
        )

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to train."""
        return self.patience.exhausted or len(self.history) >= self.config.training.epochs

    def take_up(self) -> bool:
        """Set model, optimizer and this to the last state that was left; False when there is none."""
        found = latest_state(self.states) if self.states else None
        if found is None:
            return False
        for group, given in ((self._variables(), found.variables), (self.model.weights, found.kept_weights)):
            if [tuple(one.shape) for one in group] != [one.shape for one in given]:
                raise RunError(
                    f"the state of epoch {len(found.history)} in {self.states} is of another network: "
                    "remove the folder to begin anew"
                )
        for variable, value in zip(self._variables(), found.variables, strict=True):
            variable.assign(value)
        self.history, self.kept_epoch, self.kept_weights = (
            list(found.history),
            found.kept_epoch,
            list(found.kept_weights),
        )
        self.patience = Patience(self.config.training.patience, *found.patience)
        for record in self.history:
            self._tell(record)
        return True

    def begin_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        self.epoch, self.epoch_began = epoch, time.perf_counter()

    def end_batch(self, step: int, logs: Mapping[str, float]) -> None:
        # `loss` is the mean over the epoch so far: it turns non-finite with the first batch that does
        num_steps, loss = self.pipeline.steps_per_epoch, float(logs["loss"])
        self._require_finite("training loss", loss, f"step {step} of {num_steps}")
        self.training_s = time.perf_counter() - self.epoch_began
        # the last batch may be shorter, so the images are counted as a share of all
        images_per_s = self.pipeline.num_train * (step + 1) / num_steps / self.training_s
        self.tell_batch(StepRecord(self.epoch, step, num_steps, loss, images_per_s))

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        metrics = {name: float(logs[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        last_step = self.pipeline.steps_per_epoch - 1
        self._require_finite("validation loss", metrics["val_loss"], f"after step {last_step}")
        # through text: 0.001, not the 0.0010000000474974513 that float32 makes of it
        metrics["learning_rate"] = float(str(np.float32(self.model.optimizer.learning_rate)))
        lowest = self.patience.update(val_loss=metrics["val_loss"], val_accuracy=metrics["val_accuracy"])
        if lowest or self.config.training.keep == "last":
            self.kept_epoch, self.kept_weights = epoch, self.model.get_weights()
        images_per_s = self.pipeline.num_train / self.training_s
        record = EpochRecord(epoch, metrics, time.perf_counter() - self.epoch_began, images_per_s)
        self.history.append(record)
        if self.states:
            watched = (self.patience.best_loss, self.patience.best_accuracy, self.patience.waited)
            told = told_of(self.history, self.kept_epoch, watched)
            write_state(self.states, told, self._variables(), self.kept_weights)
        self._tell(record)
        self.model.stop_training = self.patience.exhausted

    def _variables(self) -> list[keras.Variable]:
        """Of the network, seeds of dropout included, and of its optimizer."""
        return [*self.model.variables, *self.model.optimizer.variables]

    def _tell(self, record: EpochRecord) -> None:
        for tell in self.tell_epoch:
            tell(record)

    def _require_finite(self, name: str, value: float, where: str) -> None:
        if not math.isfinite(value):
            rate = self.config.optimizer.learning_rate
            raise TrainingError(
                f"the {name} became {value} in epoch {self.epoch}, {where} (both counted from 0), with "
                f"optimizer.learning_rate={rate:g}: try a smaller one, such as {rate / 10:g}"
            )
