"""The fused batch normalisation against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai.layers import BatchNormalization


@pytest.mark.parametrize("shape", [(8, 5, 4, 3), (16, 6)])
def test_equals_keras_in_training_inference_and_gradients(shape):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(2.0, 3.0, shape), "float32")
    weights = tf.constant(rng.normal(size=shape), "float32")
    results = []
    for layer in (BatchNormalization(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)):
        layer.build(shape)
        layer.gamma.assign(np.linspace(0.5, 2, shape[-1]))
        layer.beta.assign(np.linspace(-1, 1, shape[-1]))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * weights)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        moving = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
        results.append([y, layer(x, training=False), *gradients, *moving])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_second_derivatives_are_those_of_the_formula():
    """Of a penalty on the gradient by the images, as `losses/penalties.py` has them."""
    rng = np.random.default_rng(0)
    x, weights = (tf.constant(rng.normal(size=(4, 3, 2, 3)), "float32") for _ in range(2))
    layer = BatchNormalization()
    layer.build(x.shape)
    layer.gamma.assign([0.5, 1.0, 2.0])

    def formula(x):
        mean = tf.reduce_mean(x, [0, 1, 2])
        variance = tf.reduce_mean((x - mean) ** 2, [0, 1, 2])
        return (x - mean) * tf.math.rsqrt(variance + layer.epsilon) * layer.gamma + layer.beta

    results = []
    for function in (lambda x: layer(x, training=True), formula):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(weights * tf.tanh(function(x)))
            penalty = tf.reduce_sum(tape.gradient(loss, x) ** 2)
        results.append(outer.gradient(penalty, [x, layer.gamma.value]))
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_is_saved_like_the_keras_layer(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 2)), BatchNormalization()])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is BatchNormalization


def test_images_take_the_fused_kernel():
    layer = BatchNormalization()
    function = tf.function(lambda x: layer(x, training=True))
    graph = function.get_concrete_function(tf.ones((2, 4, 4, 3))).graph
    assert "FusedBatchNormV3" in {operation.type for operation in graph.get_operations()}
