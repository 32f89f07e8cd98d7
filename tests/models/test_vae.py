"""What is special to the VAE: both terms of its bound, the latents, reconstructions."""

import numpy as np
import pytest
import tensorflow as tf
from contract_data import images

from keras_genai import zoo
from keras_genai.models.vaes import vae


def test_bernoulli_nll_is_the_cross_entropy_of_each_image():
    rng = np.random.default_rng(0)
    x_01, logits = rng.uniform(size=(3, 4, 5, 2)), rng.normal(size=(3, 4, 5, 2))
    p = 1 / (1 + np.exp(-logits))
    expected = -(x_01 * np.log(p) + (1 - x_01) * np.log(1 - p)).sum((1, 2, 3))
    got = vae.bernoulli_nll(tf.constant(2 * x_01 - 1), tf.constant(logits))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_kl_agrees_with_monte_carlo():
    rng = np.random.default_rng(0)
    mu, log_var = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    eps = rng.normal(size=(400_000, 2, 3))
    z = mu + np.exp(0.5 * log_var) * eps
    # log q(z) - log p(z); the constants of both cancel.
    samples = (0.5 * (z**2 - eps**2 - log_var)).sum(-1)
    error = samples.std(0) / np.sqrt(len(eps))
    difference = np.abs(vae.gaussian_kl(mu, log_var).numpy() - samples.mean(0))
    assert (difference < 5 * error).all() and (error < 0.02).all()
    assert vae.gaussian_kl(np.zeros((1, 3)), np.zeros((1, 3))).numpy() == 0


def test_elbo_uses_the_noise_it_is_given():
    model = zoo.get("vae", data=images(), seed=0, **zoo.info("vae").tiny)
    x = tf.cast(images(6), "float32") / 127.5 - 1
    eps = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    mu, log_var = model.encoder(x)
    logits = model.decoder(mu + tf.sqrt(tf.exp(log_var)) * eps)
    terms = model.elbo_terms(x, eps, training=False)
    np.testing.assert_allclose(
        terms["reconstruction"], np.mean(vae.bernoulli_nll(x, logits)), rtol=1e-5
    )
    np.testing.assert_allclose(terms["kl"], np.mean(vae.gaussian_kl(mu, log_var)), rtol=1e-5)


def test_evaluate_weighs_a_smaller_last_batch_by_its_size():
    model = zoo.get("vae", data=images(), seed=0, **zoo.info("vae").tiny)
    model.fixed_normal = lambda shape: tf.zeros(shape)
    whole, parts = (
        model.evaluate(images(10), batch_size=size, verbose=0, return_dict=True) for size in (10, 7)
    )
    assert whole == pytest.approx(parts, rel=1e-5)


def test_encode_and_reconstruct_take_and_give_what_they_say():
    model = zoo.get("vae", data=images(), seed=0, **zoo.info("vae").tiny)
    latents, pictures = model.encode(images(5)), model.reconstruct(images(5))
    assert latents.shape == (5, 4) and latents.dtype == np.float32
    assert pictures.shape == (5, 16, 16, 1) and pictures.dtype == np.uint8
    many = images(300)
    np.testing.assert_allclose(model.encode(many)[256:], model.encode(many[256:]), atol=1e-5)
    np.testing.assert_allclose(model.encode(images(5) / np.float32(255)), latents, atol=1e-5)
    decoded = model.decode(latents)
    assert np.abs(np.round((decoded + 1) * 127.5) - pictures).max() <= 1
