"""The convolutions between images and features against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai import layers


def results(layer, x, values):
    """Output, gradients, and the gradients of a penalty on the gradient by the input."""
    layer.build(x.shape)
    layer.set_weights(values)
    variables = [x, *(variable.value for variable in layer.trainable_variables)]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y**3 + y)
        gradients = tape.gradient(loss, variables)
        penalty = tf.reduce_sum(gradients[0] ** 3)
    return [y, *gradients, *outer.gradient(penalty, variables)]


@pytest.mark.parametrize(
    ("name", "size", "channels", "options"),
    [
        ("Conv2D", (8, 12), 1, {"activation": "tanh"}),
        ("Conv2D", (8, 12), 3, {"use_bias": False}),
        ("Conv2D", (8, 12), 6, {}),
        ("Conv2D", (8, 10), 6, {"use_bias": False}),
        ("Conv2D", (7, 9), 6, {"activation": "tanh"}),
        ("Conv2D", (8, 8), 1, {}),
        ("Conv2D", (8, 12), 1, {"padding": "valid"}),
        ("Conv2DTranspose", (4, 6), 1, {"activation": "tanh"}),
        ("Conv2DTranspose", (4, 6), 3, {"use_bias": False}),
        ("Conv2DTranspose", (4, 6), 6, {}),
        ("Conv2DTranspose", (4, 6), 1, {"output_padding": 1}),
        ("Conv2DTranspose", (4, 5), 6, {"activation": "tanh"}),
        ("Conv2DTranspose", (4, 5), 6, {"output_padding": 1}),
        ("Conv2DTranspose", (4, 4), 1, {"use_bias": False}),
    ],
)
def test_equals_keras_also_in_second_gradients(name, size, channels, options):
    shape, filters = ((2, *size, channels), 5) if name == "Conv2D" else ((2, *size, 5), channels)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=shape), "float32")
    values = [rng.normal(size=(4, 4, channels, 5)) / 8]
    if options.get("use_bias", True):
        values.append(rng.normal(size=filters))
    options = {"strides": 2, "padding": "same", **options}
    ours, theirs = (
        results(getattr(module, name)(filters, 4, **options), x, values)
        for module in (layers, keras.layers)
    )
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)


def test_images_of_an_odd_side_and_of_any_size():
    for size in ((7, 8), (None, None)):
        image = keras.Input((*size, 1))
        y = layers.Conv2D(5, 4, strides=2, padding="same")(image)
        assert y.shape[1:3] == tuple(side and -(-side // 2) for side in size)


def test_images_take_the_faster_way():
    layer = layers.Conv2DTranspose(1, 4, strides=2, padding="same")
    graph = tf.function(layer).get_concrete_function(tf.ones((2, 4, 4, 3))).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "DepthToSpace" in kinds and "Conv2DBackpropInput" not in kinds
