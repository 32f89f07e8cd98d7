"""Beta-VAE: a VAE whose latents are pressed to stand for one factor of the images each.

beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework. Higgins, Matthey,
Pal, Burgess, Glorot, Botvinick, Mohamed, Lerchner, 2017,
https://openreview.net/forum?id=Sy2fzU9gl

The kl of `vae.py`, which is the price of what z tells of x, is made dearer (equation 4):

    loss = reconstruction + beta kl,   beta > 1

What is dear is spent on what reconstruction gains most from, and is cheapest with latents that are
independent. Reconstructions get worse, and the loss bounds no likelihood: a bound is still
reconstruction + kl, as in `vae.py`. With `capacity` the loss is that of

Understanding disentangling in beta-VAE. Burgess, Higgins, Pal, Matthey, Watters, Desjardins,
Lerchner, 2018, https://arxiv.org/abs/1804.03599

    loss = reconstruction + beta |kl - C|                                            equation 8
    C = capacity min(1, updates / capacity_steps)

(their gamma is `beta` here). The kl, a mean over the batch, is held at C nats, which grow in
training: the factors that gain most come first, one after another, each into a latent that is free.
Since no kl is negative, a capacity of 0 is the loss of Higgins et al.

Both losses have uses beyond their papers. A beta below 1 or a capacity keeps latents that a VAE's
own loss would give up (a collapsed posterior).

Whether latents stand for factors is measured where these are known, as in the data set "shapes":
`mig` of `keras_genai.measure`.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

from typing import Literal

import keras
import tensorflow as tf

from keras_genai import distribution
from keras_genai.data.images import to_model
from keras_genai.losses import annealed
from keras_genai.models.base import jit_compile_default
from keras_genai.models.vaes.vae import VAE
from keras_genai.optimizers import adam
from keras_genai.zoo.registry import register


def beta_loss(terms, beta, capacity, batch_kl):
    """Equation 8 of Burgess et al.: a scalar from `reconstruction` and `kl`, in nats.

    Where replicas share a batch, each has its own `kl`. That of the whole batch, `batch_kl`, says
    for all of them on which side of C it is.
    """
    side = tf.stop_gradient(tf.sign(batch_kl - capacity))
    return terms["reconstruction"] + beta * side * (terms["kl"] - capacity)


@keras.saving.register_keras_serializable("keras_genai")
class BetaVAE(VAE):
    """The model of Higgins et al. (2017), and of Burgess et al. (2018) with `capacity`.

    Args:
        image_shape: (H, W, C), for convolutions multiples of 4, or None: from the data.
        beta: What a nat of kl costs; with `capacity` what a nat too few costs too.
        capacity: C at last, in nats; 0 for the loss of Higgins et al.
        capacity_steps: Updates in which C grows from 0 to `capacity`.
        latent_dim: Z.
        architecture: "convolutional" or "dense", fully connected.
        base_filters: Of convolutions: channels at half the image's size; twice that at a quarter.
        hidden_units: Of fully connected networks: units in each of the two hidden layers.
        likelihood: p(x|z), as in `VAE`.
        binarize: Whether grey values are chances of white, drawn anew each time.
        seed: Fixes weights, noise and data order.
    """

    def __init__(
        self,
        image_shape=None,
        beta=4.0,
        capacity=0.0,
        capacity_steps=5000,
        latent_dim=10,
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
        self.beta, self.capacity, self.capacity_steps = beta, capacity, capacity_steps

    def build_networks(self):
        super().build_networks()
        self.updates = self.counter("updates")

    def loss_of(self, terms, count):
        """The loss, a scalar, of the `elbo_terms` of `count` images."""
        capacity = annealed(self.capacity, self.updates.value, self.capacity_steps)
        (batch_kl,) = distribution.means_over_batch([terms["kl"]], count)
        return beta_loss(terms, self.beta, capacity, batch_kl)

    def train_step(self, data):
        x = self.observed(to_model(data["image"]), self.uniform)  # B H W C
        batch_size = tf.shape(x)[0]
        eps = self.normal((batch_size, self.latent_dim))  # B Z
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(x, eps, training=True)
            loss = self.loss_of(terms, batch_size)
        self.minimize(tape, loss, self.encoder, self.decoder)
        self.updates.assign_add(1.0)
        return self.log(terms, total=loss)

    def test_step(self, data):
        x = self.observed(to_model(data["image"]), self.fixed_uniform)  # B H W C
        batch_size = tf.shape(x)[0]
        eps = self.fixed_normal((batch_size, self.latent_dim))
        terms = self.elbo_terms(x, eps, training=False)
        return self.log(terms, total=self.loss_of(terms, batch_size), count=batch_size)


@register(
    modality="image",
    task="unconditional",
    data="shapes",
    minutes=8,
    batch_size=128,
    step_ms=55,
    paper="openreview:Sy2fzU9gl",
    tiny={"latent_dim": 4, "base_filters": 4, "capacity": 5.0, "capacity_steps": 20},
)
def beta_vae(
    image_shape: tuple[int, int, int] | None = None,
    beta: float = 4.0,
    capacity: float = 0.0,
    capacity_steps: int = 5000,
    latent_dim: int = 10,
    architecture: Literal["convolutional", "dense"] = "convolutional",
    base_filters: int = 32,
    hidden_units: int = 500,
    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] = "bernoulli",
    binarize: bool = False,
    learning_rate: float = 1e-3,
    decay_steps: int = 0,
    seed: int | None = None,
):
    """Beta-VAE: latents that stand for one factor of the images each."""
    model = BetaVAE(
        image_shape, beta, capacity, capacity_steps, latent_dim, architecture, base_filters,
        hidden_units, likelihood, binarize, seed,
    )  # fmt: skip
    model.compile(
        adam(learning_rate, decay_steps),
        jit_compile=jit_compile_default(on_cpu=architecture == "dense"),
    )
    return model
