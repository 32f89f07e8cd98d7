"""LSGAN: a GAN whose discriminator solves a regression.

Least Squares Generative Adversarial Networks.
Mao, Li, Xie, Lau, Wang, Smolley, 2017, https://arxiv.org/abs/1611.04076

D(x) is a number, not a logit: 1 for real images, 0 for generated ones (equation 9):

    d_loss = 1/2 E_x[(D(x) - 1)^2] + 1/2 E_z[D(G(z))^2]
    g_loss = 1/2 E_z[(D(G(z)) - 1)^2]

Unlike a logistic loss this one also pulls generated images that D takes for real towards the
border between the two. The networks are those of `dcgan.py`, and as there one batch of generated
images serves both updates: D learns on it, then G from what the new D says of it. The learning rate
is that of `dcgan.py` too, so that comparing the two compares losses.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

import keras
import tensorflow as tf

from keras_genai.data.images import to_model
from keras_genai.models.base import jit_compile_default, per_network
from keras_genai.models.gans.dcgan import DCGAN
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


def discriminator_loss(real_scores, fake_scores):
    """Equation 9, first line: a scalar from scores (B, 1)."""
    return 0.5 * (tf.reduce_mean((real_scores - 1.0) ** 2) + tf.reduce_mean(fake_scores**2))


def generator_loss(fake_scores):
    """Equation 9, second line: a scalar from scores (B, 1)."""
    return 0.5 * tf.reduce_mean((fake_scores - 1.0) ** 2)


@keras.saving.register_keras_serializable("keras_genai")
class LSGAN(DCGAN):
    """The model of Mao et al. (2017), with the networks of `DCGAN` and alternating updates.

    Args:
        image_shape: (H, W, C), or None: from the data.
        latent_dim: Z, the size of the noise.
        base_filters: Channels at half the image's size; doubled at each further halving.
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        augment: "" or what D's images go through, such as "color,translation,cutout".
        seed: Fixes weights, noise and data order.
    """

    sure_d_loss = None  # the number of `DCGAN` is one of logistic losses

    def __init__(
        self,
        image_shape=None,
        latent_dim=128,
        base_filters=32,
        ema_decay=0.0,
        augment="",
        seed=None,
        **kwargs,
    ):
        # `updates` and `r1_gamma` are set here, so that they cannot come in by `kwargs`.
        super().__init__(
            image_shape, latent_dim, base_filters, "alternating", ema_decay, augment, 0.0, seed,
            **kwargs,
        )  # fmt: skip

    def train_step(self, data):
        x_real = self.augmented(to_model(data["image"]))  # B H W C
        z = self.normal((tf.shape(x_real)[0], self.latent_dim))  # B Z
        with tf.GradientTape() as tape:
            x_fake = self.augmented(self.generator(z, training=True))  # B H W C
            with tape.stop_recording():
                d_loss = self.train_discriminator(x_real, x_fake)
            g_loss = generator_loss(self.discriminator(x_fake, training=True))
        self.minimize(tape, g_loss, self.generator)
        return self.log({"d_loss": d_loss, "g_loss": g_loss})

    def train_discriminator(self, x_real, x_fake):
        with tf.GradientTape() as tape:
            real_scores = self.discriminator(x_real, training=True)  # B 1
            fake_scores = self.discriminator(x_fake, training=True)  # B 1
            d_loss = discriminator_loss(real_scores, fake_scores)
        self.minimize(tape, d_loss, self.discriminator)
        return d_loss

    def test_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        x_fake = self.generator(self.fixed_normal((batch_size, self.latent_dim)))
        fake_scores = self.discriminator(x_fake)  # B 1
        d_loss = discriminator_loss(self.discriminator(x_real), fake_scores)
        losses = {"d_loss": d_loss, "g_loss": generator_loss(fake_scores)}
        return self.log(losses, count=batch_size)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=128,
    step_ms=110,
    paper="arXiv:1611.04076",
    tiny={"latent_dim": 8, "base_filters": 4, "ema_decay": 0.9},
)
def lsgan(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 128,
    base_filters: int = 32,
    ema_decay: float = 0.0,
    augment: str = "",
    learning_rate: float = 5e-4,
    seed: int | None = None,
):
    """Least squares GAN: a DCGAN whose discriminator solves a regression."""
    model = LSGAN(image_shape, latent_dim, base_filters, ema_decay, augment, seed)
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.5),
            discriminator=Adam(learning_rate, beta_1=0.5),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
