"""What is special to the beta-VAE: what the kl costs, and the capacity that grows."""

import numpy as np
import pytest
from contract_data import images, tiny

from keras_genai import data, measure
from keras_genai.data.arrays import ArraySource
from keras_genai.models.vaes.beta_vae import beta_loss


def test_the_loss_by_hand():
    terms = {"reconstruction": 10.0, "kl": 3.0}
    assert float(beta_loss(terms, 4.0, 0.0)) == 10 + 4 * 3  # Higgins et al., equation 4
    assert float(beta_loss(terms, 100.0, 5.0)) == 10 + 100 * 2
    assert float(beta_loss(terms, 100.0, 1.0)) == 10 + 100 * 2


def test_the_capacity_grows_with_the_optimizers_steps():
    model = tiny("beta_vae", data=images(), capacity=25.0, capacity_steps=100)
    for step, capacity in ((0, 0.0), (1, 0.25), (50, 12.5), (100, 25.0), (1000, 25.0)):
        model.optimizer.iterations.assign(step)
        assert float(model.current_capacity()) == pytest.approx(capacity)
    logs = model.test_step({"image": images(8)})
    terms = {key: float(logs[key]) for key in ("reconstruction", "kl")}
    assert float(logs["loss"]) == pytest.approx(float(beta_loss(terms, 4.0, 25.0)), rel=1e-5)


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


def test_shapes_say_how_they_were_made():
    source = data.load("shapes").test
    assert source.factors == ("label", "scale", "orientation", "x", "y")
    assert set(source.factors) <= set(source.arrays(1))
    first, second = source.split(0.5, 0)
    assert first.factors == second.factors == source.factors
    assert data.load("digits").test.factors == ()
