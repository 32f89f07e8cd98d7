"""Spectral normalisation against NumPy's singular values and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai.layers import SpectralConv2D, SpectralDense, SpectralPooledConv2D

# Each with an input, and with how to read the matrix (inputs, outputs) that the layer applies.
LAYERS = {
    "dense": (
        lambda: SpectralDense(5, use_bias=False),
        np.eye(7, dtype="float32"),
        lambda layer, x: layer(x),
    ),
    "convolution": (
        lambda: SpectralConv2D(6, 3, use_bias=False),
        np.eye(3 * 3 * 4, dtype="float32").reshape(36, 3, 3, 4),
        lambda layer, x: tf.reshape(layer(x), (36, 6)),
    ),
}


def make(kind):
    """A layer with a kernel of unequal singular values, its input and the reader of its matrix."""
    make_layer, x, applied = LAYERS[kind]
    layer = make_layer()
    layer(x)
    (kernel,) = layer.trainable_variables
    rng = np.random.default_rng(0)
    kernel.assign(rng.normal(size=kernel.shape))
    u = rng.normal(size=layer.u.shape)
    layer.u.assign(u / np.linalg.norm(u))
    return layer, kernel, tf.constant(x), applied


def largest_singular_value(matrix):
    matrix = np.asarray(matrix)
    return np.linalg.svd(matrix.reshape(-1, matrix.shape[-1]), compute_uv=False)[0]


@pytest.mark.parametrize("kind", LAYERS)
def test_converges_to_the_largest_singular_value(kind):
    layer, kernel, x, applied = make(kind)
    first = largest_singular_value(applied(layer, x))
    assert first > 1.05, "sigma is a lower bound that has not converged yet"
    for _ in range(60):
        layer(x, training=True)
    matrix = applied(layer, x)
    np.testing.assert_allclose(largest_singular_value(matrix), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        matrix.numpy().ravel(), kernel.numpy().ravel() / largest_singular_value(kernel), atol=1e-5
    )


def test_a_step_is_that_of_the_paper():
    layer, kernel, x, applied = make("dense")
    w, u = kernel.numpy().T, layer.u.numpy()
    v = w.T @ u / np.linalg.norm(w.T @ u)
    # Without training sigma is u^T W v with the u there is.
    np.testing.assert_allclose(applied(layer, x), (w / (u.T @ w @ v)).T, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.u, u)
    new_u = w @ v / np.linalg.norm(w @ v)
    np.testing.assert_allclose(
        layer(x, training=True), (w / (new_u.T @ w @ v)).T, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(layer.u, new_u, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradient_flows_through_sigma(kind):
    layer, kernel, x, applied = make(kind)
    for _ in range(60):
        layer(x, training=True)
    weights = np.random.default_rng(1).normal(size=applied(layer, x).shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.constant(weights, "float32") * applied(layer, x))
    gradient = tf.convert_to_tensor(tape.gradient(loss, kernel.value)).numpy().ravel()

    def normalized_loss(flat):
        matrix = flat.reshape(weights.shape)
        return np.sum(weights * matrix) / largest_singular_value(matrix)

    flat, step = kernel.numpy().astype("float64").ravel(), 1e-6
    differences = [
        (normalized_loss(flat + step * e) - normalized_loss(flat - step * e)) / (2 * step)
        for e in np.eye(flat.size)
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-3, atol=1e-4)
    # What only lengthens the kernel changes nothing.
    assert abs(np.sum(gradient * flat)) < 1e-3


def test_starts_with_a_random_unit_vector():
    first, second = SpectralDense(7), SpectralDense(7)
    for layer in (first, second):
        layer.build((2, 3))
        np.testing.assert_allclose(np.linalg.norm(layer.u), 1.0, rtol=1e-6)
    assert np.abs(first.u.numpy() - second.u.numpy()).max() > 1e-3


def test_pooled_is_the_mean_of_the_plain():
    pooled, plain = SpectralPooledConv2D(5), SpectralConv2D(5, 3, padding="same")
    x = tf.random.stateless_normal((2, 6, 8, 3), (1, 2))
    for layer in (pooled, plain):
        layer.build(x.shape)
    plain.set_weights([10.0 * plain.kernel, tf.range(5.0), plain.u])
    pooled.set_weights(plain.get_weights())
    for training in (True, False):
        expected = keras.layers.AveragePooling2D(2)(plain(x, training=training))
        np.testing.assert_allclose(pooled(x, training=training), expected, atol=1e-5)
    np.testing.assert_array_equal(pooled.u, plain.u)


def test_is_saved_with_its_vector(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            SpectralConv2D(4, 3, padding="same"),
            SpectralPooledConv2D(4),
            keras.layers.GlobalAveragePooling2D(),
            SpectralDense(3),
        ]
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype("float32")
    for _ in range(3):
        model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    for mine, other in zip(loaded.layers, model.layers, strict=True):
        for value, expected in zip(mine.weights, other.weights, strict=True):
            np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_is_the_same_in_a_graph(jit_compile):
    (eager, _, x, _), (layer, *_) = make("convolution"), make("convolution")
    layer.set_weights(eager.get_weights())
    function = tf.function(lambda x: layer(x, training=True), jit_compile=jit_compile)
    for _ in range(2):
        np.testing.assert_allclose(function(x), eager(x, training=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.u, eager.u, rtol=1e-5, atol=1e-6)


def test_sigma_is_of_full_precision_in_half():
    """In float16 the sum of squares of this kernel would be infinite."""
    layer = SpectralDense(16, kernel_initializer="ones", use_bias=False, dtype="mixed_float16")
    x = np.full((1, 8192), 1 / 8192, "float32")
    layer(x)
    layer.trainable_variables[0].assign(np.full((8192, 16), 30.0))
    y = layer(x, training=True)
    assert y.dtype == "float16" and layer.u.dtype == "float32"
    # All columns alike: sigma = 30 sqrt(8192 16).
    np.testing.assert_allclose(y, 1 / np.sqrt(8192 * 16), rtol=3e-3)
