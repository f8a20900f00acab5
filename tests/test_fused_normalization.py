"""The fused twin computes what the model computes: forward, gradients, running averages; and is never what is saved."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_experiments.learning.fused_normalization import FusedBatchNormalization, fused_twin

# Keras 3.15 reads its variables with np.array, whose copy argument tf.Variable does not know yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def small_net(**norm: object) -> keras.Model:
    """A convolution, a normalization with weights that are not their initial ones, and a mean over the map."""
    inputs = keras.Input((6, 6, 1), dtype="float32")
    features = keras.layers.Conv2D(4, 3, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(1))(inputs)
    features = keras.layers.BatchNormalization(name="norm", **norm)(features)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(features)))
    generator = np.random.default_rng(0)
    layer = model.get_layer("norm")
    layer.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


def images(num_images: int = 3) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).normal(2.0, 3.0, (num_images, 6, 6, 1)), tf.float32)


def weights_after_training_step(model: keras.Model) -> list[np.ndarray]:
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.train_on_batch(images(), np.ones((3, 4), np.float32))
    return model.get_weights()


def test_twin_has_the_layers_names_and_weights_of_the_model() -> None:
    model = small_net()
    twin = fused_twin(model)
    assert [layer.name for layer in twin.layers[1:]] == [layer.name for layer in model.layers[1:]]
    assert isinstance(twin.get_layer("norm"), FusedBatchNormalization)
    assert type(model.get_layer("norm")) is keras.layers.BatchNormalization
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("training", [False, True])
def test_twin_computes_what_the_model_computes(training: bool) -> None:
    model = small_net(epsilon=0.01)
    expected = model(images(), training=training).numpy()
    assert fused_twin(small_net(epsilon=0.01))(images(), training=training).numpy() == pytest.approx(expected, rel=1e-5)


def test_step_moves_weights_and_running_averages_as_keras_does() -> None:
    """3 images of 4 x 4: the unbiased variance would be a fiftieth off, which a momentum of 0.5 would show."""
    expected = weights_after_training_step(small_net(momentum=0.5))
    for one, other in zip(weights_after_training_step(fused_twin(small_net(momentum=0.5))), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_images_of_other_sizes_pass_when_asked_for() -> None:
    model = small_net()
    larger = tf.ones((2, 9, 11, 1))
    assert fused_twin(model, any_size=True)(larger).shape == (2, 4)


@pytest.mark.parametrize("norm", [{"scale": False}, {"center": False}, {"axis": 1}, {"renorm": True}])
def test_normalization_that_the_kernel_does_not_know_stays_keras_own(norm: dict[str, object]) -> None:
    assert type(fused_twin(small_net(**norm)).get_layer("norm")) is keras.layers.BatchNormalization
