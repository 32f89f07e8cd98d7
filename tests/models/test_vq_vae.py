"""What is special to the VQ-VAE: the codebook, its gradients and averages, the prior, sampling."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from contract_data import eager, images, tiny

from keras_genai import zoo
from keras_genai.models.vaes import vq_vae
from keras_genai.models.vaes.vae import bernoulli_nll

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def codebook(codes, decay=0.9, restart_below=0.0):
    made = vq_vae.Codebook(*codes.shape, decay, restart_below)
    made.build()
    return filled(made, codes)


def filled(book, codes):
    book.codes.assign(codes)
    book.sums.assign(codes * book.use.numpy()[:, None])
    return book


def test_the_nearest_code_is_found():
    z, codes = normal(2, 3, 4, 5), normal(7, 5)
    distances = ((z[..., None, :] - codes) ** 2).sum(-1)  # 2 3 4 7
    book = codebook(codes)
    found = book.nearest(z).numpy()
    np.testing.assert_array_equal(found, distances.argmin(-1))
    np.testing.assert_array_equal(book.vectors(found), codes[found])


def test_the_gradient_goes_straight_through():
    """The decoder sees e; its gradient there, 3 e^2, is what z gets."""
    z, e = tf.constant(normal(2, 3, 3, 4)), tf.constant(normal(2, 3, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch([z, e])
        q = vq_vae.straight_through(z, e)
        cost = tf.reduce_sum(q**3)
    of_z, of_e = tape.gradient(cost, [z, e])
    np.testing.assert_allclose(q, e, atol=1e-6)
    np.testing.assert_allclose(of_z, 3 * e.numpy() ** 2, rtol=1e-4, atol=1e-6)
    assert of_e is None


def test_commitment_pulls_z_towards_the_code_and_leaves_the_code_alone():
    z, e = tf.constant(normal(2, 3, 3, 4)), tf.constant(normal(2, 3, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch([z, e])
        loss = vq_vae.commitment(z, e)
    of_z, of_e = tape.gradient(loss, [z, e])
    np.testing.assert_allclose(loss, ((z - e).numpy() ** 2).sum() / 2, rtol=1e-5)
    np.testing.assert_allclose(of_z, 2 * (z - e) / 2, rtol=1e-5)
    assert of_e is None


def test_the_encoder_gets_the_decoders_gradient_and_that_of_the_commitment():
    model = tiny("vq_vae", data=images(), commitment_weight=0.5)
    x = tf.cast(images(6), "float32") / 127.5 - 1
    z = tf.constant(model.encoder(x))
    e = model.codebook.vectors(model.codebook.nearest(z))
    with tf.GradientTape() as tape:
        tape.watch(e)
        cost = tf.reduce_mean(bernoulli_nll(x, model.decoder(e)))
    expected = tape.gradient(cost, e) + 0.5 * 2 * (z - e) / 6
    with tf.GradientTape() as tape:
        tape.watch(z)
        model.encoder = lambda x, training: z
        loss = tf.add_n([*model.autoencode(x, training=True)[2].values()])
    np.testing.assert_allclose(tape.gradient(loss, z), expected, rtol=1e-3, atol=1e-6)


def test_codes_follow_the_means_of_their_vectors():
    """Two steps of appendix A.1, written with counts as there."""
    model = tiny("vq_vae", data=images(), num_codes=5, restart_below=0.0, decay=0.8)
    start = normal(5, 4)
    start[4] = 100.0  # never nearest
    filled(model.codebook, start)
    counts, sums, expected = np.full(5, 18.0 / 5), start * 18.0 / 5, start
    for _ in range(2):
        z = normal(2, 3, 3, 4)
        codes = model.codebook.nearest(z)
        shares, means = model.statistics(z, codes)
        model.codebook.update(5 * shares, 5 * means, rows=normal(5, 4))
        nearest = ((z.reshape(18, 1, 4) - expected) ** 2).sum(-1).argmin(1)
        for k in range(5):
            chosen = z.reshape(18, 4)[nearest == k]
            counts[k] = 0.8 * counts[k] + 0.2 * len(chosen)
            sums[k] = 0.8 * sums[k] + 0.2 * chosen.sum(0)
        expected = sums / counts[:, None]
        np.testing.assert_allclose(shares, np.bincount(nearest, minlength=5) / 18, rtol=1e-5)
        np.testing.assert_allclose(model.codebook.codes, expected, rtol=1e-3)
        np.testing.assert_allclose(model.codebook.use, 5 * counts / 18, rtol=1e-4)
    np.testing.assert_allclose(model.codebook.codes[4], start[4], rtol=1e-3)


def test_dead_codes_and_no_others_become_vectors_of_the_batch():
    book = codebook(normal(4, 3), decay=0.5, restart_below=0.1)
    book.use.assign([1.0, 0.21, 0.19, 0.0])
    rows, before = normal(4, 3), book.codes.numpy()
    book.sums.assign(before * book.use.numpy()[:, None])
    book.update(n=tf.zeros(4), sums=tf.zeros((4, 3)), rows=rows)
    np.testing.assert_allclose(book.codes[:2], before[:2], rtol=1e-3)
    np.testing.assert_allclose(book.codes[2:], rows[2:], rtol=1e-3)
    np.testing.assert_allclose(book.use, [0.5, 0.105, 1.0, 1.0], rtol=1e-5)


def test_codes_that_the_first_batch_does_not_use_restart_in_it():
    book = codebook(normal(3, 2), decay=0.99, restart_below=0.1)
    rows = normal(3, 2)
    book.update(n=tf.constant([3.0, 0.0, 0.0]), sums=tf.constant(normal(3, 2)), rows=rows)
    np.testing.assert_allclose(book.codes[1:], rows[1:], rtol=1e-3)
    assert not np.allclose(book.codes[0], rows[0], rtol=0.1)


def test_restarts_draw_places_of_the_batch_at_random():
    model = tiny("vq_vae", data=images(), num_codes=600)
    z = np.arange(2 * 3 * 3 * 4, dtype="float32").reshape(2, 3, 3, 4)
    first, second = model.random_rows(z).numpy(), model.random_rows(z).numpy()
    counts = np.unique(first[:, 0] // 4, return_counts=True)[1]
    np.testing.assert_array_equal(first, first[:, :1] + np.arange(4))
    assert len(counts) == 18 and counts.min() > 10 and counts.max() < 65
    assert not np.array_equal(first, second)


def test_after_code_steps_only_the_prior_learns():
    model = eager("vq_vae", data=images(), code_steps=2)
    fixed = [*model.encoder.weights, *model.decoder.weights, *model.codebook.weights]

    def moved():
        """Whether each variable moves in a step: of the autoencoder, and of the prior."""
        groups = fixed, model.prior.weights
        before = [[v.numpy() for v in group] for group in groups]
        model.train_step({"image": images(8)})
        return [
            [not np.array_equal(a, v) for a, v in zip(old, group, strict=True)]
            for old, group in zip(before, groups, strict=True)
        ]

    for learning in (True, True, False, False):
        of_codes, of_prior = moved()
        assert all(of_codes) if learning else not any(of_codes)
        assert all(of_prior)


def test_perplexity_counts_codes():
    assert vq_vae.perplexity(tf.fill(8, 1 / 8)).numpy() == pytest.approx(8, rel=1e-5)
    assert vq_vae.perplexity(tf.constant([0.0, 1.0, 0.0])).numpy() == 1
    assert vq_vae.perplexity(tf.constant([0.5, 0.25, 0.25])).numpy() == pytest.approx(2**1.5)


def test_loss_is_what_is_minimised_and_not_how_codes_are_used():
    model = tiny("vq_vae", data=images())
    logs = {key: float(value) for key, value in model.test_step({"image": images(8)}).items()}
    parts = sum(logs[key] for key in ("reconstruction", "commitment", "prior_loss"))
    assert logs["loss"] == pytest.approx(parts, rel=1e-6)
    found = np.bincount(model.codes(images(8)).ravel(), minlength=16)
    assert logs["codes_used"] == pytest.approx((found > 0).mean())
    expected = vq_vae.perplexity(found / found.sum()).numpy()
    assert logs["perplexity"] == pytest.approx(expected, rel=1e-5)


def with_strong_prior(**overrides):
    """A prior in which codes depend on each other strongly, untrained as it is."""
    model = tiny("vq_vae", **overrides)
    for weight in model.prior.weights:
        weight.assign(3.0 * weight + 0.1 * normal(*weight.shape))
    return model


def probabilities(model):
    """Of every grid of codes, (K^T,), in lexicographic order."""
    places = model.grid[0] * model.grid[1]
    grids = np.array([*itertools.product(range(model.num_codes), repeat=places)], "int32")
    around = vq_vae.neighbours(grids.reshape(-1, *model.grid), model.num_codes)
    return np.exp(-vq_vae.code_nll(grids, model.prior(around)).numpy())


def test_the_prior_is_a_distribution_over_grids():
    model = with_strong_prior(image_shape=(8, 8, 1), num_codes=3)
    p = probabilities(model)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert p.max() > 10 / 81, "it must differ from the uniform one"
    grid = np.array([[[2, 0], [1, 1]]], "int32")
    assert np.exp(-model.prior_loss(grid, False)) == pytest.approx(p[2 * 27 + 3 + 1], rel=1e-4)


def test_neighbours_are_those_that_come_before():
    """Codes 0 to 2, and 3 outside of the grid; each of the four counts on from where one ended."""
    around = vq_vae.neighbours(np.array([[[0, 1], [2, 0]]], "int32"), 3).numpy()
    expected = [[3, 3, 3, 3], [0, 3, 3, 3], [1, 3, 0, 1], [2, 0, 1, 3]]
    np.testing.assert_array_equal(around, [np.array(expected) + [0, 4, 8, 12]])


def test_a_code_is_predicted_from_all_before_it_and_from_nothing_else():
    model = tiny("vq_vae", image_shape=(12, 16, 1))
    codes = RNG.integers(0, 16, (1, 3, 4)).astype("int32")

    def logits(codes):
        return model.prior(vq_vae.neighbours(codes, 16)).numpy()[0]  # T K

    before = logits(codes)
    for i in range(12):
        changed = codes.copy()
        changed[0, i // 4, i % 4] = (codes[0, i // 4, i % 4] + 1) % 16
        difference = np.abs(logits(changed) - before).max(1)
        np.testing.assert_array_equal(difference[: i + 1], 0)
        assert i == 11 or difference[i + 1 :].min() > 1e-5


def test_samples_are_as_frequent_as_the_prior_says():
    model = with_strong_prior(image_shape=(8, 8, 1), num_codes=2, prior_layers=2)
    p, n = probabilities(model), 20_000
    codes = tf.function(lambda: model.sample_codes(n, tf.constant([3, 4])))().numpy()
    assert codes.shape == (n, 2, 2) and codes.dtype == np.int32
    counts = np.bincount(codes.reshape(n, 4) @ [8, 4, 2, 1], minlength=16)
    assert (np.abs(counts - n * p) < 5 * np.sqrt(n * p * (1 - p)) + 1).all()
    assert p.max() > 2 / 16


def test_images_become_codes_and_codes_images():
    model = tiny("vq_vae", data=images())
    codes, pictures = model.codes(images(5)), model.reconstruct(images(5))
    assert codes.shape == (5, 4, 4) and codes.dtype == np.int32
    assert 0 <= codes.min() and codes.max() < 16
    assert pictures.shape == (5, 16, 16, 1) and pictures.dtype == np.uint8
    assert np.abs(np.round((model.decode(codes) + 1) * 127.5) - pictures).max() <= 1
    assert not hasattr(model, "log_weights"), "there is no noise to draw"


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"multiple of 4.*Received: prior_width=10"):
        zoo.get("vq_vae", prior_width=10)
