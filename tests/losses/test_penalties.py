"""The penalties against closed forms and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai import layers
from keras_genai.losses import gradient_penalty, r1_penalty
from keras_genai.losses.penalties import squared_gradient_norms

RNG = np.random.default_rng(0)
SHAPE = (5, 8, 8, 2)
X_REAL, X_FAKE = RNG.normal(size=(2, *SHAPE)).astype("float32")
ALPHA = RNG.uniform(size=(5, 1, 1, 1)).astype("float32")


def linear(w):
    return lambda x, training: tf.einsum("bhwc,hwc->b", x, w)[:, None]


def quadratic(x, training):
    """Its gradient is x itself."""
    return 0.5 * tf.reduce_sum(x**2, axis=[1, 2, 3])[:, None]


@pytest.mark.parametrize("size", [0.0, 0.3, 1.0, 4.0])
def test_gradient_penalty_of_a_linear_critic_is_its_slope(size):
    w = RNG.normal(size=SHAPE[1:])
    w = tf.constant(size * w / np.linalg.norm(w), "float32")
    penalty = gradient_penalty(linear(w), X_REAL, X_FAKE, ALPHA)
    np.testing.assert_allclose(penalty, (size - 1) ** 2, rtol=1e-5, atol=1e-12)


def test_gradient_penalty_looks_between_each_pair_of_images():
    x_hat = ALPHA * X_REAL + (1 - ALPHA) * X_FAKE
    norms = np.linalg.norm(x_hat.reshape(len(x_hat), -1), axis=1)
    penalty = gradient_penalty(quadratic, X_REAL, X_FAKE, ALPHA)
    np.testing.assert_allclose(penalty, np.mean((norms - 1) ** 2), rtol=1e-5)


def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient():
    w = tf.zeros(SHAPE[1:])
    with tf.GradientTape() as tape:
        tape.watch(w)
        penalty = gradient_penalty(linear(w), X_REAL, X_FAKE, ALPHA)
    assert np.isfinite(tape.gradient(penalty, w)).all()


def test_r1_penalty_is_that_of_finite_differences():
    """D(x) = v . tanh(W x) in double precision, each pixel moved by itself."""
    x = RNG.normal(size=(3, 2, 2, 1))
    w, v = RNG.normal(size=(4, 6)), RNG.normal(size=6)
    step, slopes = 1e-5, np.zeros((3, 4))
    for i in range(4):
        move = step * np.eye(4)[i]
        high, low = (np.tanh((x.reshape(3, 4) + d) @ w) @ v for d in (move, -move))
        slopes[:, i] = (high - low) / (2 * step)

    def discriminator(x, training):
        hidden = tf.tanh(tf.reshape(x, (-1, 4)) @ tf.constant(w, "float32"))
        return hidden @ tf.constant(v[:, None], "float32")

    expected = np.mean(np.sum(slopes**2, axis=1))
    np.testing.assert_allclose(r1_penalty(discriminator, x), expected, rtol=1e-4)


def critic(module, policy="float32", activation="leaky_relu"):
    """Both kinds of convolution, of few and of more channels, and a score in float32."""
    image = keras.Input(SHAPE[1:])
    options = {"strides": 2, "padding": "same", "dtype": policy}
    x = keras.layers.Activation(activation, dtype=policy)(module.Conv2D(6, 4, **options)(image))
    x = keras.layers.Activation(activation, dtype=policy)(module.Conv2D(8, 4, **options)(x))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(x)))


def penalties_and_gradients(model):
    """Both penalties with their gradients by the kernels: second derivatives of D."""
    kernels = [layer.kernel.value for layer in model.layers if hasattr(layer, "kernel")]
    results = []
    for penalty, images in ((gradient_penalty, (X_REAL, X_FAKE, ALPHA)), (r1_penalty, (X_REAL,))):
        with tf.GradientTape() as tape:
            value = penalty(model, *images)
        results += [value, *tape.gradient(value, kernels)]
    return results


def test_own_convolutions_have_the_penalties_of_those_of_keras():
    ours, theirs = critic(layers), critic(keras.layers)
    ours.set_weights(theirs.get_weights())
    mine, expected = penalties_and_gradients(ours), penalties_and_gradients(theirs)
    assert len(mine) == 2 * (1 + 3)
    for value, other in zip(mine, expected, strict=True):
        assert np.abs(value).max() > 1e-3, "a penalty reaches every kernel"
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_penalties_are_float32_under_any_policy(policy):
    # Smooth: where the slope of a unit jumps, rounding alone can change a gradient much.
    exact, half = critic(layers, activation="swish"), critic(layers, policy, "swish")
    half.set_weights(exact.get_weights())
    for value, other in zip(
        penalties_and_gradients(half), penalties_and_gradients(exact), strict=True
    ):
        assert value.dtype == tf.float32
        assert np.linalg.norm(value - other) < 0.03 * np.linalg.norm(other)
    # In float16 their squares would be infinite.
    steep = squared_gradient_norms(lambda x, training: 300.0 * tf.cast(x, "float16"), X_REAL)
    np.testing.assert_allclose(steep, 300.0**2 * np.prod(SHAPE[1:]), rtol=1e-4)
