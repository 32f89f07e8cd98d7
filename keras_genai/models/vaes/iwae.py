"""IWAE: a VAE trained on a tighter bound, from several draws of z an image.

Importance Weighted Autoencoders. Burda, Grosse, Salakhutdinov, 2015,
https://arxiv.org/abs/1509.00519

With K draws z_i = mu + sigma eps_i from q(z|x) and the weights w_i = p(x, z_i) / q(z_i|x), the loss
is the negative of

    L_K = E[log 1/K sum_i w_i]  <=  log p(x)                                          equation 8

in nats an image. L_1 is the evidence lower bound of `vae.py`, and L_K rises with K to log p(x). Its
gradient weighs those of the draws by their normalised weights v_i = w_i / sum_j w_j:

    grad L_K = E[sum_i v_i grad log w_i]                                             section 3

For the encoder's parameters phi, `doubly_reparameterized=True` takes another estimate of the same
gradient. log w_i depends on phi through z_i, and directly, in log q(z_i|x). With one draw the
direct part is noise of mean 0; with more it hides the rest, the more the larger K is.
Reparameterised once more it joins the rest:

    grad_phi L_K = E[sum_i v_i^2  (d log w_i / d z_i)  (d z_i / d phi)]

Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives. Tucker, Lawson, Gu, Maddison,
2018, https://arxiv.org/abs/1810.04152 (IWAE-DReG). The decoder's gradient is the one above. Both
papers have draws that do not depend on each other, which batch normalisation in training joins a
little.

The networks and the likelihoods are those of `vae.py`. An image is encoded once and decoded K
times: a step takes up to K times as long.

Shapes: B batch, H height, W width, C channels, K draws an image, Z latent size.
"""

import math
from typing import Literal

import keras
import tensorflow as tf

from keras_genai.data.images import to_model
from keras_genai.models.base import jit_compile_default
from keras_genai.models.vaes.vae import VAE, log_ratio
from keras_genai.optimizers import adam
from keras_genai.zoo.registry import register


def importance_bound(log_weights):
    """The estimate of L_K in nats, (B,), from the logs of the weights (K, B): equation 8."""
    return tf.reduce_logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])


class _Weighted:
    """Multiplies what flows back through z by weights that come of z only later.

    The gradient of Burda et al. brings v_i (d log w_i / d z_i) back to z_i. One more factor v_i on
    the way from there to phi makes it that of Tucker et al.
    """

    def __call__(self, z):
        """The very z (K, B, Z)."""

        @tf.custom_gradient
        def identity(z):
            return tf.identity(z), lambda dz: self.weights[..., None] * dz

        return identity(z)


@keras.saving.register_keras_serializable("keras_genai")
class IWAE(VAE):
    """The model of Burda et al. (2015), with one layer of latents.

    Args:
        image_shape: (H, W, C), for convolutions multiples of 4, or None: from the data.
        num_samples: K.
        doubly_reparameterized: Whether the encoder's gradient is that of Tucker et al. (2018).
        latent_dim: Z.
        architecture: "convolutional" or "dense", fully connected.
        base_filters: Of convolutions: channels at half the image's size; twice that at a quarter.
        hidden_units: Of fully connected networks: units in each of the two hidden layers.
        likelihood: p(x|z), as in `VAE`.
        binarize: Whether grey values are chances of white, drawn anew each time.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("bound",)

    def __init__(
        self,
        image_shape=None,
        num_samples=5,
        doubly_reparameterized=False,
        latent_dim=32,
        architecture="convolutional",
        base_filters=32,
        hidden_units=500,
        likelihood="bernoulli",
        binarize=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            image_shape, latent_dim, architecture, base_filters, hidden_units, likelihood, binarize,
            seed, **kwargs,
        )  # fmt: skip
        self.num_samples, self.doubly_reparameterized = num_samples, doubly_reparameterized

    def noise(self, x, normal):
        """Noise eps (K, B, Z) for images (B, H, W, C); drawn batch first, which replicas share."""
        eps = normal((tf.shape(x)[0], self.num_samples, self.latent_dim))  # B K Z
        return tf.transpose(eps, (1, 0, 2))

    def train_step(self, data):
        x = self.observed(to_model(data["image"]), self.uniform)  # B H W C
        eps = self.noise(x, self.normal)  # K B Z
        with tf.GradientTape() as tape:
            mu, log_var = self.encoder(x, training=True)  # B Z each
            z = mu + tf.exp(0.5 * log_var) * eps  # K B Z
            if self.doubly_reparameterized:
                weighted = _Weighted()
                z = weighted(z)
                # log q(z|x) is now a function of z alone.
                mu, log_var = tf.stop_gradient(mu), tf.stop_gradient(log_var)
                eps = (z - mu) * tf.exp(-0.5 * log_var)
            log_weights = log_ratio(z, eps, log_var) - self.draws_nll(x, z, training=True)  # K B
            if self.doubly_reparameterized:
                weighted.weights = tf.stop_gradient(tf.nn.softmax(log_weights, axis=0))
            loss = -tf.reduce_mean(importance_bound(log_weights))
        self.minimize(tape, loss, self.encoder, self.decoder)
        return self.log({"bound": loss})

    def test_step(self, data):
        x = self.observed(to_model(data["image"]), self.fixed_uniform)  # B H W C
        log_weights = self.log_weights(x, self.noise(x, self.fixed_normal))  # K B
        loss = -tf.reduce_mean(importance_bound(log_weights))
        return self.log({"bound": loss}, count=tf.shape(x)[0])


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=128,
    step_ms=160,
    paper="arXiv:1509.00519",
    tiny={"num_samples": 3, "doubly_reparameterized": True, "latent_dim": 4, "base_filters": 4},
)
def iwae(
    image_shape: tuple[int, int, int] | None = None,
    num_samples: int = 5,
    doubly_reparameterized: bool = False,
    latent_dim: int = 32,
    architecture: Literal["convolutional", "dense"] = "convolutional",
    base_filters: int = 32,
    hidden_units: int = 500,
    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] = "bernoulli",
    binarize: bool = False,
    learning_rate: float = 1e-3,
    decay_steps: int = 0,
    seed: int | None = None,
):
    """Importance weighted autoencoder: a VAE with a tighter bound on the likelihood."""
    model = IWAE(
        image_shape, num_samples, doubly_reparameterized, latent_dim, architecture, base_filters,
        hidden_units, likelihood, binarize, seed,
    )  # fmt: skip
    model.compile(
        adam(learning_rate, decay_steps),
        jit_compile=jit_compile_default(on_cpu=architecture == "dense"),
    )
    return model
