"""What is special to InfoGAN: the bound on the information, and its codes."""

import numpy as np
import pytest
import tensorflow as tf
from contract_data import tiny

from keras_genai.models.base import fold
from keras_genai.models.gans import infogan

rng = np.random.default_rng(0)


def make(**overrides):
    return tiny("infogan", image_shape=(16, 16, 1), **overrides)


def test_losses_are_negative_logarithms_of_what_q_gives_the_codes():
    logits, codes, mu = (rng.normal(size=(5, d)).astype("float32") for d in (3, 2, 2))
    category = np.eye(3, dtype="float32")[[0, 2, 1, 1, 0]]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log((p * category).sum(1)).mean()
    np.testing.assert_allclose(infogan.category_loss(logits, category), expected, rtol=1e-5)
    densities = np.exp(-0.5 * (codes - mu) ** 2) / np.sqrt(2 * np.pi)  # N(mu, 1)
    expected = -np.log(densities.prod(1)).mean()
    np.testing.assert_allclose(infogan.code_loss(mu, codes), expected, rtol=1e-5)


def test_the_bound_is_the_information_where_q_is_right_and_below_it_elsewhere():
    """Equation 5, on a channel that gives c back with a probability of 0.7, else another."""
    channel = np.full((4, 4), 0.1) + 0.6 * np.eye(4)  # P(x|c), and P(c|x): c is uniform
    information = np.log(4) + (channel[0] * np.log(channel[0])).sum()
    pairs = [(c, x) for c in range(4) for x in range(4) for _ in range(round(10 * channel[c, x]))]
    c, x = np.array(pairs).T
    category = np.eye(4, dtype="float32")[c]

    def bound(q):
        return np.log(4) - infogan.category_loss(np.log(q)[x].astype("float32"), category).numpy()

    assert bound(channel) == pytest.approx(information, abs=1e-5)
    assert bound(np.full((4, 4), 0.25)) == pytest.approx(0, abs=1e-5)
    assert bound(np.full((4, 4), 0.02) + 0.92 * np.eye(4)) < information - 0.1


def test_a_perfect_guess_of_a_continuous_code_gains_a_sixth():
    model, codes = make(), np.linspace(-1.0, 1.0, 2001, dtype="float32")[:, None]
    costs = [infogan.code_loss(mu, codes) for mu in (0.0 * codes, codes)]
    nothing, perfect = (
        model.information_loss({"category_loss": 0.0, "code_loss": cost}) for cost in costs
    )
    assert float(nothing - perfect) == pytest.approx(1 / 6, abs=1e-3)


def test_codes_have_their_distributions():
    model = make(num_categories=5, continuous_codes=2)
    noise = rng.standard_normal((20_000, model.noise_dim)).astype("float32")
    z, category, codes = (part.numpy() for part in model.latents(noise))
    np.testing.assert_array_equal(z, noise[:, : model.latent_dim])
    assert (category.sum(1) == 1).all()
    np.testing.assert_allclose(category.mean(0), 0.2, atol=0.015)
    for code in codes.T:
        np.testing.assert_allclose(np.histogram(code, 4, (-1, 1))[0] / 20_000, 0.25, atol=0.015)
    # At the ends of float32.
    _, category, codes = model.latents(tf.constant([[9.0], [-9.0]]) * tf.ones((2, model.noise_dim)))
    assert category.numpy().argmax(1).tolist() == [4, 0]
    assert codes.numpy().tolist() == [[1, 1], [-1, -1]]


def test_traversals_change_one_code_and_nothing_else():
    model = make(ema_decay=0.0)
    for variable in model.generator.trainable_variables:
        variable.assign(variable * 10.0)
    noise = tf.random.stateless_normal((1, model.noise_dim), fold([5, 0], "samples"))
    z, category, codes = model.latents(noise)
    for code in ("category", 0, 1):
        way = model.traverse(code, steps=5, seed=5)
        assert way.shape == (5, 16, 16, 1)
        for i in range(5):
            of_category = tf.one_hot([i % 3], 3) if code == "category" else category
            of_codes = codes.numpy()
            if code != "category":
                of_codes[:, code] = i - 2.0  # from -2 to 2
            pixels = (model(tf.concat([z, of_category, of_codes], 1))[0] + 1) * 127.5
            np.testing.assert_allclose(way[i], pixels, atol=0.51)
        assert np.abs(way[0].astype(int) - way[1]).max() > 3
    with pytest.raises(ValueError, match=r'"category" or a number from 0 to 1.*Received: code=2'):
        model.traverse(2)


def test_the_preview_has_two_rows_for_each_code():
    model = make()
    sheet = model.preview(seed=1).reshape(6, model.preview_columns, 16, 16, 1)
    for row, (code, seed) in enumerate((c, s) for c in ("category", 0, 1) for s in (2, 3)):
        np.testing.assert_array_equal(sheet[row], model.traverse(code, seed=seed))
