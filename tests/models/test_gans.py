"""What is special to the GANs: losses against closed forms, averages, augmentation, sizes."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images

from keras_genai import layers, zoo
from keras_genai.losses import r1_penalty
from keras_genai.models.base import per_network
from keras_genai.models.gans import dcgan, gan, lsgan, wgan, wgan_gp

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
    overrides = {"image_shape": (16, 16, 1), **zoo.info(name).tiny, **overrides}
    model = zoo.get(name, seed=0, **overrides)
    optimizers = {"generator": g_rate, "discriminator": d_rate}
    model.compile(per_network(**{k: keras.optimizers.SGD(v) for k, v in optimizers.items()}))
    model.optimizer.build(model.trainable_variables)
    return model


def weights(network):
    return [variable.numpy() for variable in network.trainable_variables]


@pytest.mark.parametrize("name", ["acgan", "cgan", "infogan", "lsgan"])
def test_who_shares_the_networks_of_dcgan_shares_its_rate(name):
    rates = [
        p["default"] for other in (name, "dcgan") for p in zoo.info(other).parameters
        if p["name"] == "learning_rate"
    ]  # fmt: skip
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (lsgan.LSGAN, {"updates": "simultaneous"}),
        (lsgan.LSGAN, {"r1_gamma": 10.0}),
        (wgan.WGAN, {"augment": "cutout"}),
        (wgan.WGAN, {"r1_gamma": 5.0}),
        (wgan_gp.WGANGP, {"updates": "simultaneous"}),
        (wgan_gp.WGANGP, {"r1_gamma": 5.0}),
    ],
)
def test_what_a_subclass_does_not_do_it_does_not_take(model, options):
    with pytest.raises(TypeError, match=next(iter(options))):
        model(**options)


def test_variables_without_a_gradient_are_named():
    model = tiny("gan", 0.1, 0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.generator(tf.zeros((2, 8))))
    with pytest.raises(ValueError, match=r"`minimize` of their own.*Received: .*discriminator/den"):
        model.minimize(tape, loss, model.discriminator)


def test_a_model_file_can_be_imported_first():
    # The zoo imports a file before this one that takes classes from it.
    command = [sys.executable, "-c", "import keras_genai.models.gans.dcgan"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


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


# Augmentation and R1 ------------------------------------------------------------------------------

ALL = "color,translation,cutout"


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_the_discriminator_sees_augmented_images_only(updates, monkeypatch):
    """Where all images are made black ones, both updates go by what D says of black ones."""
    model = tiny("dcgan", g_rate=0.1, d_rate=0.0, updates=updates, augment=ALL)
    x_real = tf.constant(images(16))
    before = weights(model.generator)
    monkeypatch.setattr(model, "augmented", lambda x: 0.0 * x - 1.0)
    logits = model.discriminator(tf.fill((16, 16, 16, 1), -1.0), training=True)
    logs = model.train_step({"image": x_real})
    np.testing.assert_allclose(logs["d_loss"], dcgan.discriminator_loss(logits, logits), rtol=1e-5)
    np.testing.assert_allclose(logs["g_loss"], dcgan.generator_loss(logits), rtol=1e-5)
    for old, new in zip(before, weights(model.generator), strict=True):
        np.testing.assert_array_equal(old, new)  # no gradient comes through black
    monkeypatch.setattr(model, "augmented", None)
    assert model.test_step({"image": x_real}).keys() == logs.keys()


@pytest.mark.parametrize("name", ["acgan", "cgan", "lsgan", "sngan", "wgan_gp"])
def test_other_discriminators_see_augmented_images_only(name, monkeypatch):
    """Where all images are made black ones, D learns the same of any, and G nothing."""
    classes = {"num_classes": 3} if name in ("acgan", "cgan") else {}
    after = []
    for x_real in (images(16), 255 - images(16)):
        model = tiny(name, g_rate=0.1, d_rate=0.1, augment=ALL, **classes)
        before = weights(model.generator)
        monkeypatch.setattr(model, "augmented", lambda x: 0.0 * x - 1.0)
        model.train_step({"image": tf.constant(x_real), "label": tf.range(16) % 3})
        for old, new in zip(before, weights(model.generator), strict=True):
            np.testing.assert_array_equal(old, new)
        after.append(weights(model.discriminator))
    for first, second in zip(*after, strict=True):
        np.testing.assert_array_equal(first, second)


def test_augmentation_draws_from_the_models_own_generator():
    model = tiny("dcgan", 0.1, 0.1, augment=ALL)
    x = tf.random.stateless_uniform((4, 16, 16, 1), (1, 2), -1.0)
    seed = tf.cast(model.seed_generator.state.value, "int32")
    np.testing.assert_array_equal(model.augmented(x), layers.diff_augment(x, ALL, seed))
    assert not np.array_equal(model.augmented(x), layers.diff_augment(x, ALL, seed))
    plain = tiny("dcgan", 0.1, 0.1)
    state = plain.seed_generator.state.numpy()
    assert plain.augmented(x) is x
    np.testing.assert_array_equal(plain.seed_generator.state, state)


def test_augmentations_are_named():
    with pytest.raises(ValueError, match=r"`augment` is .*cutout.*Received: augment='flip'"):
        zoo.get("dcgan", augment="flip")


def smooth(side):
    """A tiny DCGAN whose discriminator is penalised for its slope."""
    model = tiny("dcgan", g_rate=0.0, d_rate=0.1, image_shape=(side, side, 1), r1_gamma=6.0)
    for v in model.discriminator.trainable_variables:  # steep enough to be measured
        v.assign(10.0 * v)
    return model


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_r1_is_added_to_what_the_discriminator_minimises(updates):
    model = smooth(16)
    model.updates = updates
    x_real = tf.cast(images(16), "float32") / 127.5 - 1.0
    z = tf.random.stateless_normal((16, 8), tf.cast(model.seed_generator.state.value, "int32"))
    with tf.GradientTape(persistent=True) as tape:
        real, fake = (model.discriminator(x) for x in (x_real, model.generator(z, training=True)))
        d_loss = dcgan.discriminator_loss(real, fake)
        r1 = 6.0 / 2.0 * r1_penalty(model.discriminator, x_real)  # equation 9
        total = d_loss + r1
    variables = model.discriminator.trainable_variables
    gradients = tape.gradient(total, variables)
    assert np.abs(tape.gradient(r1, variables[0])).max() > 1e-3
    before = weights(model.discriminator)
    logs = model.train_step({"image": tf.constant(images(16))})
    np.testing.assert_allclose(logs["d_loss"], d_loss, rtol=1e-5)
    np.testing.assert_allclose(logs["r1"], r1, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], d_loss + r1 + logs["g_loss"], rtol=1e-5)
    for old, new, g in zip(before, weights(model.discriminator), gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * g, atol=1e-6)


def test_r1_is_the_slope_at_each_real_image():
    model = smooth(16)
    x = tf.cast(images(4), "float32") / 127.5 - 1.0
    step = 1e-2  # D is linear but for the kinks of LeakyReLU
    moves = step * tf.reshape(tf.eye(256), (256, 16, 16, 1))
    slopes = np.stack(
        [(model.discriminator(one + moves) - model.discriminator(one - moves))[:, 0] for one in x]
    ) / (2 * step)  # B 256
    np.testing.assert_allclose(model.r1(x)["r1"], 3.0 * np.mean(np.sum(slopes**2, 1)), rtol=0.02)


def test_with_r1_no_logit_depends_on_another_image():
    model, plain = smooth(16), tiny("dcgan", 0.1, 0.1)
    assert not model.discriminator.non_trainable_variables, "nothing is normalised"
    assert plain.discriminator.non_trainable_variables and "r1" not in plain.loss_names
    found = model.evaluate(images(20), batch_size=8, return_dict=True, verbose=0)
    x = tf.cast(images(20), "float32") / 127.5 - 1.0
    few, all_of_them = (model.discriminator(part, training=True) for part in (x[:2], x))
    np.testing.assert_allclose(few, all_of_them[:2], rtol=1e-4)
    np.testing.assert_allclose(found["r1"], 3.0 * r1_penalty(model.discriminator, x), rtol=1e-4)


def test_continuing_with_both_is_exact_with_xla(tmp_path):
    """2 epochs are 1, a save, a load and 1."""
    options = {"steps_per_epoch": 2, "batch_size": 8, "run_dir": False, "verbose": 0}
    model = tiny("dcgan", 0.1, 0.1, image_shape=(8, 8, 1), augment=ALL, r1_gamma=1.0)
    model.jit_compile = True
    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch or model.save(tmp_path / "half.keras")
    )
    model.fit(images(16, (8, 8, 1)), epochs=2, callbacks=save, **options)
    whole = [variable.numpy() for variable in model.variables]
    half = zoo.load(tmp_path / "half.keras")
    assert (half.augment, half.r1_gamma) == (ALL, 1.0)
    model.adopt(half)
    model.fit(images(16, (8, 8, 1)), epochs=1, **options)
    for variable, expected in zip(model.variables, whole, strict=True):
        np.testing.assert_array_equal(variable, expected)


# Sizes --------------------------------------------------------------------------------------------


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
    for shape in [(28, 28), (28, 28, 2)]:
        with pytest.raises(ValueError, match="1 or 3 channels.*Received: "):
            zoo.get("dcgan", image_shape=shape)
    with pytest.raises(ValueError, match=r"positive whole numbers.*Received: .*\(0, 28, 1\)"):
        zoo.get("dcgan", image_shape=(0, 28, 1))
    # What the data ask for is rounded instead: the images are resized to it.
    assert zoo.get("vae", data=images(shape=(27, 30, 3))).image_shape == (28, 32, 3)
