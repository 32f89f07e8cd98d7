"""What is special to the beta-VAE: what the kl costs, and the capacity that grows."""

import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, labelled, tiny

from keras_genai import data, distribution, measure, measuring
from keras_genai.data.arrays import ArraySource
from keras_genai.models.vaes.beta_vae import beta_loss


def test_the_loss_by_hand():
    terms = {"reconstruction": 10.0, "kl": 3.0}
    assert float(beta_loss(terms, 4.0, 0.0, 3.0)) == 10 + 4 * 3  # Higgins et al., equation 4
    assert float(beta_loss(terms, 100.0, 5.0, 3.0)) == 10 + 100 * 2
    assert float(beta_loss(terms, 100.0, 1.0, 3.0)) == 10 + 100 * 2


def test_replicas_on_both_sides_of_the_capacity_have_the_loss_of_the_whole_batch(monkeypatch):
    kls, whole = tf.Variable([2.0, 6.0]), {"reconstruction": 10.0, "kl": 4.0}
    with tf.GradientTape() as tape:
        shares = [{"reconstruction": 10.0, "kl": kl} for kl in tf.unstack(kls)]
        loss = sum(beta_loss(share, 3.0, 5.0, 4.0) for share in shares) / 2
    assert float(loss) == float(beta_loss(whole, 3.0, 5.0, 4.0)) == 10 + 3 * 1
    np.testing.assert_array_equal(tape.gradient(loss, kls), [-1.5, -1.5])
    model = tiny("beta_vae", data=images(), capacity=3.0)
    model.updates.assign(model.capacity_steps)
    for batch_kl, expected in ((1.0, 10 - 4 * (4 - 3)), (5.0, 10 + 4 * (4 - 3))):
        told = lambda means, count, told=batch_kl: [told]  # noqa: E731
        monkeypatch.setattr(distribution, "means_over_batch", told)
        assert float(model.loss_of(whole, 8)) == expected


def test_the_capacity_grows_with_the_updates():
    model = tiny("beta_vae", data=images(), capacity=25.0, capacity_steps=100)
    terms = {"reconstruction": 0.0, "kl": 100.0}
    for updates, capacity in ((0, 0.0), (1, 0.25), (50, 12.5), (100, 25.0), (1000, 25.0)):
        model.updates.assign(updates)
        assert float(model.loss_of(terms, 8)) == pytest.approx(4.0 * (100.0 - capacity))
    model.test_step({"image": images(8)})
    assert float(model.updates) == 1000
    model.train_step({"image": tf.constant(images(8))})
    assert float(model.updates) == 1001
    model.compile("sgd")
    assert float(model.updates) == 1001, "another optimizer goes on"


def factored(n):
    """Blobs, and the place that made each."""
    x = images(n)
    place = x.reshape(n, -1).argmax(1)
    arrays = {"image": x, "row": place // 16 // 4, "column": place % 16 // 4}
    return ArraySource(arrays, name="blobs", factors=("row", "column"))


def test_latents_are_measured_against_the_factors_of_the_data():
    parts = data.Dataset("blobs", factored(60), test=factored(50))
    model = tiny("beta_vae", data=parts)
    held = parts.test.arrays()

    def perfect(x):
        order = [int(np.flatnonzero((held["image"] == i).all((1, 2, 3)))[0]) for i in x]
        codes = np.stack([held["column"], 0 * held["row"], -held["row"]], 1)
        return codes[order].astype("float32")

    model.encode = perfect
    table = measure(model, parts, ["mig"], num_samples=40)
    (row,) = table.rows
    # The rows of blobs may tell a little of their columns, by chance.
    assert 0.7 < row.value <= 1.0
    assert (row.samples, row.split, row.features) == (40, "test", "latents, 20 bins")
    with pytest.raises(ValueError, match=r"say how their images were made.*Received: 'mig'"):
        measure(model, images(60), ["mig"])
    with pytest.raises(ValueError, match=r"a method `encode`.*Received: 'mig'"):
        measure(images(50), parts, ["mig"])
    with pytest.raises(ValueError, match=r"this model has one\. Received: 'mig'"):
        measure(tiny("beta_vae", data=parts, latent_dim=1), parts, ["mig"])


def test_a_factor_that_does_not_vary_is_no_factor():
    source = factored(40)
    arrays = {**source.arrays(), "row": np.zeros(40, int)}
    held = ArraySource(arrays, name="blobs", factors=("row", "column"))
    parts = data.Dataset("blobs", source, test=held)
    with pytest.raises(ValueError, match=r"all vary\. Received: 30 images with one in common"):
        measure(tiny("beta_vae", data=parts), parts, ["mig"], num_samples=30)


def test_a_model_that_is_told_the_class_need_not_encode_it():
    arrays = {**labelled().train.arrays(), "row": np.arange(48) % 4}
    source = ArraySource(arrays, name="blobs", factors=("label", "row"), class_names=[*"abc"])
    parts = data.Dataset("blobs", source, test=source)
    for name, count in (("cvae", 1), ("beta_vae", 2)):
        subject = measuring.subject_of(tiny(name, data=parts), "image", parts, 20, seed=0)
        assert subject.factors.shape == (20, count)


def test_shapes_say_how_they_were_made():
    source = data.load("shapes").test
    assert source.factors == ("label", "scale", "orientation", "x", "y")
    assert set(source.factors) <= set(source.arrays(1))
    first, second = source.split(0.5, 0)
    assert first.factors == second.factors == source.factors
    assert data.load("digits").test.factors == ()
