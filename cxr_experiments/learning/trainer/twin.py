"""A network -> the compiled twin that is fitted in its place; a sweep takes that of the run before once more."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import ConfigError
from cxr_experiments.learning.devices import MeanOverImages, device_scope, mirrored_twin, num_replicas
from cxr_experiments.learning.fused_normalization import fused_twin
from cxr_experiments.learning.traced import forget_answers, graph_of
from cxr_experiments.learning.trainer.optimizer import make_optimizer


@dataclass(frozen=True)
class _Compiled:
    """A twin and what its traced steps depend on."""

    graph: tuple[Any, ...]
    num_steps: int
    twin: keras.Model


# One at most, and process-wide: what is saved is work between two runs of a sweep, which know nothing of each other.
_kept: list[_Compiled] = []


def compiled_twin(model: keras.Model, config: ExperimentConfig, steps_per_epoch: int) -> keras.Model:
    """A twin of `model` with its weights and its seeds of dropout, compiled, at the start of a training.

    It is fused, or made for several devices.

    To build it and trace its steps takes seconds, longer than a short training.  So a twin that `keep_twin` has kept is
    set to the beginning instead where the graph is the same: where runs differ in seeds, images or augmentation alone.

    Args:
        model: as `build_model` gives it, all of its layers trainable.
        config: checked; a network of one's own is always compiled anew.
        steps_per_epoch: the schedule counts in them.

    Raises:
        ConfigError: options of optimizer and schedule that contradict each other; a network of one's own that takes
            images of one size alone, under resolution=progressive.
    """
    if twin_is_kept(config) and _kept[0].num_steps == _steps_of_schedule(config, steps_per_epoch):
        twin = _kept.pop().twin  # back again when this training, too, has come to its end
        _set_to_beginning(twin, model)
        return twin
    forget_twin()
    # whatever draws without a seed of its own (the layers of a custom builder) repeats from run to run
    keras.utils.set_random_seed(resolve_seeds(config).init)
    with device_scope(config.training):
        twin = _twin(model, config)
        twin.compile(
            optimizer=make_optimizer(config, steps_per_epoch),
            loss=MeanOverImages(label_smoothing=config.training.label_smoothing),
            metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
            jit_compile=False,
        )
        twin.optimizer.build(twin.trainable_variables)  # left to the first step, they would have it traced twice
    return twin


def keep_twin(twin: keras.Model, config: ExperimentConfig, steps_per_epoch: int) -> None:
    """After a training that came to its end: the next one of the same graph may take the twin over."""
    if config.model.builder is None:
        _kept[:] = [_Compiled(_graph_of(config), _steps_of_schedule(config, steps_per_epoch), twin)]


def twin_is_kept(config: ExperimentConfig) -> bool:
    """Whether a twin of this graph is there.

    The kernels of its traced steps are gone once Keras' session is cleared or the process-wide seed is set.
    """
    return bool(_kept) and _kept[0].graph == _graph_of(config)


def forget_twin() -> None:
    """Give back what a kept twin and kept answers hold; a compiled model is a cycle, which no reference count frees."""
    forget_answers()
    if _kept:
        _kept.clear()
        gc.collect()


def _graph_of(config: ExperimentConfig) -> tuple[Any, ...]:
    """All that the traced steps depend on but the length of an epoch."""
    return graph_of(config), config.optimizer, config.schedule, config.averaging, config.resolution, config.training


def _steps_of_schedule(config: ExperimentConfig, steps_per_epoch: int) -> int:
    """The steps of an epoch, or 0 where the learning rate does not depend on them."""
    constant = config.schedule.kind == "constant" and config.schedule.warmup_epochs == 0
    return 0 if constant else steps_per_epoch


def _set_to_beginning(twin: keras.Model, model: keras.Model) -> None:
    """Weights and seeds of dropout as in `model`, an optimizer that has made no step."""
    for kept, given in zip(twin.variables, model.variables, strict=True):
        kept.assign(given)
    rate = twin.optimizer.learning_rate  # a variable where it is constant: it stays
    for variable in twin.optimizer.variables:
        if variable is not rate:
            variable.assign(tf.zeros(variable.shape, variable.dtype))  # as Keras makes them


def _twin(model: keras.Model, config: ExperimentConfig) -> keras.Model:
    any_size = config.resolution.kind == "progressive"
    make = mirrored_twin if num_replicas(config.training) > 1 else fused_twin
    try:
        return make(model, any_size=any_size)
    except ValueError as error:
        if not any_size:
            raise
        raise ConfigError(
            "resolution=progressive trains on images of several sizes, and the network of model.builder="
            f"{config.model.builder} takes one: {str(error).splitlines()[0]}"
        ) from error
