"""Depth + pooling (or a builder of the user's own) -> an uncompiled keras.Model on uint8 gray images.

Comes in: the checked config and the seeds.  Goes out: a functional model of Keras' own layers alone (no custom object,
no Lambda), so that a saved file opens anywhere without this package.  It rescales its input itself.  Compiling and
fitting is `trainer`'s.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from cxr_experiments.config.machine import refusal
from cxr_experiments.config.schema import DepthConfig, ExperimentConfig, PoolingConfig
from cxr_experiments.config.seeds import Seeds, derive
from cxr_experiments.errors import ConfigError
from cxr_experiments.learning.model_file import strange_objects

Builder = Callable[[Any, int], Any]


@dataclass(frozen=True)
class MatchedHead:
    """A flatten head of about the size of gap's: 1x1 convolution to `channels`, flatten, Dense `units`."""

    channels: int
    units: int


def build_model(config: ExperimentConfig, seeds: Seeds) -> keras.Model:
    """The run's network, uncompiled, with weights drawn from `seeds.init` and dropout from `seeds.dropout`.

    Args:
        config: Checked configuration; `data.image_size_px`, `depth`, `pooling`, `model`, `training.precision` are read.
        seeds: The run's seeds.

    Returns:
        A model (n, size, size, 1) uint8 in [0, 255] -> (n, 1) float32, P(positive class), whose last but one layer is
        named `logit`.  The global dtype policy and the global random state are left as they were.

    Raises:
        ConfigError: The image is too small for the depth, or `model.builder` cannot be used.
    """
    size_px = config.data.image_size_px
    inputs = keras.Input((size_px, size_px, 1), dtype="uint8", name="image")
    # float32 under every policy: 255 * (1 / 255) is not 1 in bfloat16
    scaled = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescale")(inputs)
    if config.model.builder is None:
        policy = keras.DTypePolicy(config.training.precision)
        features = _blocks(scaled, config.depth, seeds.init, policy)
        features = _head(features, config.pooling, seeds, policy)
    else:
        features = _custom_features(scaled, config, seeds)
    initializer = _glorot(seeds.init, "logit")
    logit = keras.layers.Dense(1, dtype="float32", kernel_initializer=initializer, name="logit")(features)
    probability = keras.layers.Activation("sigmoid", dtype="float32", name="probability")(logit)
    return keras.Model(inputs, probability, name="cxr")


def matched_head(height: int, width: int, num_channels: int, dense_units: int) -> MatchedHead:
    """The flatten head whose parameters come nearest to those of the global-average head.

    Channels are chosen so that a hidden layer of about `dense_units` fits, then the units are solved for, biases and
    the logit layer counted in.

    Args:
        height, width, num_channels: Shape of the last feature map.
        dense_units: Units of gap's hidden dense layer.

    Example:
        >>> matched_head(6, 6, 256, 256)
        MatchedHead(channels=7, units=253)
    """
    wanted = num_channels * dense_units + 2 * dense_units + 1  # dense with bias, then Dense 1 with bias
    channels = max(1, round(wanted / (height * width * dense_units)))
    left = wanted - 1 - (num_channels + 1) * channels
    return MatchedHead(channels, max(1, round(left / (height * width * channels + 2))))


def _glorot(seed: int, layer: str) -> keras.initializers.Initializer:
    """Keras' default initializer with a seed per layer: the same layer starts alike whatever stands around it."""
    return keras.initializers.GlorotUniform(seed=derive(seed, layer))


def _blocks(inputs: Any, depth: DepthConfig, seed: int, policy: keras.DTypePolicy) -> Any:
    """n x (Conv2D 3x3, BatchNormalization, ReLU) then MaxPooling 2, per block."""
    if len(depth.filters) != len(depth.convolutions):
        raise ConfigError(
            f"depth.filters={list(depth.filters)} and depth.convolutions={list(depth.convolutions)} differ in length: "
            "give one entry per block in both"
        )
    smallest_px = 2 ** len(depth.filters)
    if inputs.shape[1] < smallest_px:
        raise ConfigError(
            f"data.image_size_px={inputs.shape[1]} is too small for {len(depth.filters)} blocks, each of which halves "
            f"the image: use at least data.image_size_px={smallest_px}, or fewer blocks (depth=shallow)"
        )
    features = inputs
    for block, (filters, num_convolutions) in enumerate(zip(depth.filters, depth.convolutions, strict=True), start=1):
        for layer in range(1, num_convolutions + 1):
            name = f"block{block}_conv{layer}"
            # no bias: the normalization behind it has one
            features = keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=False,
                dtype=policy,
                kernel_initializer=_glorot(seed, name),
                name=name,
            )(features)
            features = keras.layers.BatchNormalization(dtype=policy, name=f"block{block}_norm{layer}")(features)
            features = keras.layers.ReLU(dtype=policy, name=f"block{block}_relu{layer}")(features)
        features = keras.layers.MaxPooling2D(2, dtype=policy, name=f"block{block}_pool")(features)
    return features


def _head(features: Any, pooling: PoolingConfig, seeds: Seeds, policy: keras.DTypePolicy) -> Any:
    """Feature map (n, h, w, c) -> hidden vector (n, units): pooling, Dense, ReLU, Dropout."""
    units = pooling.dense_units
    if pooling.kind == "gap":
        features = keras.layers.GlobalAveragePooling2D(dtype=policy, name="pooling")(features)
    elif pooling.kind == "gmp":
        features = keras.layers.GlobalMaxPooling2D(dtype=policy, name="pooling")(features)
    else:
        if pooling.kind == "flatten_matched":
            _, height, width, num_channels = features.shape
            head = matched_head(height, width, num_channels, units)
            units = head.units
            features = keras.layers.Conv2D(
                head.channels, 1, dtype=policy, kernel_initializer=_glorot(seeds.init, "squeeze"), name="squeeze"
            )(features)
        features = keras.layers.Flatten(dtype=policy, name="pooling")(features)
    features = keras.layers.Dense(
        units, activation="relu", dtype=policy, kernel_initializer=_glorot(seeds.init, "hidden"), name="hidden"
    )(features)
    return keras.layers.Dropout(pooling.dropout, seed=seeds.dropout, dtype=policy, name="dropout")(features)


def _custom_features(inputs: Any, config: ExperimentConfig, seeds: Seeds) -> Any:
    """What the user's builder makes of the scaled images, checked: (n, features), Keras' own layers alone."""
    spec = str(config.model.builder)
    path, builder = _load_builder(spec)
    with _surroundings(config.training.precision, seeds.init):
        try:
            features = builder(inputs, seeds.init)
        except Exception as error:
            if refusal(error):
                raise  # no mistake in the file
            raise ConfigError(f"model.builder={spec}: {_place(error, path)}{type(error).__name__}: {error}") from error
        if not isinstance(features, keras.KerasTensor) or len(features.shape) != 2 or features.shape[1] is None:
            what = f"a tensor of shape {features.shape}" if isinstance(features, keras.KerasTensor) else repr(features)
            raise ConfigError(
                f"model.builder={spec} returned {what}; expected a Keras tensor of shape (batch, features), "
                "for example from GlobalAveragePooling2D"
            )
        _refuse_custom_objects(inputs, features, spec)
    return features


@contextmanager
def _surroundings(precision: str, seed: int) -> Iterator[None]:
    """The dtype policy of the run, and repeatable seeds for layers that were given none; both put back afterwards."""
    policy_before, state_before = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(precision)
    random.seed(seed)  # Keras draws default seeds from Python's own generator
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy_before)
        random.setstate(state_before)


def _load_builder(spec: str) -> tuple[Path, Builder]:
    """The function that FILE.py:FUNCTION names, and its file."""
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ConfigError(f"model.builder={spec} is not of the form FILE.py:FUNCTION, for example my_net.py:build")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"model.builder={spec}: there is no file {path}")
    module = _run_file(path, spec)
    builder = getattr(module, name, None)
    if not inspect.isfunction(builder):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; its functions: {', '.join(names) or 'none'}"
        raise ConfigError(f"model.builder={spec}: {path} has no function {name}{hint}")
    try:
        inspect.signature(builder).bind(None, 0)
    except TypeError as error:
        signature = f"{name}{inspect.signature(builder)}"
        raise ConfigError(f"model.builder={spec}: {signature} must take two arguments, (inputs, seed)") from error
    return path, builder


def _run_file(path: Path, spec: str) -> ModuleType:
    """The user's file, imported under a name of its own."""
    found = importlib.util.spec_from_file_location(f"model_builder_{path.stem}", path)
    if found is None or found.loader is None:
        raise ConfigError(f"model.builder={spec}: Python cannot import {path}")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"model.builder={spec}: {_place(error, path)}{type(error).__name__}: {error}") from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """`FILE, line N: ` of the last frame of `error` that stands in the user's file, or nothing."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f"{path}, line {lines[-1]}: " if lines else ""


def _refuse_custom_objects(inputs: Any, features: Any, spec: str) -> None:
    """ConfigError unless everything is Keras' own: the saved model must open without the user's file, safely."""
    try:
        model = keras.Model(inputs, features)
    except ValueError as error:
        raise ConfigError(f"model.builder={spec} returned a tensor that was not made from its inputs") from error
    mend = "which a saved model cannot carry safely: build it from Keras' own layers and functions alone"
    for layer in model._flatten_layers():
        kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
        if not kind.startswith("keras.") or isinstance(layer, keras.layers.Lambda):
            raise ConfigError(f"model.builder={spec}: layer {layer.name} is a {kind}, {mend}")
    try:
        serialized = keras.saving.serialize_keras_object(model)
        for strange in strange_objects(json.loads(json.dumps(serialized))):
            raise ConfigError(f"model.builder={spec} uses {strange}, {mend}")
        keras.saving.deserialize_keras_object(serialized)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.builder={spec} uses a function or an object of your own, {mend}") from error
