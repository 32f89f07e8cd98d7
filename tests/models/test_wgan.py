"""What is special to the Wasserstein GANs: estimate, clipping, penalty, several critic updates."""

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
    normalised = [any(is_normalisation(layer) for layer in critic.layers) for critic in critics]
    assert normalised == [True, False]


def is_normalisation(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def test_clipped_critic_is_normalised():
    """Its small weights leave variances of 1e-8 to 1e-5, beside which epsilon must not be large."""
    model = zoo.get("wgan", image_shape=(16, 16, 1), seed=0)
    for weight in model.discriminator.trainable_variables:
        weight.assign(tf.clip_by_value(weight, -model.clip, model.clip))
    (layer,) = filter(is_normalisation, model.discriminator.layers)
    inner = keras.Model(model.discriminator.input, layer.output)
    y = inner(images(16) / np.float32(127.5) - 1.0, training=True)
    assert np.std(y / layer.gamma, axis=(0, 1, 2)).mean() > 0.3


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


@pytest.mark.parametrize("module", [wgan, wgan_gp])
def test_what_is_logged_is_the_mean_over_the_updates(module, monkeypatch):
    model = tiny(module.__name__.rsplit(".", 1)[1], rate=0.1, critic_steps=3)
    found, estimate = [], module.wasserstein_estimate
    monkeypatch.setattr(
        module, "wasserstein_estimate", lambda *scores: found.append(estimate(*scores)) or found[-1]
    )
    logs = step(model)
    assert len(found) == 3 and np.ptp(found) > 1e-5
    np.testing.assert_allclose(logs["wasserstein"], np.mean(found), rtol=1e-4)
    penalty = 10.0 * logs.get("gradient_penalty", 0.0)
    np.testing.assert_allclose(logs["d_loss"], penalty - logs["wasserstein"], rtol=1e-4)
    assert logs["loss"] == logs["wasserstein"]


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


def largest(network):
    return max(np.abs(weight).max() for weight in network.trainable_variables)


def test_all_weights_of_the_critic_are_clipped_after_each_update(monkeypatch):
    model = tiny("wgan", rate=1e-3, clip=0.003)
    met, train = [], model.train_critic
    monkeypatch.setattr(
        model, "train_critic", lambda *x: met.append(largest(model.discriminator)) or train(*x)
    )
    step(model)
    assert met[0] > 0.03 and met[1] <= np.float32(0.003)
    for weight in model.discriminator.trainable_variables:
        assert np.abs(weight).max() <= np.float32(0.003), weight.path
    kernel, *_ = model.discriminator.trainable_variables
    assert np.isclose(np.abs(kernel), 0.003).mean() > 0.5, "it is drawn with a deviation of 0.02"
    for others in (model.discriminator.non_trainable_variables, model.generator.weights):
        assert max(np.abs(value).max() for value in others) > 0.5
