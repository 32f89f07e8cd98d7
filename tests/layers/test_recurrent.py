"""The GRU with its own backward pass against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai.layers import GRU


def results(layer, x, weights, jit_compile):
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) / 2)

    @tf.function(jit_compile=jit_compile)
    def run():
        variables = [x, *(variable.value for variable in layer.trainable_variables)]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y * weights)
        return y, *tape.gradient(loss, variables)

    return run()


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_states_and_gradients_equal_keras(steps, jit_compile):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(4, steps, 5)), "float32")
    weights = tf.constant(rng.normal(size=(4, steps, 6)), "float32")
    ours, theirs = (
        results(layer(6, return_sequences=True), x, weights, jit)
        for layer, jit in ((GRU, jit_compile), (keras.layers.GRU, False))
    )
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"go_backwards": True}, {}),
        ({"reset_after": False}, {}),
        ({"activation": "relu"}, {}),
        ({"use_bias": False}, {}),
        ({}, {"mask": tf.constant([[True, True, False]] * 4)}),
        ({}, {"initial_state": tf.ones((4, 6))}),
    ],
)
def test_what_it_has_no_short_way_for_goes_the_way_of_keras(options, arguments):
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 5)), "float32")
    ours, theirs = (kind(6, return_sequences=True, **options) for kind in (GRU, keras.layers.GRU))
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x, **arguments), theirs(x, **arguments), rtol=1e-5, atol=1e-6)


def test_makes_one_product_for_the_gradient_of_its_kernel():
    layer = GRU(6, return_sequences=True)
    x = tf.ones((4, 7, 5))
    layer.build(x.shape)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x))
        return tape.gradient(loss, layer.cell.recurrent_kernel.value)

    graph = gradient.get_concrete_function().graph
    products = [op for op in graph.get_operations() if op.type == "MatMul"]
    assert [6, 18] in [list(op.outputs[0].shape) for op in products]
