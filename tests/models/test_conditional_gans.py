"""What is special to cgan and acgan: how labels enter, losses against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import labelled, tiny

from keras_genai.models.base import per_network
from keras_genai.models.gans import acgan, cgan

REAL = np.array([[2.0], [-1.0], [0.5]], "float32")
FAKE = np.array([[-3.0], [0.0], [4.0]], "float32")
BATCH = {key: tf.constant(value[:12]) for key, value in labelled().train.arrays().items()}
X = tf.cast(BATCH["image"], "float32") / 127.5 - 1.0
CLASSES = tf.one_hot(BATCH["label"], 3)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def make(name, g_rate=0.0, d_rate=0.0, **overrides):
    model = tiny(name, image_shape=(16, 16, 1), num_classes=3, **overrides)
    rates = {"generator": g_rate, "discriminator": d_rate}
    model.compile(per_network(**{k: keras.optimizers.SGD(v) for k, v in rates.items()}))
    model.optimizer.build(model.trainable_variables)
    return model


def noise_of(model):
    """The noise of the next training step."""
    seed = tf.cast(model.seed_generator.state.value, "int32")
    return tf.random.stateless_normal((len(X), model.latent_dim), seed)


@pytest.mark.parametrize("module", [cgan, acgan])
def test_losses_are_those_of_the_papers(module):
    d_loss = -np.mean(np.log(sigmoid(REAL))) - np.mean(np.log(1 - sigmoid(FAKE)))
    g_loss = -np.mean(np.log(sigmoid(FAKE)))
    np.testing.assert_allclose(module.discriminator_loss(REAL, FAKE), d_loss, rtol=1e-6)
    np.testing.assert_allclose(module.generator_loss(FAKE), g_loss, rtol=1e-6)


def test_class_loss_is_minus_the_logarithm_of_the_true_class():
    logits = np.array([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0]], "float32")
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -(np.log(p[0, 1]) + np.log(p[1, 0])) / 2
    np.testing.assert_allclose(acgan.class_loss(logits, np.array([1, 0])), expected, rtol=1e-6)


def test_label_planes_by_hand():
    planes = cgan.label_planes(tf.constant([[0.0, 1.0], [1.0, 0.0]]), 2, 3).numpy()
    ones, zeros = [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]]
    assert planes[..., 0].tolist() == [zeros, ones]
    assert planes[..., 1].tolist() == [ones, zeros]


def test_image_and_planes_are_convolved_as_joined_channels():
    network = cgan.discriminator((16, 16, 1), 3, 4)
    (added,) = [layer for layer in network.layers if isinstance(layer, keras.layers.Add)]
    planes = cgan.label_planes(CLASSES, 16, 16)
    found = keras.Model(network.inputs, added.output)([X, planes])
    of_image, of_planes = (
        [v for v in network.trainable_variables if v.shape == (4, 4, depth, 4)][0]
        for depth in (1, 3)
    )
    kernel = tf.concat([of_image, of_planes], 2)  # 4 4 1+3 F
    expected = tf.nn.conv2d(tf.concat([X, planes], -1), kernel, 2, "SAME")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_labels_reach_images_and_judgements():
    model, other = make("cgan"), tf.roll(CLASSES, 1, axis=1)
    z = noise_of(model)
    assert (np.abs(model(z, CLASSES) - model(z, other)).max((1, 2, 3)) > 0).all()
    assert (model.judge(X, CLASSES).numpy() != model.judge(X, other).numpy()).all()


@pytest.mark.parametrize("name", ["cgan", "acgan"])
def test_sizes_and_colours(name):
    model = tiny(name, image_shape=(33, 47, 3), num_classes=3)
    assert model.generate(2, labels=1, seed=0).shape == (2, 33, 47, 3)
    logs = model.test_step(
        {"image": tf.zeros((2, 33, 47, 3), "uint8"), "label": tf.constant([0, 2])}
    )
    assert all(np.isfinite(value) for value in logs.values())


@pytest.mark.parametrize("name", ["cgan", "acgan"])
def test_samples_come_from_the_average_of_the_generator(name):
    model = make(name, g_rate=0.1, d_rate=0.1)
    model.train_step(BATCH)
    z = tf.random.stateless_normal((2, model.latent_dim), (1, 2))
    found = model.sample(2, (1, 2), tf.constant([2, 0]))
    joined = tf.concat([z, tf.one_hot([2, 0], 3)], 1)
    np.testing.assert_array_equal(found, model.ema_generator(joined))
    assert not np.array_equal(found, model.generator(joined))
