"""VAE-GAN: what each loss is, and which network it moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, tiny

from keras_genai.models.base import per_network
from keras_genai.models.vaes import vae_gan

N, GAMMA = 12, 0.3
BATCH = {"image": tf.constant(images(N))}
X = images(N) / np.float32(127.5) - 1
RATES = {"encoder": 1e-3, "generator": 0.1, "discriminator": 0.1}


def built(**overrides):
    model = tiny("vae_gan", image_shape=(16, 16, 1), gamma=GAMMA, **overrides)
    model.compile(per_network(**{k: keras.optimizers.SGD(rate) for k, rate in RATES.items()}))
    model.optimizer.build(model.trainable_variables)
    return model


def minus_log(logits, truth):
    """Of the probability that D gives to the truth: 1 for "real", 0 for "generated"."""
    p = tf.sigmoid(logits)
    return -tf.reduce_mean(tf.math.log(p if truth else 1.0 - p))


def losses(model, eps, z_p, training):
    """By the paper's formulas, and D_l by hand."""
    mu, log_var = model.encoder(X, training=training)
    x_fake = model.generator(
        tf.concat([mu + tf.sqrt(tf.exp(log_var)) * eps, z_p], 0), training=training
    )
    logits, hidden = model.discriminator(X, training=training)
    fake_logits, fake_hidden = model.discriminator(x_fake, training=training)
    of_x_tilde, of_x_p = fake_logits[:N], fake_logits[N:]
    return {
        "d_loss": minus_log(logits, 1) + minus_log(of_x_tilde, 0) + minus_log(of_x_p, 0),
        "g_loss": minus_log(of_x_tilde, 1) + minus_log(of_x_p, 1),
        "reconstruction": tf.reduce_sum((hidden - fake_hidden[:N]) ** 2) / (2 * N),
        "kl": tf.reduce_sum(mu**2 + tf.exp(log_var) - log_var - 1) / (2 * N),
    }


def test_the_reconstruction_is_a_gaussian_likelihood_of_hidden_values():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 7))
    nll = 0.5 * (a - b) ** 2 + 0.5 * np.log(2 * np.pi)
    expected = nll.sum(1).mean() - 7 * 0.5 * np.log(2 * np.pi)
    assert float(vae_gan.reconstruction_loss(a, b)) == pytest.approx(expected, rel=1e-5)
    half = vae_gan.reconstruction_loss(tf.cast(a, "bfloat16"), tf.cast(b, "bfloat16"))
    assert half.dtype == tf.float32


def test_the_hidden_layer_is_what_the_logits_are_made_of():
    model = built()
    logits, hidden = model.discriminator(X)
    kernel, bias = model.discriminator.trainable_variables[-2:]
    np.testing.assert_allclose(logits, hidden @ kernel + bias, atol=1e-5)
    assert hidden.shape == (N, kernel.shape[0])


def test_each_network_goes_down_its_own_loss():
    model = built()
    groups = [
        net.trainable_variables for net in (model.encoder, model.generator, model.discriminator)
    ]
    start = [variable.numpy() for variable in model.variables]
    before = [[v.numpy() for v in group] for group in groups]
    logs = model.train_step(BATCH)
    after = [[v.numpy() for v in group] for group in groups]

    for variable, value in zip(model.variables, start, strict=True):  # the same noise again
        variable.assign(value)
    eps, z_p = model.normal((N, 4)), model.normal((N, 4))
    with tf.GradientTape(persistent=True) as tape:
        found = losses(model, eps, z_p, training=True)
        encoder = found["kl"] + found["reconstruction"]
        decoder = GAMMA * found["reconstruction"] + found["g_loss"]
    for loss, rate, group, old, new in zip(
        (encoder, decoder, found["d_loss"]), RATES.values(), groups, before, after, strict=True
    ):
        for a, b, gradient, v in zip(old, new, tape.gradient(loss, group), group, strict=True):
            step = rate * gradient.numpy()
            assert np.abs(step).max() > 0, v.path
            tolerance = 0.02 * np.abs(step).max() + 2e-7
            np.testing.assert_allclose(a - b, step, 0, tolerance, err_msg=v.path)
    for key, value in found.items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-3, err_msg=key)


def test_validation_has_the_same_losses_and_moves_nothing():
    model = built()
    for variable in model.weights:  # moving averages that differ from what a batch has
        variable.assign(variable + 0.1 * tf.abs(variable) + 0.01)
    before = [variable.numpy() for variable in model.variables]
    logs = model.test_step(BATCH)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    noise = model.fixed_normal((N, 8))
    for key, value in losses(model, noise[:, :4], noise[:, 4:], training=False).items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-3, err_msg=key)
