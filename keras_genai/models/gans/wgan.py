"""WGAN: a GAN whose critic measures how far generated images are from real ones.

Wasserstein GAN.
Arjovsky, Chintala, Bottou, 2017, https://arxiv.org/abs/1701.07875

D is a critic, not a classifier: its scores have no bounds. Over all functions whose slope is at
most 1, the largest difference of its means is the Wasserstein distance of the two distributions
(equation 2), which falls smoothly as the images get better. A network D comes near it:

    wasserstein = E_x[D(x)] - E_z[D(G(z))]         equation 3, at its maximum, in units of D's slope
    d_loss      = -wasserstein                              algorithm 1, line 5
    w          <- clip(w, -c, c)                            algorithm 1, line 7
    g_loss      = -E_z[D(G(z))]                             algorithm 1, line 10

Weights within [-c, c] keep D's slope below some constant; of this D with batch normalisation, as of
the authors', that is true of a batch as a whole. D is to be near its optimum whenever G learns from
it, so G moves after each `critic_steps` updates of D. Momentum made the training unstable, so the
optimizer is RMSprop (section 4). Below, `loss` is `wasserstein`: of all these numbers of the
training it is the one that tells how good the images are.

A batch is shared evenly among the updates of D, so that each has images of its own, as in
algorithm 1: 320 images are 5 updates with 64, and one of G with as many new ones. The networks are
those of `dcgan.py`.

Shapes: B batch, S share of a batch, H height, W width, C channels, Z latent size.
"""

import keras
import tensorflow as tf

from keras_genai.data.images import to_model
from keras_genai.models.base import jit_compile_default, per_network, shares
from keras_genai.models.gans.dcgan import DCGAN, discriminator, generator
from keras_genai.zoo.registry import register


def wasserstein_estimate(real_scores, fake_scores):
    """Equation 3 for this critic: a scalar from scores (B, 1)."""
    return tf.reduce_mean(real_scores) - tf.reduce_mean(fake_scores)


def generator_loss(fake_scores):
    """Algorithm 1, line 10: a scalar from scores (B, 1)."""
    return -tf.reduce_mean(fake_scores)


@keras.saving.register_keras_serializable("keras_genai")
class WGAN(DCGAN):
    """The model of Arjovsky et al. (2017).

    Args:
        image_shape: (H, W, C), or None: from the data.
        latent_dim: Z, the size of the noise.
        base_filters: Channels at half the image's size; doubled at each further halving.
        critic_steps: Updates of the critic for one of the generator, which share a batch.
        clip: The largest weight of the critic, c.
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("d_loss", "g_loss", "wasserstein")
    sure_d_loss = None  # the number of `DCGAN` is one of logistic losses

    def __init__(
        self,
        image_shape=None,
        latent_dim=128,
        base_filters=32,
        critic_steps=5,
        clip=0.01,
        ema_decay=0.0,
        seed=None,
        **kwargs,
    ):
        # `updates`, `augment` and `r1_gamma` are set here, so that they cannot come in by `kwargs`.
        super().__init__(
            image_shape, latent_dim, base_filters, "alternating", ema_decay, "", 0.0, seed, **kwargs
        )
        self.critic_steps = critic_steps
        self.clip = clip

    def build_networks(self):
        self.generator = generator(self.image_shape, self.latent_dim, self.base_filters)
        # A last bias would cancel in the difference of scores. Beside Keras's epsilon, 1e-3, the
        # variances that clipped weights leave are nothing, and would not be normalised.
        self.discriminator = discriminator(
            self.image_shape, self.base_filters, epsilon=1e-5, last_bias=False
        )
        self.ema_generator = self.averaged(self.generator)

    def train_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        # G stands still while D learns: one pass draws the images for all updates of D.
        x_fake = self.generator(self.normal((batch_size, self.latent_dim)), training=True)
        estimates = []
        for rows in shares(batch_size, self.critic_steps):
            own = [tf.gather(part, rows) for part in (x_real, x_fake)]  # S H W C each
            estimates.append(self.train_critic(*own))
        wasserstein = tf.reduce_mean(estimates)

        z = self.normal((tf.size(rows), self.latent_dim))
        with tf.GradientTape() as tape:
            fake_scores = self.discriminator(self.generator(z, training=True), training=True)
            g_loss = generator_loss(fake_scores)
        self.minimize(tape, g_loss, self.generator)
        losses = {"d_loss": -wasserstein, "g_loss": g_loss, "wasserstein": wasserstein}
        return self.log(losses, total=wasserstein)

    def train_critic(self, x_real, x_fake):
        with tf.GradientTape() as tape:
            # Two passes: batch normalisation must not mix real with generated images.
            real_scores = self.discriminator(x_real, training=True)  # B 1
            fake_scores = self.discriminator(x_fake, training=True)  # B 1
            wasserstein = wasserstein_estimate(real_scores, fake_scores)
            d_loss = -wasserstein
        self.minimize(tape, d_loss, self.discriminator)
        for weight in self.discriminator.trainable_variables:
            weight.assign(tf.clip_by_value(weight, -self.clip, self.clip))
        return wasserstein

    def test_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        x_fake = self.generator(self.fixed_normal((batch_size, self.latent_dim)))
        fake_scores = self.discriminator(x_fake)  # B 1
        wasserstein = wasserstein_estimate(self.discriminator(x_real), fake_scores)
        losses = {
            "d_loss": -wasserstein,
            "g_loss": generator_loss(fake_scores),
            "wasserstein": wasserstein,
        }
        return self.log(losses, total=wasserstein, count=batch_size)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=320,
    step_ms=220,
    paper="arXiv:1701.07875",
    tiny={"latent_dim": 8, "base_filters": 4, "critic_steps": 2, "ema_decay": 0.9},
)
def wgan(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 128,
    base_filters: int = 32,
    critic_steps: int = 5,
    clip: float = 0.01,
    ema_decay: float = 0.0,
    learning_rate: float = 2e-4,
    seed: int | None = None,
):
    """Wasserstein GAN with clipped weights: a loss that tells how good the images are."""
    model = WGAN(image_shape, latent_dim, base_filters, critic_steps, clip, ema_decay, seed)
    # Four times the paper's rate, for ten minutes instead of days. Behind small weights G's
    # gradients are about 1e-5; Keras adds its epsilon, by default 1e-7, to their squares.
    model.compile(
        per_network(
            generator=keras.optimizers.RMSprop(learning_rate, epsilon=1e-16),
            discriminator=keras.optimizers.RMSprop(learning_rate, epsilon=1e-16),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
