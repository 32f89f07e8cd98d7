"""Causal blocks: against the formula, and place by place against all places at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai.layers import CausalBlock, Positions, Sinusoids, attention_shares

B, T, D, N = 2, 5, 8, 2
X = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")


def block():
    keras.utils.set_random_seed(0)
    made = CausalBlock(N)
    made.build((None, T, D))
    for weight in made.weights:  # scales that are not 1, biases that are not 0
        weight.assign(weight + 0.2 * np.random.default_rng(1).normal(size=weight.shape))
    return made


def normalised(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + layer.epsilon) * layer.gamma + layer.beta


def test_a_block_is_what_the_formula_says():
    layer = block()
    q, k, v = np.split(normalised(X, layer.attention_norm) @ layer.query_key_value.kernel, 3, -1)
    mixed = np.zeros((B, T, D))
    for head in range(N):
        part = slice(head * D // N, (head + 1) * D // N)
        for t in range(T):
            scores = np.einsum("bd,bsd->bs", q[:, t, part], k[:, : t + 1, part]) / np.sqrt(D / N)
            shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            mixed[:, t, part] = np.einsum("bs,bsd->bd", shares, v[:, : t + 1, part])
    y = X + mixed @ layer.output_projection.kernel + layer.output_projection.bias
    wide = np.maximum(0, normalised(y, layer.dense_norm) @ layer.widen.kernel + layer.widen.bias)
    expected = y + wide @ layer.narrow.kernel + layer.narrow.bias
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_place_by_place_is_all_at_once(jit_compile):
    layer, positions = block(), Positions()
    expected = layer(positions(X)).numpy()

    @tf.function(jit_compile=jit_compile)
    def step(x, keys, values, t):
        return layer.step(positions.step(x, t), keys, values, t)

    keys = values = tf.zeros((B, N, T, D // N))
    for t in range(T):
        y, keys, values = step(X[:, t : t + 1], keys, values, tf.constant(t))
        np.testing.assert_allclose(y[:, 0], expected[:, t], rtol=1e-4, atol=1e-5)


def test_positions_differ():
    layer = Positions()
    added = layer(np.zeros((1, T, D), "float32")).numpy()[0]
    np.testing.assert_array_equal(added, layer.vectors)
    assert len(np.unique(added, axis=0)) == T


def test_half_precision_is_that_of_the_policy():
    layer = CausalBlock(N, dtype="mixed_float16")
    y = layer(tf.cast(X, "float16"))
    assert y.dtype == "float16" and layer.narrow.kernel.dtype == "float32"
    restored = CausalBlock.from_config(layer.get_config())
    assert restored.num_heads == N


@pytest.mark.parametrize("width", [8, 7])
def test_sinusoids_are_the_waves_of_the_paper_scaled(width):
    vectors = np.array(Sinusoids(0.1)((6, width)))
    for t, i in np.ndindex(6, width):
        angle = t / 10_000 ** (2 * (i // 2) / width)
        expected = (np.cos if i % 2 else np.sin)(angle)
        np.testing.assert_allclose(vectors[t, i], 0.1 * 2**0.5 * expected, atol=1e-6)
    if width == 8:
        assert np.sqrt((vectors**2).mean()) == pytest.approx(0.1)
        products = vectors @ vectors.T
        for k in range(6):
            np.testing.assert_allclose(np.diagonal(products, k), products[0, k], rtol=1e-4)
    positions = Positions(6, Sinusoids(0.1))
    again = Positions.from_config(positions.get_config())
    np.testing.assert_allclose(again(np.zeros((1, 6, width), "float32"))[0], vectors)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_half_precision_holds_the_scores(batch_size):
    """32 products of 100 and 100 are more than float16 has; divided by sqrt(32) they are not."""
    keys = tf.fill((batch_size, 1, 4, 32), tf.constant(100, "float16"))
    shares = attention_shares(keys[:, :, :1], keys, tf.fill((1, 4), True))
    np.testing.assert_allclose(shares, np.full((batch_size, 1, 1, 4), 0.25), rtol=1e-6)
