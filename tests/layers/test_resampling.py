"""The convolution of an enlarged image against Keras's two layers."""

import keras
import numpy as np
import tensorflow as tf

from keras_genai.layers import UpsampledConv2D


def test_equals_upsampling_and_convolution_also_in_gradients():
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 4, 3, 5)), "float32")
    values = [rng.normal(size=(3, 3, 5, 6)), rng.normal(size=6)]
    results = []
    enlarged = keras.layers.UpSampling2D()
    for layer, take in (
        (UpsampledConv2D(6, activation="tanh"), lambda x: x),
        (keras.layers.Conv2D(6, 3, padding="same", activation="tanh"), enlarged),
    ):
        layer.build(x.shape)
        layer.set_weights(values)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(take(x))
            loss = tf.reduce_sum(y**3)
        results.append([y, *tape.gradient(loss, [x, layer.kernel.value, layer.bias.value])])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_is_saved_as_it_is(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 2)), UpsampledConv2D(3, use_bias=False)])
    assert model.output_shape == (None, 8, 8, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is UpsampledConv2D and loaded.layers[0].bias is None
