"""The network: its size, its start, its saved file, and a net of the user's own."""

from __future__ import annotations

import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_experiments.config.schema import (
    DataConfig,
    DepthConfig,
    ExperimentConfig,
    ModelConfig,
    PoolingConfig,
    TrainingConfig,
)
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import ConfigError
from cxr_experiments.learning.model import build_model, matched_head
from cxr_experiments.learning.trainer import load_model, logit_function, save_model

# Keras 3.15 reads its variables with np.array, whose copy argument tf.Variable does not know yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DEPTHS = {
    "shallow": DepthConfig(filters=(16, 32, 64), convolutions=(2, 2, 2)),
    "standard": DepthConfig(),
    "deep": DepthConfig(convolutions=(3, 3, 3, 3, 4)),
}
SMALL = ExperimentConfig(
    data=DataConfig(image_size_px=32),
    depth=DepthConfig(filters=(4, 8), convolutions=(1, 1)),
    pooling=PoolingConfig("gap", 8),
)

CUSTOM_NET = '''"""Two strided convolutions and a maximum: a net of one's own in a few lines."""

import keras


def build(inputs, seed):
    """inputs: (n, size, size, 1) float in [0, 1]; returns (n, features)."""
    features = inputs
    for filters in (8, 16):
        start = keras.initializers.HeNormal(seed=seed + filters)
        features = keras.layers.Conv2D(filters, 3, strides=2, activation="relu", kernel_initializer=start)(features)
    return keras.layers.GlobalMaxPooling2D()(features)
'''


def model_of(config: ExperimentConfig) -> keras.Model:
    return build_model(config, resolve_seeds(config))


def num_by_hand(depth: DepthConfig, pooling: PoolingConfig) -> int:
    """Parameters counted from the layers' definitions, at 200 px, for gap, gmp and flatten."""
    total, channels, side_px = 0, 1, 200
    for filters, num_convolutions in zip(depth.filters, depth.convolutions, strict=True):
        for _ in range(num_convolutions):
            total += 9 * channels * filters + 4 * filters  # kernel; gamma, beta, moving mean, moving variance
            channels = filters
        side_px //= 2
    length = channels * side_px**2 if pooling.kind == "flatten" else channels
    return total + (length + 1) * pooling.dense_units + pooling.dense_units + 1


def images_of(num_images: int, size_px: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_images, size_px, size_px, 1), dtype=np.uint8)


def builder_config(tmp_path: Path, source: str, function: str = "build") -> ExperimentConfig:
    path = tmp_path / "my_net.py"
    path.write_text(source)
    return replace(SMALL, model=ModelConfig(builder=f"{path}:{function}"))


def test_standard_model_has_the_parameters_that_the_design_states() -> None:
    assert model_of(ExperimentConfig()).count_params() == 1_838_353


@pytest.mark.parametrize("kind", ["gap", "gmp", "flatten"])
@pytest.mark.parametrize("depth", list(DEPTHS))
def test_parameters_agree_with_a_count_by_hand(depth: str, kind: str) -> None:
    config = ExperimentConfig(depth=DEPTHS[depth], pooling=PoolingConfig(kind))
    assert model_of(config).count_params() == num_by_hand(config.depth, config.pooling)


@pytest.mark.parametrize("depth", list(DEPTHS))
def test_matched_flatten_has_the_parameters_of_gap_within_a_tenth(depth: str) -> None:
    gap = num_by_hand(DEPTHS[depth], PoolingConfig("gap"))
    matched = model_of(ExperimentConfig(depth=DEPTHS[depth], pooling=PoolingConfig("flatten_matched"))).count_params()
    assert matched == pytest.approx(gap, rel=0.1)


def test_matched_head_counts_biases_and_the_logit() -> None:
    head = matched_head(6, 6, 256, 256)
    parameters = 257 * head.channels + (36 * head.channels + 1) * head.units + head.units + 1
    assert parameters == pytest.approx(256 * 256 + 256 + 257, rel=0.01)


def test_layers_stand_in_the_order_of_the_design() -> None:
    names = [layer.name for layer in model_of(ExperimentConfig()).layers]
    assert names[:6] == ["image", "rescale", "block1_conv1", "block1_norm1", "block1_relu1", "block1_conv2"]
    assert names[-8:] == [
        "block5_norm3", "block5_relu3", "block5_pool", "pooling", "hidden", "dropout", "logit", "probability"
    ]  # fmt: skip


def test_model_takes_uint8_and_gives_float32_probabilities() -> None:
    model = model_of(SMALL)
    probability = model(images_of(3)).numpy()
    assert model.input.dtype == "uint8"
    assert probability.shape == (3, 1)
    assert probability.dtype == np.float32
    assert ((probability > 0) & (probability < 1)).all()


def test_rescaling_stands_inside_the_model() -> None:
    model = model_of(SMALL)
    scaled = keras.Model(model.input, model.get_layer("rescale").output)(np.full((1, 32, 32, 1), 255, np.uint8))
    assert scaled.numpy().max() == pytest.approx(1.0)


def test_same_seed_starts_with_the_same_weights_and_another_seed_does_not() -> None:
    first, again = model_of(SMALL).get_weights(), model_of(SMALL).get_weights()
    other = model_of(replace(SMALL, seed=1)).get_weights()
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_layers_of_equal_shape_start_with_different_weights() -> None:
    model = model_of(replace(SMALL, depth=DepthConfig(filters=(4,), convolutions=(3,))))
    second, third = (model.get_layer(f"block1_conv{number}").get_weights()[0] for number in (2, 3))
    assert not np.array_equal(second, third)


def test_bfloat16_is_the_model_s_own_choice_and_ends_in_float32() -> None:
    before = keras.config.dtype_policy().name
    model = model_of(replace(SMALL, training=TrainingConfig(precision="mixed_bfloat16")))
    assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
    assert model.get_layer("logit").compute_dtype == "float32"
    assert model(images_of(1)).dtype.name == "float32"
    assert keras.config.dtype_policy().name == before


@pytest.mark.parametrize("kind", ["gap", "gmp", "flatten", "flatten_matched"])
def test_saved_model_gives_the_same_logits_and_holds_no_custom_object(tmp_path: Path, kind: str) -> None:
    model, images = model_of(replace(SMALL, pooling=PoolingConfig(kind, 8))), images_of(5)
    save_model(model, tmp_path / "model.keras")
    assert np.array_equal(logit_function(load_model(tmp_path / "model.keras"))(images), logit_function(model)(images))
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    written = zipfile.ZipFile(tmp_path / "model.keras").read("config.json").decode()
    assert "cxr_experiments" not in written
    assert "Lambda" not in written
    assert '"registered_name": "' not in written.replace('"registered_name": "Functional"', "")
    assert not json.loads(written)["compile_config"]


def test_too_small_an_image_names_the_smallest_that_fits() -> None:
    with pytest.raises(ConfigError, match=r"data.image_size_px=16 is too small for 5 blocks.*data.image_size_px=32"):
        model_of(ExperimentConfig(data=DataConfig(image_size_px=16)))


def test_smallest_image_that_fits_is_built() -> None:
    assert model_of(ExperimentConfig(data=DataConfig(image_size_px=32))).output.shape == (None, 1)


def test_depth_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="one entry per block in both"):
        model_of(replace(SMALL, depth=DepthConfig(filters=(4, 8), convolutions=(1,))))


def test_own_net_of_under_thirty_lines_is_built_and_saved(tmp_path: Path) -> None:
    assert len(CUSTOM_NET.splitlines()) < 30
    model, images = model_of(builder_config(tmp_path, CUSTOM_NET)), images_of(4)
    assert model.get_layer("logit").input.shape == (None, 16)
    save_model(model, tmp_path / "model.keras")
    (tmp_path / "my_net.py").unlink()
    assert np.array_equal(logit_function(load_model(tmp_path / "model.keras"))(images), logit_function(model)(images))


def test_own_net_without_seeds_starts_alike_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    source = (
        "import keras\ndef build(inputs, seed):\n    return keras.layers.Dense(4)(keras.layers.Flatten()(inputs))\n"
    )
    config = builder_config(tmp_path, source)
    state = random.getstate()
    first = model_of(config).get_weights()
    assert random.getstate() == state
    random.random()
    assert np.array_equal(first[0], model_of(config).get_weights()[0])


def test_own_net_computes_in_the_precision_of_the_run(tmp_path: Path) -> None:
    config = replace(builder_config(tmp_path, CUSTOM_NET), training=TrainingConfig(precision="mixed_bfloat16"))
    model = model_of(config)
    assert model.layers[2].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import keras\ndef biuld(inputs, seed): pass", "did you mean biuld?"),
        ("x = 1", "has no function build; its functions: none"),
        ("def build(inputs): pass", r"build\(inputs\) must take two arguments, \(inputs, seed\)"),
        ("def build(inputs, seed):\n    return 1 / 0", r"my_net.py, line 2: ZeroDivisionError"),
        ("import nothing_like_this", r"my_net.py, line 1: ModuleNotFoundError"),
        ("def build(inputs, seed)\n    pass", "SyntaxError"),
        ("def build(inputs, seed):\n    return inputs", r"shape \(None, 32, 32, 1\); expected .*\(batch, features\)"),
        ("def build(inputs, seed):\n    return None", "returned None; expected"),
        (
            "import keras\ndef build(inputs, seed):\n    return keras.Input((4,))",
            "a tensor that was not made from its inputs",
        ),
        (
            "import keras\ndef build(inputs, seed):\n"
            "    return keras.layers.Lambda(lambda x: x[:, 0, :, 0], output_shape=(32,))(inputs)",
            "Lambda, which a saved model cannot carry safely",
        ),
        (
            "import keras\nclass Own(keras.layers.Flatten): pass\ndef build(inputs, seed):\n    return Own()(inputs)",
            r"model_builder_my_net.Own, which a saved model cannot carry safely",
        ),
        (
            "import keras\ndef mine(x):\n    return x * 2\ndef build(inputs, seed):\n"
            "    return keras.layers.Dense(4, activation=mine)(keras.layers.Flatten()(inputs))",
            "uses a function or an object of your own, which a saved model cannot carry safely",
        ),
    ],
)
def test_own_net_that_cannot_be_used_says_why(tmp_path: Path, source: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        model_of(builder_config(tmp_path, source))


@pytest.mark.parametrize("spec", ["my_net.py", "my_net:build", "my_net.py:", "my_net.py:a b"])
def test_builder_of_another_form_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"not of the form FILE.py:FUNCTION"):
        model_of(replace(SMALL, model=ModelConfig(builder=spec)))


def test_missing_builder_file_is_named_in_full(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"there is no file {tmp_path / 'absent.py'}"):
        model_of(replace(SMALL, model=ModelConfig(builder=f"{tmp_path / 'absent.py'}:build")))
