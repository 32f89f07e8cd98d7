"""What is special to the Wasserstein GANs: estimate, clipping, penalty, several critic updates."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images

from keras_genai import zoo
from keras_genai.models.base import per_network
from keras_genai.models.gans import wgan, wgan_gp

REAL = np.array([[2.0], [-1.0], [0.5]], "float32")
FAKE = np.array([[-3.0], [0.0], [4.0]], "float32")


def tiny(name, rate=0.0, **overrides):
    """A recipe at its `tiny` size whose networks move by SGD, G not at all."""
    options = {**zoo.info(name).tiny, "seed": 0, "image_shape": (16, 16, 1), **overrides}
    model = zoo.get(name, **options)
    rates = {"generator": 0.0, "discriminator": rate}
    model.compile(per_network(**{k: keras.optimizers.SGD(v) for k, v in rates.items()}))
    model.optimizer.build(model.trainable_variables)
    return model


def step(model, n=16):
    return model.train_step({"image": tf.constant(images(n))})


def test_losses_are_those_of_the_paper():
    np.testing.assert_allclose(wgan.wasserstein_estimate(REAL, FAKE), 0.5 - 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(wgan.generator_loss(FAKE), -1 / 3, rtol=1e-6)


def test_penalised_critic_has_no_batch_normalisation():
    critics = [tiny(name).discriminator for name in ("wgan", "wgan_gp")]
    normalised = [
        any(isinstance(layer, keras.layers.BatchNormalization) for layer in critic.layers)
        for critic in critics
    ]
    assert normalised == [True, False]


@pytest.mark.parametrize("name", ["wgan", "wgan_gp"])
def test_critic_moves_several_times_a_step_each_on_its_own_images(name, monkeypatch):
    model = tiny(name, critic_steps=3)
    seen = []
    call = type(model.discriminator).call

    def spy(self, inputs, **options):
        if self is model.discriminator:
            seen.append(inputs.numpy())
        return call(self, inputs, **options)

    monkeypatch.setattr(type(model.discriminator), "call", spy)
    step(model, 15)
    counts = [int(model.optimizer_of(n).iterations) for n in ("discriminator", "generator")]
    assert counts == [3, 1]
    kinds = {"wgan": 2, "wgan_gp": 3}[name]  # real, generated, and between
    *batches, generated = seen
    assert len(batches) == 3 * kinds and len(generated) == 5
    for kind in range(kinds):
        parts = batches[kind::kinds]
        assert [len(part) for part in parts] == [5, 5, 5]
        assert len(np.unique(np.concatenate(parts).reshape(15, -1), axis=0)) == 15
    whole = np.concatenate([batches[0], batches[kinds], batches[2 * kinds]])
    expected = images(15).astype("float32") / 127.5 - 1
    np.testing.assert_allclose(np.sort(whole, 0), np.sort(expected, 0), atol=1e-6)


def test_penalty_looks_at_a_place_of_its_own_between_each_pair_of_images(monkeypatch):
    model = tiny("wgan_gp")
    alphas = []
    monkeypatch.setattr(
        wgan_gp, "gradient_penalty", lambda critic, x_real, x_fake, a: alphas.append(a) or 0.0
    )
    step(model, 256)
    alphas = np.concatenate(alphas)
    assert alphas.shape == (256, 1, 1, 1) and len(np.unique(alphas)) == 256
    assert alphas.min() >= 0 and alphas.max() <= 1
    # Standard errors: 0.018 of the mean, 0.005 of the variance.
    assert abs(alphas.mean() - 1 / 2) < 0.09 and abs(alphas.var() - 1 / 12) < 0.025


def test_all_weights_of_the_critic_are_clipped():
    model = tiny("wgan", rate=1e-3, clip=0.003)
    step(model)
    for weight in model.discriminator.trainable_variables:
        assert np.abs(weight).max() <= np.float32(0.003), weight.path
    kernel, *_ = model.discriminator.trainable_variables
    assert np.isclose(np.abs(kernel), 0.003).mean() > 0.5, "it is drawn with a deviation of 0.02"
    for others in (model.discriminator.non_trainable_variables, model.generator.weights):
        assert max(np.abs(value).max() for value in others) > 0.5


@pytest.mark.parametrize("name", ["wgan", "wgan_gp"])
def test_step_reports_what_the_critic_says(name):
    model = tiny(name, critic_steps=1, rate=0.5)
    before, x_real = model.discriminator.get_weights(), images(16) / np.float32(127.5) - 1
    draws = []
    for function in ("normal", "uniform"):
        draw = getattr(model, function)
        setattr(model, function, lambda shape, draw=draw: draws.append(draw(shape)) or draws[-1])
    logs = step(model)
    z = {tuple(draw.shape): draw for draw in reversed(draws)}[16, model.latent_dim]
    # G learns from the critic as it is after its last update, and is seen through fresh noise.
    scores = functools.partial(model.discriminator, training=True)
    g_loss = -np.mean(scores(model.generator(draws[-1], training=True)))
    np.testing.assert_allclose(logs["g_loss"], g_loss, rtol=1e-4)
    model.discriminator.set_weights(before)
    x_fake = model.generator(z, training=True)
    wasserstein = np.mean(scores(x_real)) - np.mean(scores(x_fake))
    penalty = 0.0
    if name == "wgan_gp":
        x_hat = draws[0] * x_real + (1 - draws[0]) * x_fake
        with tf.GradientTape() as tape:
            tape.watch(x_hat)
            y = scores(x_hat)
        slopes = np.linalg.norm(tape.gradient(y, x_hat).numpy().reshape(16, -1), axis=1)
        penalty = np.mean((slopes - 1) ** 2)
        np.testing.assert_allclose(logs["gradient_penalty"], penalty, rtol=1e-4)
    np.testing.assert_allclose(logs["wasserstein"], wasserstein, rtol=1e-4)
    np.testing.assert_allclose(logs["d_loss"], 10.0 * penalty - wasserstein, rtol=1e-4)
    assert logs["loss"] == logs["wasserstein"]


@pytest.mark.parametrize("name", ["wgan", "wgan_gp"])
def test_generator_goes_up_the_slope_of_the_critic_after_its_last_update(name):
    model = tiny(name, rate=0.5)
    model.optimizer_of("generator").learning_rate = 1.0
    noise, draw = [], model.normal
    model.normal = lambda shape: noise.append(draw(shape)) or noise[-1]
    before = [variable.numpy() for variable in model.generator.trainable_variables]
    step(model)
    moved = [
        a.numpy() - b for a, b in zip(model.generator.trainable_variables, before, strict=True)
    ]
    for variable, value in zip(model.generator.trainable_variables, before, strict=True):
        variable.assign(value)
    with tf.GradientTape() as tape:
        score = tf.reduce_mean(
            model.discriminator(model.generator(noise[-1], training=True), training=True)
        )
    variables = [variable.value for variable in model.generator.trainable_variables]
    for change, slope in zip(moved, tape.gradient(score, variables), strict=True):
        np.testing.assert_allclose(change, slope, rtol=1e-2, atol=1e-5)
