"""What is special to the CVAE: encoder and decoder know the class."""

import numpy as np
import pytest
import tensorflow as tf
from contract_data import labelled, tiny

from keras_genai import measuring
from keras_genai.callbacks import health
from keras_genai.models.vaes.vae import bernoulli_nll

ARRAYS = labelled(8).train.arrays()
X = tf.cast(ARRAYS["image"], "float32") / 127.5 - 1.0
LABELS = ARRAYS["label"]


@pytest.fixture(params=["convolutional", "dense"])
def model(request):
    return tiny(
        "cvae", image_shape=(16, 16, 1), num_classes=3, architecture=request.param, hidden_units=8
    )


def test_encoder_and_decoder_know_the_class(model):
    classes, others = tf.one_hot(LABELS, 3), tf.one_hot((LABELS + 1) % 3, 3)
    codes = [model.encoder([X, y])[0].numpy() for y in (classes, others)]
    assert (np.abs(codes[0] - codes[1]).max(1) > 0).all()
    assert (np.abs(model.draw(codes[0], classes) - model.draw(codes[0], others)).max() > 0).all()


def test_the_weights_are_those_of_the_images_given_their_classes(model):
    eps = np.random.default_rng(0).normal(size=(5, 8, 4)).astype("float32")
    weights = model.log_weights(X, eps, LABELS)
    classes = tf.one_hot(LABELS, 3)
    mu, log_var = model.encoder([X, classes])
    for k in range(5):
        z = mu + tf.exp(0.5 * log_var) * eps[k]
        nll = bernoulli_nll(X, model.decoder(tf.concat([z, classes], 1)))
        ratio = 0.5 * tf.reduce_sum(eps[k] ** 2 + log_var - z**2, 1)
        np.testing.assert_allclose(weights[k], ratio - nll, rtol=1e-5)
    np.testing.assert_allclose(model.log_weights(X, eps[2], LABELS), weights[2], rtol=1e-5)


def test_labels_stay_with_their_images_over_batches(model):
    many = labelled(300).train.arrays()
    x, y = many["image"], many["label"]
    np.testing.assert_allclose(model.encode(x, y)[280:], model.encode(x[280:], y[280:]), atol=1e-5)
    weights = measuring.importance_weights(model, x, 3, 0, y)
    assert weights.shape == (3, 300)
    wrong = measuring.importance_weights(model, x, 3, 0, np.roll(y, 1))
    changed = (weights != wrong).any(0)
    np.testing.assert_array_equal(changed, y != np.roll(y, 1))


def test_reconstructions_are_of_the_class_that_is_given(model):
    pictures = model.reconstruct(ARRAYS["image"], LABELS)
    assert pictures.shape == (8, 16, 16, 1) and pictures.dtype == np.uint8
    one = model.reconstruct(ARRAYS["image"], 1)
    same = np.array([(a == b).all() for a, b in zip(pictures, one, strict=True)])
    assert same[LABELS == 1].all()


def test_latents_that_know_the_class_alone_have_collapsed(model):
    source = labelled(48).train
    watch = health.Health(source)
    watch.set_model(model)
    noise = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")

    def of_the_class(images, labels):
        return 0.01 * noise + np.asarray(labels, "float32")[:, None]

    model.encode = of_the_class
    assert "0 of 4 latent units" in health.posterior_collapse(watch)
    model.encode = lambda images, labels: noise
    assert health.posterior_collapse(watch) is None
