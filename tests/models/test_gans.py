"""What is special to the GANs: losses against closed forms, who is updated by what."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images

from keras_genai import zoo
from keras_genai.models.base import per_network
from keras_genai.models.gans import dcgan, gan, lsgan

REAL = np.array([[2.0], [-1.0], [0.5]], "float32")
FAKE = np.array([[-3.0], [0.0], [4.0]], "float32")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@pytest.mark.parametrize("module", [gan, dcgan])
def test_losses_are_those_of_goodfellow(module):
    # Equation 1 in terms of probabilities, and the non-saturating loss of section 3.
    d_loss = -np.mean(np.log(sigmoid(REAL))) - np.mean(np.log(1 - sigmoid(FAKE)))
    g_loss = -np.mean(np.log(sigmoid(FAKE)))
    np.testing.assert_allclose(module.discriminator_loss(REAL, FAKE), d_loss, rtol=1e-6)
    np.testing.assert_allclose(module.generator_loss(FAKE), g_loss, rtol=1e-6)
    extreme = np.array([[200.0], [-200.0]], "float32")
    assert np.isfinite(module.discriminator_loss(extreme, extreme))


def test_losses_of_lsgan_are_those_of_mao():
    # Equation 9 with a = 0, b = c = 1: real (1, -2, -0.5)^2 and fake (-3, 0, 4)^2, then from 1.
    np.testing.assert_allclose(lsgan.discriminator_loss(REAL, FAKE), (5.25 + 25.0) / 6, rtol=1e-6)
    np.testing.assert_allclose(lsgan.generator_loss(FAKE), (16.0 + 1.0 + 9.0) / 6, rtol=1e-6)


def tiny(name, g_rate, d_rate, **overrides):
    overrides = {**zoo.info(name).tiny, **overrides}
    model = zoo.get(name, seed=0, image_shape=(16, 16, 1), **overrides)
    optimizers = {"generator": g_rate, "discriminator": d_rate}
    model.compile(per_network(**{k: keras.optimizers.SGD(v) for k, v in optimizers.items()}))
    model.optimizer.build(model.trainable_variables)
    return model


def weights(network):
    return [variable.numpy() for variable in network.trainable_variables]


@pytest.mark.parametrize("name", ["gan", "dcgan", "lsgan", "wgan", "wgan_gp"])
@pytest.mark.parametrize("moving", ["generator", "discriminator"])
def test_each_optimizer_moves_its_own_network(name, moving):
    rates = {"g_rate": 0.1 * (moving == "generator"), "d_rate": 0.1 * (moving == "discriminator")}
    # Clipping would move the critic too.
    model = tiny(name, **rates, **({"clip": 1.0} if name == "wgan" else {}))
    before = {key: weights(getattr(model, key)) for key in ("generator", "discriminator")}
    model.train_step({"image": tf.constant(images(16))})
    for key, old in before.items():
        changes = [
            np.abs(a - b).max() for a, b in zip(weights(getattr(model, key)), old, strict=True)
        ]
        assert (min(changes) > 0) if key == moving else (max(changes) == 0), key


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (dcgan, {"updates": "alternating"}),
        (dcgan, {"updates": "simultaneous"}),
        (lsgan, {}),
    ],
)
def test_step_reports_the_losses_of_its_formulas(module, options):
    name = module.__name__.rsplit(".", 1)[1]
    model = tiny(name, g_rate=0.0, d_rate=0.05, **options)
    z_seed = tf.cast(model.seed_generator.state.value, "int32")
    z = tf.random.stateless_normal((16, model.latent_dim), z_seed)
    x_real = tf.cast(images(16), "float32") / 127.5 - 1.0
    x_fake = model.generator(z, training=True)
    real_logits, old_logits = (model.discriminator(x, training=True) for x in (x_real, x_fake))
    expected_d = module.discriminator_loss(real_logits, old_logits)
    logs = model.train_step({"image": tf.constant(images(16))})
    # Alternating, G learns from what D says after its own update, of the same images.
    new_logits = model.discriminator(x_fake, training=True)
    assert np.abs(new_logits - old_logits).max() > 1e-4
    expected_g = module.generator_loss(
        old_logits if model.updates == "simultaneous" else new_logits
    )
    np.testing.assert_allclose(logs["d_loss"], expected_d, rtol=1e-5)
    np.testing.assert_allclose(logs["g_loss"], expected_g, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], expected_d + expected_g, rtol=1e-5)


def test_updates_are_named():
    with pytest.raises(ValueError, match=r'"alternating" or "simultaneous".*Received: '):
        zoo.get("dcgan", updates="both")


def test_samples_come_from_the_average_of_the_generator():
    """mean <- mean + (1 - min(decay, (1 + t) / (10 + t))) (weights - mean), t the step."""
    model = tiny("dcgan", g_rate=0.1, d_rate=0.1, ema_decay=0.25)
    expected = [v.numpy() for v in model.generator.weights]
    for step in range(1, 6):
        model.train_step({"image": tf.constant(images(16))})
        kept = min(0.25, (1 + step) / (10 + step))
        for i, v in enumerate(model.generator.weights):
            expected[i] = expected[i] + (1 - kept) * (v.numpy() - expected[i])
    for mean, value in zip(model.ema_generator.weights, expected, strict=True):
        np.testing.assert_allclose(mean, value, rtol=1e-5, atol=1e-7)
    z = tf.random.stateless_normal((3, model.latent_dim), (1, 2))
    np.testing.assert_array_equal(model.sample(3, (1, 2)), model.ema_generator(z))
    assert not np.array_equal(model.ema_generator(z), model.generator(z))


def test_without_decay_there_is_no_average(tmp_path):
    model = tiny("dcgan", 0.1, 0.1, ema_decay=0.0)
    assert model.ema_generator is model.generator
    model.train_step({"image": tf.constant(images(16))})
    model.save(tmp_path / "model.keras")
    loaded = zoo.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.generate(2, seed=0), model.generate(2, seed=0))


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (6, [6, 3]),
        (16, [16, 8, 4]),
        (20, [20, 10, 5]),
        (28, [28, 14, 7, 4]),
        (64, [64, 32, 16, 8, 4]),
    ],
)
def test_dcgan_halves_down_to_a_few_pixels(side, expected):
    assert [height for height, _ in dcgan.sizes((side, 2 * side, 1))] == expected
    assert dcgan.sizes((side, 2 * side, 1))[1] == (-(-side // 2), side)


@pytest.mark.parametrize("name", ["gan", "dcgan"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 47, 3), (64, 64, 3)])
def test_sizes_and_colours(name, shape):
    model = zoo.get(name, image_shape=shape, seed=0, **zoo.info(name).tiny)
    assert model.generate(2, seed=0).shape == (2, *shape)
    assert model.discriminator(np.zeros((2, *shape), "float32")).shape == (2, 1)


def test_impossible_sizes_are_refused_with_the_nearest_legal_one():
    with pytest.raises(ValueError, match=r"multiples of 4.*\(28, 32, 1\).*Received: .*27"):
        zoo.get("vae", image_shape=(27, 31, 1))
    for shape in [(28, 28), (28, 28, 2), (0, 28, 1)]:
        with pytest.raises(ValueError, match="1 or 3 channels.*Received: "):
            zoo.get("dcgan", image_shape=shape)
    # What the data ask for is rounded instead: the images are resized to it.
    assert zoo.get("vae", data=images(shape=(27, 30, 3))).image_shape == (28, 32, 3)
