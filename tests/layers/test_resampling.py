"""Convolutions with a change of size against Keras's two layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai.layers import PooledConv2D, UpsampledConv2D


def convolution():
    return keras.layers.Conv2D(6, 3, padding="same")


@pytest.mark.parametrize(
    ("layer", "two"),
    [
        (PooledConv2D(6), (convolution(), keras.layers.AveragePooling2D(2))),
        (UpsampledConv2D(6), (keras.layers.UpSampling2D(), convolution())),
    ],
)
def test_equals_two_layers_also_in_gradients(layer, two):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 4, 6, 5)), "float32")
    values = [rng.normal(size=(3, 3, 5, 6)), rng.normal(size=6)]
    results = []
    for model in (keras.Sequential([layer]), keras.Sequential(two)):
        model.build(x.shape)
        model.set_weights(values)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x)
            loss = tf.reduce_sum(y**3)
        weights = [variable.value for variable in model.trainable_variables]
        results.append([y, *tape.gradient(loss, [x, *weights])])
        assert model.output_shape == y.shape
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_are_saved_as_they_are(tmp_path):
    layers = [PooledConv2D(3), UpsampledConv2D(3, use_bias=False)]
    model = keras.Sequential([keras.Input((4, 4, 2)), *layers])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").layers
    assert [type(layer) for layer in loaded] == [PooledConv2D, UpsampledConv2D]
    assert loaded[1].bias is None
