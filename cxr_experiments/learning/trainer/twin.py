"""A network -> the compiled twin that is fitted in its place; a sweep takes that of the run before once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import Seeds
from cxr_experiments.errors import ConfigError
from cxr_experiments.learning.fused_normalization import fused_twin
from cxr_experiments.learning.trainer.optimizer import make_optimizer


@dataclass(frozen=True)
class _Compiled:
    """A twin and what its traced steps depend on."""

    graph: tuple[Any, ...]
    steps_per_epoch: int
    twin: keras.Model


_latest: list[_Compiled] = []  # one at most


def twin_is_ready(config: ExperimentConfig) -> bool:
    """Whether the training before was of the same graph, so that its twin can be trained again.

    The kernels of its traced steps are gone once Keras' session is cleared or the process-wide seed is set.
    """
    return bool(_latest) and _latest[0].graph == _graph_of(config)


def compiled_twin(model: keras.Model, config: ExperimentConfig, seeds: Seeds, steps_per_epoch: int) -> keras.Model:
    """A fused twin of `model` with its weights and its seeds of dropout, compiled, at the start of a training.

    To build it and trace its steps takes seconds, longer than a short training.  So the twin of the training before is
    set to the beginning instead where the graph is the same: where runs differ in seeds, images or augmentation alone.

    Raises:
        ConfigError: options of optimizer and schedule that contradict each other; a network of one's own that takes
            images of one size alone, under resolution=progressive.
    """
    if twin_is_ready(config) and _latest[0].steps_per_epoch == steps_per_epoch:
        _set_to_beginning(_latest[0].twin, model)
        return _latest[0].twin
    _latest.clear()  # before another one is built: two would be held at once
    # whatever draws without a seed of its own (the layers of a custom builder) repeats from run to run
    keras.utils.set_random_seed(seeds.init)
    twin = _twin(model, config)
    twin.compile(
        optimizer=make_optimizer(config, steps_per_epoch),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=config.training.label_smoothing),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
        jit_compile=False,
    )
    twin.optimizer.build(twin.trainable_variables)  # left to the first step, they would have it traced twice
    if config.model.builder is None:
        _latest.append(_Compiled(_graph_of(config), steps_per_epoch, twin))
    return twin


def _graph_of(config: ExperimentConfig) -> tuple[Any, ...]:
    architecture = (config.data.image_size_px, config.depth, config.pooling, config.model)
    learning = (config.optimizer, config.schedule, config.averaging, config.resolution, config.training)
    return (*architecture, *learning)


def _set_to_beginning(twin: keras.Model, model: keras.Model) -> None:
    """Weights and seeds of dropout as in `model`, an optimizer that has made no step."""
    for kept, given in zip(twin.variables, model.variables, strict=True):
        kept.assign(given)
    rate = getattr(twin.optimizer, "_learning_rate", None)  # a variable where it is constant: it stays
    for variable in twin.optimizer.variables:
        if variable is not rate:
            variable.assign(tf.zeros(variable.shape, variable.dtype))  # as Keras makes them


def _twin(model: keras.Model, config: ExperimentConfig) -> keras.Model:
    any_size = config.resolution.kind == "progressive"
    try:
        return fused_twin(model, any_size=any_size)
    except ValueError as error:
        if not any_size:
            raise
        raise ConfigError(
            "resolution=progressive trains on images of several sizes, and the network of model.builder="
            f"{config.model.builder} takes one: {str(error).splitlines()[0]}"
        ) from error
