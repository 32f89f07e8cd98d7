"""Likelihoods: closed forms and counts by hand."""

import numpy as np
import pytest

from keras_genai.metrics import (
    bits_per_character,
    bits_per_dimension,
    importance_nll,
    perplexity,
)


def log_normal(x, mean, variance):
    return -0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance)


def linear_gaussian(x, mean, variance, k):
    """Log weights (K, N) of z ~ N(0, 1), x | z ~ N(z, 1), with q(z | x) = N(mean, variance)."""
    z = mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(k, len(x)))
    return log_normal(z, 0, 1) + log_normal(x, z, 1) - log_normal(z, mean, variance)


def test_importance_nll_of_a_linear_gaussian():
    x = np.array([-3.0, 0.0, 0.5, 2.0])
    truth = -log_normal(x, 0, 2)
    # With the true posterior a single draw is exact.
    np.testing.assert_allclose(importance_nll(linear_gaussian(x, x / 2, 0.5, 1)), truth)
    worse = [importance_nll(linear_gaussian(x, 0.2 * x, 1.0, k)) for k in (1, 20_000)]
    np.testing.assert_allclose(worse[1], truth, atol=0.05)
    many = linear_gaussian(np.repeat(x, 2000), 0.2 * np.repeat(x, 2000), 1.0, 8)
    bounds = [importance_nll(many[:k]).mean() for k in (1, 2, 8)]
    assert bounds[0] > bounds[1] + 0.05 > bounds[2] + 0.1 > truth.mean() + 0.1


def test_importance_nll_neither_overflows_nor_underflows():
    weights = np.array([[-5000.0, 5000.0], [-5000.0, -np.inf]])
    np.testing.assert_allclose(importance_nll(weights), [5000.0, np.log(2) - 5000.0])
    with pytest.raises(ValueError, match=r"Received: shape \(2,\), 1 NaN$"):
        importance_nll([np.nan, 0.0])


def test_importance_nll_of_grey_values_bounds_that_of_binarised_images():
    """One of two codes, equally probable, says with which chance each of three pixels is 1."""
    chances, grey = np.array([[0.2], [0.8]]), np.array([0.9, 0.5, 0.3])

    def nll(x):  # q(z | x) = p(z), each code once: exact
        log_p = x * np.log(chances) + (1 - x) * np.log(1 - chances)  # (2, 3)
        return importance_nll(log_p.sum(axis=1)[:, None])[0]

    binary = np.array([*np.ndindex(2, 2, 2)])
    shares = np.prod(np.where(binary, grey, 1 - grey), axis=1)
    assert nll(grey) > shares @ [nll(x) for x in binary] + 0.1


def test_bits_of_uniform_noise_are_8_by_every_scale():
    d = 28 * 28
    # The density of noise uniform over 256 levels: 1/256 a level, times levels a unit.
    for levels in (1.0, 127.5, 255.0):
        nll = np.full(10, -d * np.log(levels / 256))
        assert bits_per_dimension(nll, d, levels) == pytest.approx(8.0)


def test_perplexity_by_hand():
    nll = -np.log([[0.5, 0.25, 0.9], [0.125, 0.9, 0.9]])
    mask = [[1, 1, 0], [1, 0, 0]]
    assert perplexity(nll, mask) == pytest.approx((2 * 4 * 8) ** (1 / 3))  # not (8^(1/2) + 8) / 2
    assert perplexity(nll[:, :1]) == pytest.approx(4.0)
    with pytest.raises(ValueError, match=r"Received: 0 tokens, shapes \(2, 3\) and \(2, 3\)$"):
        perplexity(nll, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"Received: 2 tokens, shapes \(2,\) and \(2, 3\)$"):
        perplexity(nll, [1, 1])


def test_bits_per_character_do_not_depend_on_the_tokens():
    characters = np.full(120, np.log(27))
    words = characters.reshape(40, 3).sum(axis=1)
    assert bits_per_character(characters, 120) == pytest.approx(np.log2(27))
    assert bits_per_character(words, 120) == pytest.approx(np.log2(27))
    single = np.full(1 << 20, 0.1, "float32")
    assert bits_per_character(single, 1 << 20) == pytest.approx(0.1 / np.log(2), rel=1e-7)
