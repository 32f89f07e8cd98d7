"""What is special to IWAE: its bound, and two estimates of one gradient."""

import numpy as np
import tensorflow as tf
from test_vae import Linear, linear

from keras_genai.metrics import importance_nll
from keras_genai.models.vaes import iwae

N = 10_000
IMAGES = np.random.default_rng(3).integers(0, 256, (1, 2, 3, 1)).astype("uint8")


class LinearIWAE(iwae.IWAE):
    build_networks, solve = Linear.build_networks, Linear.solve


def test_the_bound_is_the_log_of_the_mean_weight():
    log_weights = np.random.default_rng(0).normal(0, 5, (7, 4)).astype("float32")
    expected = np.log(np.exp(log_weights.astype("float64")).mean(0))
    found = iwae.importance_bound(tf.constant(log_weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found, -importance_nll(log_weights), rtol=1e-5)


def gradients(repeats, spoilt=True, **options):
    """Of -L_4, by the step itself: means over N draws, (repeats, P), of encoder and decoder."""
    model, _ = linear(LinearIWAE, num_samples=4, **options)
    if spoilt:
        kernel, bias, *others = model.encoder.get_weights()
        model.encoder.set_weights([0.5 * kernel, bias + 0.3, others[0], others[1] + 0.8])
    weights = [model.encoder.get_weights(), model.decoder.get_weights()]
    batch = {"image": tf.constant(np.repeat(IMAGES, N, 0))}
    found = []
    for _ in range(repeats):
        model.train_step(batch)  # down the gradient, at a rate of 1
        moved = [model.encoder.get_weights(), model.decoder.get_weights()]
        found.append(
            [
                np.concatenate([(a - b).ravel() for a, b in zip(before, after, strict=True)])
                for before, after in zip(weights, moved, strict=True)
            ]
        )
        model.encoder.set_weights(weights[0])
        model.decoder.set_weights(weights[1])
    return [np.stack(part) for part in zip(*found, strict=True)]


def test_both_gradients_have_one_expectation():
    plain = gradients(12)
    double = gradients(12, doubly_reparameterized=True)
    for one, other in zip(plain, double, strict=True):
        error = np.sqrt((one.var(0) + other.var(0)) / 12) + 1e-6
        assert (np.abs(one.mean(0) - other.mean(0)) < 5 * error).all()
        assert (np.abs(one.mean(0)).max() > 10 * error).any()
    assert double[0].std(0).mean() < 0.9 * plain[0].std(0).mean()


def test_at_the_true_posterior_only_one_of_them_has_noise():
    """No z then changes a weight; what is left of the other is that of log q's own parameters."""
    ((plain, _), (double, _)) = (
        gradients(2, spoilt=False, doubly_reparameterized=choice) for choice in (False, True)
    )
    assert np.abs(double).max() < 1e-4 < 1e-3 < np.abs(plain).max()


def test_validation_logs_the_bound_of_its_own_noise():
    model, _ = linear(LinearIWAE, num_samples=4)
    x = np.random.default_rng(1).integers(0, 256, (9, 2, 3, 1)).astype("uint8")
    logs = model.test_step({"image": tf.constant(x)})
    eps = tf.transpose(model.fixed_normal((9, 4, 2)), (1, 0, 2))
    weights = model.log_weights(x.astype("float32") / 127.5 - 1, eps)
    np.testing.assert_allclose(logs["bound"], importance_nll(weights).mean(), rtol=1e-5)
    np.testing.assert_array_equal(logs["bound"], logs["loss"])
