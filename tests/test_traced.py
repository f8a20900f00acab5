"""Networks of one graph use the same traced functions, and each answers with its own weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np
import pytest

from cxr_experiments.config.schema import DataConfig, DepthConfig, ExperimentConfig, PoolingConfig, TrainingConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.learning import heatmap, traced
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.trainer import logit_function, start_tensorflow

# Keras 3.15 reads its variables with np.array, whose copy argument tf.Variable does not know yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SMALL = ExperimentConfig(
    data=DataConfig(image_size_px=32),
    depth=DepthConfig(filters=(4, 8), convolutions=(1, 1)),
    pooling=PoolingConfig("gap", 8),
)
FILMS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    traced.forget_answers()
    yield
    traced.forget_answers()


def network(config: ExperimentConfig, seed: int) -> keras.Model:
    return build_model(config, resolve_seeds(replace(config, seed=seed)))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_networks_that_take_turns_answer_as_each_alone(precision: str) -> None:
    config = replace(SMALL, training=TrainingConfig(precision=precision))
    networks = [network(config, seed) for seed in range(3)]
    alone = [(logit_function(one)(FILMS), heatmap.heat_function(one)(FILMS)) for one in networks]
    together = [(logit_function(one, config), heatmap.heat_function(one, config)) for one in networks]
    for place in (0, 1, 2, 1, 0, 0, 2):
        np.testing.assert_array_equal(together[place][0](FILMS), alone[place][0])
        np.testing.assert_array_equal(together[place][1](FILMS), alone[place][1])
    assert len({logits.tobytes() for logits, _ in alone}) == 3


def test_the_second_network_of_a_graph_is_traced_no_more() -> None:
    for function, images in ((traced.logit_of, FILMS), (traced.slope_of, FILMS / np.float32(255))):
        first, second = (function(network(SMALL, seed), SMALL) for seed in range(2))
        for answers in (first, second, first):
            answers(images)
        assert first.traced is second.traced
        assert first.traced.function.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("config", [SMALL, None])
def test_training_a_network_further_does_not_change_what_was_made_before(config: ExperimentConfig | None) -> None:
    model = network(SMALL, 0)
    predict = logit_function(model, config)
    before = predict(FILMS)
    model.set_weights([value + np.float32(0.1) for value in model.get_weights()])
    later = logit_function(model, config)
    assert not np.array_equal(later(FILMS), before)
    np.testing.assert_array_equal(predict(FILMS), before)


def test_another_graph_has_functions_of_its_own() -> None:
    wider = replace(SMALL, pooling=PoolingConfig("gap", 16))
    small, wide = (traced.logit_of(network(config, 0), config) for config in (SMALL, wider))
    assert small.traced is not wide.traced
    assert np.isfinite(small(FILMS)).all()
    assert np.isfinite(wide(FILMS)).all()


def test_nothing_is_kept_beyond_keras_session_whose_kernels_it_needs() -> None:
    before = traced.logit_of(network(SMALL, 0), SMALL)
    start_tensorflow(SMALL)
    assert traced.logit_of(network(SMALL, 1), SMALL).traced is not before.traced


def test_no_heat_map_needs_the_gradient_that_gpus_lack() -> None:
    """TensorFlow refuses it there under op determinism, which is the default of every run."""
    slope = traced.slope_of(network(SMALL, 0), SMALL).traced.function.get_concrete_function()
    assert not [one.type for one in slope.graph.get_operations() if "FusedBatchNorm" in one.type]
