"""One step of each VAE against its paper: what it logs, and where it moves its networks."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import labelled, tiny

from keras_genai import zoo
from keras_genai.models.vaes.vae import VAE

RATE, N, K = 0.01, 12, 3
BATCH = {key: tf.constant(value[:N]) for key, value in labelled().train.arrays().items()}
CLASSES = tf.one_hot(BATCH["label"], 3)
CASES = [
    ("vae", {}),
    ("vae", {"likelihood": "gaussian"}),
    ("vae", {"likelihood": "discretized_logistic"}),
    ("vae", {"binarize": True, "architecture": "dense", "hidden_units": 8}),
    ("iwae", {"doubly_reparameterized": False}),
    ("iwae", {"binarize": True, "doubly_reparameterized": True}),
    ("cvae", {"num_classes": 3}),
    ("beta_vae", {"capacity": 0.0}),
    ("beta_vae", {"capacity": 5.0, "capacity_steps": 4}),
]


def log_p(likelihood, x, y):
    """log p(x|z) (B,) of the decoder's outputs y."""
    if likelihood == "bernoulli":
        p = tf.sigmoid(y)
        logs = (x + 1) / 2 * tf.math.log(p) + (1 - x) / 2 * tf.math.log(1 - p)
    else:
        mean, log_scale = tf.split(tf.cast(y, "float64"), 2, -1)
        x, s = tf.cast(x, "float64"), tf.exp(log_scale)
        if likelihood == "gaussian":
            logs = tf.math.log(tf.exp(-(((x - mean) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi)))
        else:
            upper = tf.where(x > 0.999, 1.0, tf.sigmoid((x + 1 / 255 - mean) / s))
            lower = tf.where(x < -0.999, 0.0, tf.sigmoid((x - 1 / 255 - mean) / s))
            logs = tf.math.log(upper - lower)
    return tf.cast(tf.reduce_sum(logs, (1, 2, 3)), "float32")


def log_normal(z, mu, log_var):
    logs = -0.5 * (math.log(2 * math.pi) + log_var + (z - mu) ** 2 / tf.exp(log_var))
    return tf.reduce_sum(logs, -1)


def elbo(model, x, eps, training):
    """What is logged, and the loss."""
    mu, log_var = model.encoder([x, CLASSES] if model.takes_labels else x, training=training)
    z = mu + tf.exp(log_var / 2) * eps
    outputs = model.decoder(
        tf.concat([z, CLASSES], 1) if model.takes_labels else z, training=training
    )
    kl = 0.5 * tf.reduce_sum(mu**2 + tf.exp(log_var) - log_var - 1, 1)
    terms = {
        "reconstruction": -tf.reduce_mean(log_p(model.likelihood, x, outputs)),
        "kl": tf.reduce_mean(kl),
    }
    if model.recipe == "beta_vae":
        c = model.capacity * 2 / 4 if model.capacity else 0.0  # at step 2 of 4
        return terms, terms["reconstruction"] + 4.0 * tf.abs(terms["kl"] - c)
    return terms, terms["reconstruction"] + terms["kl"]


def weights_of(model, x, eps, constant_q, training):
    """z and log w, lists of K, each (B, Z) and (B,)."""
    mu, log_var = model.encoder(x, training=training)
    zs = [mu + tf.exp(log_var / 2) * e for e in tf.unstack(eps, axis=1)]
    if constant_q:
        mu, log_var = tf.stop_gradient(mu), tf.stop_gradient(log_var)
    outputs = model.decoder(tf.concat(zs, 0), training=training)  # normalised together
    logs = [
        log_p(model.likelihood, x, y)
        + log_normal(z, 0.0, tf.zeros_like(z))
        - log_normal(z, mu, log_var)
        for z, y in zip(zs, tf.split(outputs, K), strict=True)
    ]
    return zs, logs


def importance(model, x, eps, double, training):
    """Logs, and the gradients of encoder and decoder."""
    e, d = model.encoder.trainable_variables, model.decoder.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        zs, logs = weights_of(model, x, eps, double, training)
        total = sum(tf.exp(w) for w in shifted(logs))
        bound = tf.reduce_mean(tf.math.log(total / K) + top(logs))
        shares = [tf.stop_gradient(tf.exp(w) / total) for w in shifted(logs)]  # v_i, (B,)
        weighted = sum(v * w for v, w in zip(shares, logs, strict=True))
    if not double:
        return {"bound": -bound}, tape.gradient(bound, [*e, *d])
    slopes = tape.gradient(weighted, zs)  # v_i d log w_i / d z_i
    of_z = [v[:, None] * slope / N for v, slope in zip(shares, slopes, strict=True)]
    parts = [tape.gradient(z, e, output_gradients=g) for z, g in zip(zs, of_z, strict=True)]
    of_encoder = [sum(values) for values in zip(*parts, strict=True)]
    return {"bound": -bound}, [*of_encoder, *tape.gradient(bound, d)]


def top(logs):
    return tf.stop_gradient(tf.reduce_max(tf.stack(logs), 0))


def shifted(logs):
    return [w - top(logs) for w in logs]


def expected(model, uniform, normal, training):
    x = tf.cast(BATCH["image"], "float32") / 127.5 - 1.0
    if model.binarize:
        x = tf.where(uniform(x.shape) < (x + 1) / 2, 1.0, -1.0)
    variables = [*model.encoder.trainable_variables, *model.decoder.trainable_variables]
    if model.recipe == "iwae":
        eps = normal((N, K, model.latent_dim))
        terms, gradients = importance(model, x, eps, model.doubly_reparameterized, training)
        return terms, terms["bound"], [-g for g in gradients]
    with tf.GradientTape() as tape:
        terms, loss = elbo(model, x, normal((N, model.latent_dim)), training)
    return terms, loss, tape.gradient(loss, variables)


def made(name, options):
    model = tiny(name, image_shape=(16, 16, 1), **options)
    model.compile(keras.optimizers.SGD(RATE))
    model.optimizer.build(model.trainable_variables)
    if name == "beta_vae":
        model.updates.assign(2)
    for layer in model.encoder.layers[-2:]:  # mu and log_var: latents that say something
        layer.kernel.assign(2.0 * layer.kernel)
    return model


def test_there_is_a_case_of_each_vae():
    of_vaes = {name for name in zoo.list() if isinstance(zoo.get(name), VAE)}
    assert {name for name, _ in CASES} == of_vaes


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_step_goes_down_the_gradient_of_the_papers_loss(name, options):
    model = made(name, options)
    variables = [*model.encoder.trainable_variables, *model.decoder.trainable_variables]
    start = [variable.numpy() for variable in model.variables]
    before = [variable.numpy() for variable in variables]
    logs = model.train_step(BATCH)
    after = [variable.numpy() for variable in variables]
    for variable, value in zip(model.variables, start, strict=True):
        variable.assign(value)  # the same noise again
    terms, loss, gradients = expected(model, model.uniform, model.normal, True)
    for old, new, gradient, variable in zip(before, after, gradients, variables, strict=True):
        step = RATE * gradient.numpy()
        tolerance = 0.01 * np.abs(step).max() + 1e-6
        np.testing.assert_allclose(old - new, step, 0, tolerance, err_msg=variable.path)
    for key, value in {**terms, "loss": loss}.items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-4, err_msg=key)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_validation_has_the_same_losses_and_moves_nothing(name, options):
    model = made(name, options)
    before = [variable.numpy() for variable in model.variables]
    logs = model.test_step(BATCH)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    terms, loss, _ = expected(model, model.fixed_uniform, model.fixed_normal, False)
    for key, value in {**terms, "loss": loss}.items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-4, err_msg=key)
