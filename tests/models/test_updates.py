"""One step of each GAN against its paper: what it logs, and where it moves D and G."""

import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import labelled, tiny

from keras_genai.models import gans
from keras_genai.models.base import per_network

RATE = 0.1
N = 12
BATCH = {key: tf.constant(value[:N]) for key, value in labelled().train.arrays().items()}
X = tf.cast(BATCH["image"], "float32") / 127.5 - 1.0
CLASSES = tf.one_hot(BATCH["label"], 3)

CASES = [
    ("gan", {}),
    ("dcgan", {}),
    ("dcgan", {"updates": "simultaneous"}),
    ("lsgan", {}),
    ("cgan", {"num_classes": 3}),
    ("acgan", {"num_classes": 3}),
    ("infogan", {"category_weight": 2.0, "code_weight": 0.5}),
    ("wgan", {"critic_steps": 1, "clip": 9.0}),
    ("wgan_gp", {"critic_steps": 1}),
    ("sngan", {}),
    ("sngan", {"projection": True, "num_classes": 3}),
]
# In the others G learns from the images that D has just learnt from.
NEW_NOISE_FOR_G = ("gan", "wgan", "wgan_gp", "sngan")
WEIGHTS = {"category_loss": 2.0, "code_loss": 0.5}  # of all other losses 1


def minus_log(logits, truth):
    """Of the probability that D gives to the truth: 1 for "real", 0 for "generated"."""
    p = tf.sigmoid(logits)
    return -tf.reduce_mean(tf.math.log(p if truth else 1.0 - p))


def half_square(scores, truth):
    return tf.reduce_mean((scores - truth) ** 2) / 2.0


def hinge(scores, truth):
    return tf.reduce_mean(tf.maximum(0.0, 1.0 - (scores if truth else -scores)))


def minus_score(scores, truth):
    return tf.reduce_mean(-scores if truth else scores)


# What scores cost D, and what they cost G, which has its images taken for real.
COSTS = {
    "lsgan": (half_square, half_square),
    "wgan": (minus_score, minus_score),
    "wgan_gp": (minus_score, minus_score),
    "sngan": (hinge, minus_score),
}


def cross_entropy(logits, one_hot):
    return -tf.reduce_mean(tf.reduce_sum(one_hot * tf.math.log(tf.nn.softmax(logits)), 1))


def penalty(model, x_fake, alpha):
    x_hat = alpha * X + (1.0 - alpha) * x_fake
    with tf.GradientTape() as tape:
        tape.watch(x_hat)
        scores = model.discriminator(x_hat)
    slopes = tf.norm(tf.reshape(tape.gradient(scores, x_hat), (N, -1)), axis=1)
    return tf.reduce_mean((slopes - 1.0) ** 2)


def draw(model, normal):
    """G's next inputs, and the code that Q is to read off the image."""
    if model.recipe == "infogan":
        z, *code = model.latents(normal((N, model.noise_dim)))
        return tf.concat([z, *code], 1), code
    z = normal((N, model.latent_dim))
    if model.recipe == "sngan":
        return [z, CLASSES][: len(model.generator.inputs)], None
    return tf.concat([z, CLASSES], 1) if model.takes_labels else z, None


def judge(model, *batches, training=True):
    """What D says of batches of images, which do not meet in batch normalisation."""
    if model.recipe == "sngan":  # has none, and makes a step of power iteration each pass
        inputs = [tf.concat(batches, 0), tf.concat([CLASSES] * len(batches), 0)]
        inputs = inputs[: len(model.discriminator.inputs)]
        return tf.split(model.discriminator(inputs, training=training), len(batches))
    if model.recipe == "cgan":
        planes = tf.ones((N, 16, 16, 1)) * CLASSES[:, None, None]
        batches = [[x, planes] for x in batches]
    return [model.discriminator(x, training=training) for x in batches]


def of_codes(fake, code):
    square = tf.reduce_mean(tf.reduce_sum((code[1] - fake[:, 4:]) ** 2, 1))
    return {
        "category_loss": cross_entropy(fake[:, 1:4], code[0]),
        "code_loss": square / 2.0 + np.log(2.0 * np.pi),  # twice log sqrt(2 pi)
    }


def losses_of_d(model, x_fake, code, alpha, training):
    real, fake = judge(model, X, x_fake, training=training)
    cost, _ = COSTS.get(model.recipe, (minus_log, minus_log))
    losses = {"d_loss": cost(real[:, :1], 1.0) + cost(fake[:, :1], 0.0)}
    if model.recipe == "acgan":
        losses["d_class_loss"] = sum(cross_entropy(y[:, 1:], CLASSES) for y in (real, fake))
    if model.recipe == "infogan":
        losses |= of_codes(fake, code)
    if model.recipe == "wgan_gp":
        losses["d_loss"] += 10.0 * penalty(model, x_fake, alpha)
    return losses


def losses_of_g(model, fake, code):
    _, cost = COSTS.get(model.recipe, (minus_log, minus_log))
    losses = {"g_loss": cost(fake[:, :1], 1.0)}
    if model.recipe == "acgan":
        losses["g_class_loss"] = cross_entropy(fake[:, 1:], CLASSES)
    if model.recipe == "infogan":
        losses |= of_codes(fake, code)
    return losses


def weighted(losses):
    return sum(WEIGHTS.get(name, 1.0) * loss for name, loss in losses.items())


def values(variables):
    return [variable.numpy() for variable in variables]


def assign(variables, arrays):
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def test_there_is_a_case_of_each_gan():
    assert {name for name, _ in CASES} == {
        file.name for file in pkgutil.iter_modules(gans.__path__)
    }


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_step_goes_down_the_gradients_of_the_papers_losses(name, options):
    model = tiny(name, image_shape=(16, 16, 1), **options)
    rates = {"generator": RATE, "discriminator": RATE}
    model.compile(per_network(**{k: keras.optimizers.SGD(rate) for k, rate in rates.items()}))
    model.optimizer.build(model.trainable_variables)
    d, g = (net.trainable_variables for net in (model.discriminator, model.generator))
    if name == "wgan_gp":  # steep enough for G's steps to be seen beside float32's
        assign(d, [3.0 * variable for variable in d])
    start, old = values(model.variables), values([*d, *g])
    logs = model.train_step(BATCH)
    new = values([*d, *g])

    assign(model.variables, start)  # the same noise again
    alpha = model.uniform((N, 1, 1, 1)) if name == "wgan_gp" else None
    latents, code = draw(model, model.normal)
    x_fake = model.generator(latents, training=True)
    with tf.GradientTape() as tape:
        d_losses = losses_of_d(model, x_fake, code, alpha, training=True)
        loss = weighted(d_losses)
    gradients = tape.gradient(loss, d)
    if name in NEW_NOISE_FOR_G:
        latents, code = draw(model, model.normal)
    if "updates" not in options:
        assign(d, new[: len(d)])  # D moves first
    with tf.GradientTape() as tape:
        # The vectors of SNGAN's power iterations stand still with D.
        (fake,) = judge(model, model.generator(latents, training=True), training=name != "sngan")
        g_losses = losses_of_g(model, fake, code)
        loss = weighted(g_losses)
    gradients += tape.gradient(loss, g)

    for before, after, gradient, variable in zip(old, new, gradients, [*d, *g], strict=True):
        step = RATE * gradient.numpy()
        tolerance = 0.01 * np.abs(step).max()
        assert tolerance > 0
        np.testing.assert_allclose(before - after, step, 0, tolerance, err_msg=variable.path)
    for key, value in {**d_losses, **g_losses}.items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-4, err_msg=key)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_validation_has_the_same_losses_and_moves_nothing(name, options):
    model = tiny(name, image_shape=(16, 16, 1), **options)
    # Moving averages that differ from what a batch has, biases that are not 0.
    start = [value + 0.1 * np.abs(value) + 0.01 for value in values(model.weights)]
    assign(model.weights, start)
    before = values(model.variables)
    logs = model.test_step(BATCH)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)

    latents, code = draw(model, model.fixed_normal)
    x_fake = model.generator(latents)
    alpha = model.fixed_uniform((N, 1, 1, 1))
    (fake,) = judge(model, x_fake, training=False)
    losses = losses_of_d(model, x_fake, code, alpha, training=False)
    for key, value in {**losses, **losses_of_g(model, fake, code)}.items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-4, err_msg=key)
