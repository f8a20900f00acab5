"""Heat maps: complete, repeatable, of any network we build, and at the lesion once a network has learnt."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_experiments.config.schema import (
    DataConfig,
    DepthConfig,
    ExperimentConfig,
    ModelConfig,
    PoolingConfig,
    TrainingConfig,
)
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.errors import RunError
from cxr_experiments.images.marker import plant
from cxr_experiments.learning import heatmap
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.trainer import load_model, logit_function, save_model

# Keras 3.15 reads its variables with np.array, whose copy argument tf.Variable does not know yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SMALL = ExperimentConfig(
    seed=1,  # whose weights find evidence in noise
    data=DataConfig(image_size_px=32),
    depth=DepthConfig(filters=(4, 8), convolutions=(1, 1)),
    pooling=PoolingConfig("gap", 8),
)
DEPTHS = {
    "shallow": DepthConfig(filters=(16, 32, 64), convolutions=(2, 2, 2)),
    "standard": DepthConfig(),
    "deep": DepthConfig(convolutions=(3, 3, 3, 3, 4)),
}
BUILDERS = {
    "no_map": "def build(inputs, seed):\n    return keras.layers.Dense(4)(keras.layers.Flatten()(inputs))\n",
    "rounded": "def build(inputs, seed):\n    return keras.ops.round(keras.layers.Flatten()(inputs))\n",
}


def model_of(config: ExperimentConfig) -> keras.Model:
    return build_model(config, resolve_seeds(config))


def films(num_images: int, size_px: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_images, size_px, size_px, 1), dtype=np.uint8)


def custom(tmp_path: Path, name: str) -> ExperimentConfig:
    path = tmp_path / f"{name}.py"
    path.write_text(f"import keras\n\n\n{BUILDERS[name]}")
    return replace(SMALL, model=ModelConfig(builder=f"{path}:build"))


@pytest.mark.parametrize("kind", ["gap", "flatten", "flatten_matched", "gmp"])
def test_every_pooling_has_heat(kind: str) -> None:
    model = model_of(replace(SMALL, pooling=PoolingConfig(kind, 8)))
    check_heat(heatmap.heat_function(model)(films(3)))


@pytest.mark.parametrize(
    ("depth", "precision"), [("shallow", "mixed_bfloat16"), ("standard", "mixed_bfloat16"), ("deep", "float32")]
)
def test_every_depth_has_heat_in_either_precision(depth: str, precision: str) -> None:
    model = model_of(replace(SMALL, depth=DEPTHS[depth], training=TrainingConfig(precision=precision)))
    check_heat(heatmap.heat_function(model)(films(2)))


def check_heat(heat: np.ndarray) -> None:
    assert heat.shape[1:] == (32, 32)
    assert heat.dtype == np.float32
    assert np.isfinite(heat).all()
    assert (heat >= 0).all()
    assert (heat.max(axis=(1, 2)) > 0).any()


def test_evidence_adds_up_to_the_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a neighbourhood of one pixel and nothing cut off, the sum is the logit less that of a black film."""
    model = model_of(SMALL)
    images = films(3)
    signed = []
    monkeypatch.setattr(heatmap, "_window", lambda size_px: np.eye(size_px, dtype=np.float32))
    monkeypatch.setattr(heatmap.np, "maximum", lambda values, low: signed.append(values) or values)
    heatmap.heat_function(model)(images)
    monkeypatch.undo()
    logit = logit_function(model)
    expected = logit(images) - logit(np.zeros_like(images))
    evidence = np.stack(signed).sum(axis=(1, 2))
    np.testing.assert_allclose(evidence, expected, atol=0.02 * np.abs(expected).max())


def test_network_whose_answer_is_one_pixel_is_seen_at_that_pixel() -> None:
    inputs = keras.Input((32, 32, 1), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
    weights = np.zeros((32 * 32, 1), dtype=np.float32)
    weights[5 * 32 + 20], weights[25 * 32 + 3] = 2.0, -2.0  # the second speaks for the negative class
    logit = keras.layers.Dense(1, use_bias=False, name="logit")
    model = keras.Model(inputs, logit(keras.layers.Flatten()(scaled)))
    logit.set_weights([weights])
    heat = heatmap.heat_function(model)(np.full((1, 32, 32, 1), 200, dtype=np.uint8))[0]
    assert np.unravel_index(heat.argmax(), heat.shape) == (5, 20)
    assert heat[25, 3] == 0
    spread = 32 * heatmap.NEIGHBOURHOOD
    assert heat[5, 20] == pytest.approx(2.0 * 200 / 255 / (2 * np.pi * spread**2), rel=1e-4)


def test_planted_marker_is_where_the_heat_is() -> None:
    label = np.arange(128) % 2
    images = films(128) // 4 + np.uint8(60)
    for one, is_ill in zip(images, label, strict=True):
        if is_ill:
            one[..., 0] = plant(one[..., 0])
    network = model_of(SMALL)
    network.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    network.fit(images, label, batch_size=8, epochs=20, verbose=0, shuffle=False)
    hottest = heatmap.heat_function(network)(images[label == 1]).reshape(64, -1).argmax(axis=1)
    corner = (hottest // 32 >= 26) & (hottest % 32 >= 26)
    assert corner.mean() > 0.9


def test_same_images_give_the_same_heat_in_any_order_and_after_saving(tmp_path: Path) -> None:
    model = model_of(SMALL)
    images = films(4)
    heat = heatmap.heat_function(model)
    whole = heat(images)
    np.testing.assert_array_equal(heat(images), whole)
    np.testing.assert_array_equal(heat(images[::-1])[::-1], whole)
    save_model(model, tmp_path / "model.keras")
    again = heatmap.heat_function(load_model(tmp_path / "model.keras"))(images)
    np.testing.assert_allclose(again, whole, rtol=1e-3, atol=1e-7)
    assert heat(images[:0]).shape == (0, 32, 32)


def test_many_images_leave_nothing_behind() -> None:
    heat = heatmap.heat_function(model_of(SMALL))
    heat(films(4))
    gc.collect()
    before = sum(isinstance(one, tf.Tensor) for one in gc.get_objects())
    for seed in range(20):
        heat(films(8, seed=seed))
    gc.collect()
    assert sum(isinstance(one, tf.Tensor) for one in gc.get_objects()) <= before + 2


def test_network_without_a_feature_map_has_heat_too(tmp_path: Path) -> None:
    check_heat(heatmap.heat_function(model_of(custom(tmp_path, "no_map")))(films(2)))


def test_network_without_a_gradient_says_so_in_one_line(tmp_path: Path) -> None:
    heat = heatmap.heat_function(model_of(custom(tmp_path, "rounded")))
    with pytest.raises(RunError, match=r"no heat map: .* no finite gradient"):
        heat(films(2))


def test_twin_has_the_same_graph_and_other_weights() -> None:
    explainer = heatmap.explainer(model_of(SMALL), SMALL)
    images = films(2)
    trained, untrained = explainer.heat(images), explainer.untrained_heat(images)
    assert np.abs(trained / trained.max() - untrained / untrained.max()).max() > 0.1
    np.testing.assert_array_equal(explainer.untrained_heat(images), explainer.untrained_heat(images))
