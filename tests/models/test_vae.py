"""What is special to the VAE: likelihoods, both terms of its bound, latents, binarisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, labelled, tiny

from keras_genai import zoo
from keras_genai.metrics import importance_nll
from keras_genai.models.vaes import vae

LEVELS = 2.0 * np.arange(256) / 255.0 - 1.0


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def made(**overrides):
    return tiny("vae", data=images(), **overrides)


# Likelihoods ------------------------------------------------------------------------------------


def test_bernoulli_nll_is_the_cross_entropy_of_each_image():
    rng = np.random.default_rng(0)
    x_01, logits = rng.uniform(size=(3, 4, 5, 2)), rng.normal(size=(3, 4, 5, 2))
    p = sigmoid(logits)
    expected = -(x_01 * np.log(p) + (1 - x_01) * np.log(1 - p)).sum((1, 2, 3))
    got = vae.bernoulli_nll(tf.constant(2 * x_01 - 1), tf.constant(logits))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_gaussian_nll_is_minus_the_log_of_the_density():
    rng = np.random.default_rng(0)
    x, mean, log_scale = (rng.normal(size=(3, 4, 5, 2)) for _ in range(3))
    density = np.exp(-((x - mean) ** 2) / (2 * np.exp(2 * log_scale)))
    density /= np.sqrt(2 * np.pi) * np.exp(log_scale)
    got = vae.gaussian_nll(tf.constant(x), tf.constant(mean), tf.constant(log_scale))
    np.testing.assert_allclose(got, -np.log(density).sum((1, 2, 3)), rtol=1e-10)


def mass(mean, log_scale, dtype="float64"):
    """The probability of each level."""
    x, mean, log_scale = (np.asarray(a, dtype) for a in (LEVELS, mean, log_scale))
    nll = vae.discretized_logistic_nll(x[:, None, None, None], mean, log_scale)
    return np.exp(-nll.numpy())


@pytest.mark.parametrize("mean", [-1.3, -1.0, -0.2, 0.001, 0.999, 2.0])
@pytest.mark.parametrize("log_scale", [-6.9, -4.0, -1.0, 3.0])
def test_the_discretized_logistic_is_a_distribution_over_the_levels(mean, log_scale):
    found = mass(mean, log_scale)
    assert found.sum() == pytest.approx(1.0, abs=1e-9)
    edges = np.concatenate([[-np.inf], LEVELS[:-1] + 1 / 255, [np.inf]])
    with np.errstate(over="ignore"):
        expected = np.diff(sigmoid((edges - mean) / np.exp(log_scale)))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert mass(mean, log_scale, "float32").sum() == pytest.approx(1.0, abs=1e-4)


def test_the_discretized_logistic_is_finite_where_a_difference_is_rounded_to_0():
    """A white pixel under a sharp distribution at black; the tail falls by 1/s a unit."""
    x = tf.constant([[0.0], [0.5]])[:, None, None]
    mean, log_scale = tf.Variable(tf.fill(x.shape, -1.0)), tf.Variable(tf.fill(x.shape, -6.0))
    with tf.GradientTape() as tape:
        nll = vae.discretized_logistic_nll(x, mean, log_scale)
    np.testing.assert_allclose(nll[1] - nll[0], 0.5 * np.exp(6.0), rtol=1e-3)
    for gradient in tape.gradient(nll, [mean, log_scale]):
        assert np.isfinite(gradient).all() and (gradient.numpy() < 0).all()


@pytest.mark.parametrize("log_scale", [-9.0, -5.0, -2.0, 2.0])
def test_the_mean_of_a_clipped_logistic_is_that_of_the_levels(log_scale):
    means = np.linspace(-1.5, 1.5, 31)
    found = vae.clipped_logistic_mean(tf.constant(means), tf.constant(log_scale, "float64"))
    expected = [mass(mean, log_scale) @ LEVELS for mean in means]
    assert np.abs(found - expected).max() < 1 / 255 + 1e-9  # half a level
    assert np.abs(found).max() <= 1.0 + 1e-12


def test_the_scale_of_a_gaussian_is_one_number_that_is_learnt():
    model = made(likelihood="gaussian")
    mean, log_scale = tf.split(model.decoder(tf.zeros((2, 4))), 2, -1)
    assert mean.shape == (2, 16, 16, 1) and len(np.unique(log_scale)) == 1
    (weight,) = [v for v in model.decoder.trainable_variables if "log_scale" in v.path]
    x = tf.random.stateless_normal((2, 16, 16, 1), (0, 1))
    best = 0.5 * np.log(np.mean((x - mean) ** 2))
    for value, sign in ((best - 0.5, -1), (best, 0), (best + 0.5, 1)):
        weight.assign([value])
        with tf.GradientTape() as tape:
            nll = vae.image_nll("gaussian", x, model.decoder(tf.zeros((2, 4))))
        slope = tape.gradient(nll, weight).numpy()[0] / 512
        assert abs(slope) < 1e-3 if sign == 0 else sign * slope > 0.1


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        ("bernoulli", lambda y: 2 * sigmoid(y) - 1),
        ("gaussian", lambda y: y[..., :1]),
        (
            "discretized_logistic",
            lambda y: vae.clipped_logistic_mean(*tf.split(tf.constant(y), 2, -1)),
        ),
    ],
)
@pytest.mark.parametrize("architecture", ["convolutional", "dense"])
def test_what_is_decoded_is_the_expected_image(likelihood, expected, architecture):
    model = made(likelihood=likelihood, architecture=architecture, hidden_units=8)
    z = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    decoded = model.decode(z)
    assert decoded.shape == (3, 16, 16, 1)
    np.testing.assert_allclose(decoded, expected(model.decoder(z).numpy()), atol=1e-6)


def test_what_does_not_go_together_is_refused():
    for arguments, message in (
        ({"likelihood": "gauss"}, "`likelihood` is one of bernoulli, gaussian, disc"),
        ({"architecture": "fc"}, "`architecture` is one of convolutional, dense"),
        ({"binarize": True, "likelihood": "gaussian"}, "have the likelihood 'bernoulli'"),
        ({"image_shape": (15, 16, 1)}, "multiples of 4"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Received: "):
            zoo.get("vae", **arguments)
    assert zoo.get("vae", image_shape=(15, 17, 1), architecture="dense").stride == 1


# The bound --------------------------------------------------------------------------------------


def test_kl_agrees_with_monte_carlo():
    rng = np.random.default_rng(0)
    mu, log_var = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    eps = rng.normal(size=(400_000, 2, 3))
    z = mu + np.exp(0.5 * log_var) * eps
    # log q(z) - log p(z); the constants of both cancel.
    samples = (0.5 * (z**2 - eps**2 - log_var)).sum(-1)
    error = samples.std(0) / np.sqrt(len(eps))
    difference = np.abs(vae.gaussian_kl(mu, log_var).numpy() - samples.mean(0))
    assert (difference < 5 * error).all() and (error < 0.02).all()
    assert vae.gaussian_kl(np.zeros((1, 3)), np.zeros((1, 3))).numpy() == 0
    np.testing.assert_allclose(vae.log_ratio(z[:9], eps[:9], log_var), -samples[:9])


def test_elbo_uses_the_noise_it_is_given():
    model = made()
    x = tf.cast(images(6), "float32") / 127.5 - 1
    eps = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    mu, log_var = model.encoder(x)
    logits = model.decoder(mu + tf.sqrt(tf.exp(log_var)) * eps)
    terms = model.elbo_terms(x, eps, training=False)
    np.testing.assert_allclose(
        terms["reconstruction"], np.mean(vae.bernoulli_nll(x, logits)), rtol=1e-5
    )
    np.testing.assert_allclose(terms["kl"], np.mean(vae.gaussian_kl(mu, log_var)), rtol=1e-5)


class Linear(vae.VAE):
    """x = W z + b + s noise, of which p(x) is known; W has orthogonal columns.

    Then the posterior has independent latents too, and the encoder is made to give it.
    """

    def build_networks(self):
        image = keras.Input(self.image_shape)
        flat = keras.layers.Flatten()(image)
        dense = keras.layers.Dense
        self.encoder = keras.Model(image, [dense(2)(flat), dense(2)(flat)], name="encoder")
        z = keras.Input((2,))
        mean = keras.layers.Reshape(self.image_shape)(dense(6)(z))
        self.decoder = keras.Model(z, vae.SharedScale()(mean), name="decoder")

    def solve(self):
        """Sets all weights; returns a function that gives log p(x)."""
        rng = np.random.default_rng(0)
        w = np.linalg.qr(rng.normal(size=(6, 2)))[0] * [1.0, 0.4]
        b, s = rng.normal(size=6) / 4, 0.5
        self.decoder.set_weights([w.T, b, np.log([s])])
        precision = (w**2).sum(0) / s**2 + 1.0
        gain = w / s**2 / precision
        self.encoder.set_weights([gain, -b @ gain, np.zeros((6, 2)), -np.log(precision)])

        def log_p(x):
            covariance = w @ w.T + s**2 * np.eye(6)
            d = np.asarray(x, "float64").reshape(-1, 6) - b
            squares = (d * np.linalg.solve(covariance, d.T).T).sum(1)
            return -0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1])

        return log_p


def linear(cls=Linear, **options):
    model = cls((2, 3, 1), latent_dim=2, architecture="dense", likelihood="gaussian", **options)
    model.compile(keras.optimizers.SGD(1.0))
    model.build()
    return model, model.solve()


def test_the_weights_of_a_linear_gaussian_are_its_likelihood():
    model, log_p = linear()
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (5, 2, 3, 1)).astype("float32")
    eps = rng.normal(size=(7, 5, 2)).astype("float32")
    weights = model.log_weights(x, eps)  # from the true posterior each draw gives it
    np.testing.assert_allclose(weights, np.tile(log_p(x), (7, 1)), rtol=1e-4)
    np.testing.assert_allclose(model.log_weights(x, eps[0]), weights[0], rtol=1e-5)


def test_more_draws_make_a_tighter_bound():
    """ELBO < L_2 < L_10 < log p(x), for an encoder that is not the posterior."""
    model, log_p = linear()
    kernel, bias, *others = model.encoder.get_weights()
    model.encoder.set_weights([0.5 * kernel, bias + 0.3, others[0], others[1] + 0.8])
    x = np.random.default_rng(1).uniform(-1, 1, (1, 2, 3, 1)).astype("float32")
    eps = np.random.default_rng(2).normal(size=(10, 20_000, 2)).astype("float32")
    weights = model.log_weights(np.repeat(x, 20_000, 0), eps).numpy()
    terms = model.elbo_terms(np.repeat(x, 20_000, 0), eps[0], training=False)
    bounds = [-importance_nll(weights[:k]) for k in (1, 2, 10)]
    error = max(bound.std() / np.sqrt(20_000) for bound in bounds)
    elbo, two, ten = (bound.mean() for bound in bounds)
    assert elbo + 5 * error < two < ten - 5 * error < ten + 5 * error < log_p(x)[0]
    assert elbo == pytest.approx(-float(terms["reconstruction"] + terms["kl"]), abs=10 * error)
    assert -importance_nll(weights.reshape(-1, 1))[0] == pytest.approx(log_p(x)[0], abs=0.02)


@pytest.mark.parametrize("name", ["vae", "cvae"])
def test_the_weights_of_an_image_depend_on_no_other(name):
    data = labelled(4)
    model, classes = tiny(name, data=data), ([0, 1, 2, 0],) if name == "cvae" else ()
    x = tf.Variable(tf.cast(data.train.arrays()["image"], "float32") / 127.5 - 1)
    eps = np.random.default_rng(0).normal(size=(3, 4, 4)).astype("float32")
    with tf.GradientTape() as tape:
        weights = model.log_weights(x, eps, *classes)[:, 1]
    moved = np.abs(tape.gradient(weights, x)).max((1, 2, 3)) > 0
    assert moved.tolist() == [False, True, False, False]


# Binarisation -----------------------------------------------------------------------------------


def test_images_are_binarized_with_their_grey_values_as_chances():
    rng = np.random.default_rng(0)
    grey = np.array([0, 1, 64, 128, 254, 255], "float32")
    x = np.broadcast_to(grey / 127.5 - 1, (20_000, 6)).astype("float32")
    drawn = vae.binarized(x, rng.random(x.shape, "float32")).numpy()
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    np.testing.assert_allclose((drawn.mean(0) + 1) / 2, grey / 255, atol=0.015)
    assert (drawn[:, 0] == -1).all() and (drawn[:, -1] == 1).all()
    np.testing.assert_array_equal(vae.binarized(drawn, 0.5), drawn)


def test_training_binarizes_anew_and_validation_always_alike():
    model = made(binarize=True)
    seen = []
    model.elbo_terms = lambda x, *_, **__: (
        seen.append(x.numpy()) or vae.VAE.elbo_terms(model, x, *_, **__)
    )
    batch = {"image": tf.constant(images(8))}
    for step in (model.train_step, model.train_step, model.test_step, model.test_step):
        step(batch)
    assert all(set(np.unique(x)) == {-1.0, 1.0} for x in seen)
    assert not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[2])
    np.testing.assert_array_equal(seen[2], seen[3])


def test_outside_of_training_the_encoder_sees_the_most_probable_image():
    model, x = made(binarize=True), images(5)
    black_and_white = np.where(x >= 128, 255, 0).astype("uint8")
    np.testing.assert_array_equal(model.encode(x), model.encode(black_and_white))
    np.testing.assert_array_equal(model.reconstruct(x), model.reconstruct(black_and_white))


# Edges ------------------------------------------------------------------------------------------


def test_evaluate_weighs_a_smaller_last_batch_by_its_size():
    model = zoo.get("vae", data=images(), seed=0, **zoo.info("vae").tiny)
    model.fixed_normal = lambda shape: tf.zeros(shape)
    whole, parts = (
        model.evaluate(images(10), batch_size=size, verbose=0, return_dict=True) for size in (10, 7)
    )
    assert whole == pytest.approx(parts, rel=1e-5)


def test_encode_and_reconstruct_take_and_give_what_they_say():
    model = zoo.get("vae", data=images(), seed=0, **zoo.info("vae").tiny)
    latents, pictures = model.encode(images(5)), model.reconstruct(images(5))
    assert latents.shape == (5, 4) and latents.dtype == np.float32
    assert pictures.shape == (5, 16, 16, 1) and pictures.dtype == np.uint8
    many = images(300)
    np.testing.assert_allclose(model.encode(many)[256:], model.encode(many[256:]), atol=1e-5)
    np.testing.assert_allclose(model.encode(images(5) / np.float32(255)), latents, atol=1e-5)
    decoded = model.decode(latents)
    assert np.abs(np.round((decoded + 1) * 127.5) - pictures).max() <= 1
