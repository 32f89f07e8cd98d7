"""WGAN-GP: a Wasserstein GAN whose critic is kept to a slope of 1 by a penalty.

Improved Training of Wasserstein GANs.
Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, 2017, https://arxiv.org/abs/1704.00028

As in `wgan.py` D is a critic whose scores have no bounds, and the difference of its means is an
estimate of the Wasserstein distance between generated and real images. Clipped weights make D too
simple a function; instead its slope is pulled towards 1, which the best critic has almost
everywhere between the two (section 2.3), at random places between pairs of images:

    wasserstein      = E_x[D(x)] - E_z[D(G(z))]
    gradient_penalty = E[(|grad D(x_hat)| - 1)^2],  x_hat = alpha x + (1 - alpha) G(z),
                       alpha uniform in [0, 1], one for each pair of images
    d_loss           = -wasserstein + lambda gradient_penalty             equation 3
    g_loss           = -E_z[D(G(z))]                                      algorithm 1, line 12

D has no batch normalisation: the penalty is on the slope at each image by itself (section 4). Adam
has beta_1 = 0 and beta_2 = 0.9, and D moves `critic_steps` times before G does once (algorithm 1).
The learning rate is 1e-3 where the paper has 1e-4, since a CPU makes few steps: after 550 on MNIST
the Fréchet distance is 43, with 5e-4 67 (FD-mnist, 5,000 images of the validation part, one
training each).

Below, `loss` is `wasserstein`: of all these numbers it is the one that tells how good the images
are.

A batch is shared evenly among the updates of D, so that each has images of its own, as in
algorithm 1: 192 images are 3 updates with 64, and one of G with as many new ones. The networks are
those of `dcgan.py`.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

import keras
import tensorflow as tf

from keras_genai.data.images import to_model
from keras_genai.losses import gradient_penalty
from keras_genai.models.base import jit_compile_default, per_network, shares
from keras_genai.models.gans.dcgan import DCGAN, discriminator, generator
from keras_genai.models.gans.wgan import generator_loss, wasserstein_estimate
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


@keras.saving.register_keras_serializable("keras_genai")
class WGANGP(DCGAN):
    """The model of Gulrajani et al. (2017).

    Args:
        image_shape: (H, W, C), or None: from the data.
        latent_dim: Z, the size of the noise.
        base_filters: Channels at half the image's size; doubled at each further halving.
        critic_steps: Updates of the critic for one of the generator, which share a batch.
        penalty_weight: Lambda in equation 3.
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        augment: "" or what D's images go through, such as "color,translation,cutout".
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("d_loss", "g_loss", "wasserstein", "gradient_penalty")
    sure_d_loss = None  # the number of `DCGAN` is one of logistic losses

    def __init__(
        self,
        image_shape=None,
        latent_dim=128,
        base_filters=32,
        critic_steps=5,
        penalty_weight=10.0,
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
        self.critic_steps = critic_steps
        self.penalty_weight = penalty_weight

    def build_networks(self):
        self.generator = generator(self.image_shape, self.latent_dim, self.base_filters)
        # A last bias would cancel in the difference of scores.
        self.discriminator = discriminator(
            self.image_shape, self.base_filters, batch_norm=False, last_bias=False
        )
        self.ema_generator = self.averaged(self.generator)

    def train_step(self, data):
        x_real = self.augmented(to_model(data["image"]))  # B H W C
        batch_size = tf.shape(x_real)[0]
        alpha = self.uniform((batch_size, 1, 1, 1))
        # G stands still while D learns: one pass draws the images for all updates of D.
        x_fake = self.generator(self.normal((batch_size, self.latent_dim)), training=True)
        x_fake, found = self.augmented(x_fake), []
        for rows in shares(batch_size, self.critic_steps):
            own = [tf.gather(part, rows) for part in (x_real, x_fake, alpha)]
            with tf.GradientTape() as tape:
                found.append(self.critic_losses(*own))
            self.minimize(tape, found[-1]["d_loss"], self.discriminator)
        # The means over the updates.
        d_losses = {key: tf.reduce_mean([losses[key] for losses in found]) for key in found[0]}

        z = self.normal((tf.size(rows), self.latent_dim))
        with tf.GradientTape() as tape:
            x_fake = self.augmented(self.generator(z, training=True))
            fake_scores = self.discriminator(x_fake, training=True)
            g_loss = generator_loss(fake_scores)
        self.minimize(tape, g_loss, self.generator)
        return self.log({**d_losses, "g_loss": g_loss}, total=d_losses["wasserstein"])

    def critic_losses(self, x_real, x_fake, alpha):
        """Equation 3 and its parts: scalars from images (B, H, W, C) and alpha (B, 1, 1, 1)."""
        real_scores = self.discriminator(x_real, training=True)  # B 1
        fake_scores = self.discriminator(x_fake, training=True)  # B 1
        wasserstein = wasserstein_estimate(real_scores, fake_scores)
        penalty = gradient_penalty(self.discriminator, x_real, x_fake, alpha)
        d_loss = self.penalty_weight * penalty - wasserstein
        return {"d_loss": d_loss, "wasserstein": wasserstein, "gradient_penalty": penalty}

    def test_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        x_fake = self.generator(self.fixed_normal((batch_size, self.latent_dim)))
        alpha = self.fixed_uniform((batch_size, 1, 1, 1))
        d_losses = self.critic_losses(x_real, x_fake, alpha)
        g_loss = generator_loss(self.discriminator(x_fake))
        losses = {**d_losses, "g_loss": g_loss}
        return self.log(losses, total=d_losses["wasserstein"], count=batch_size)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=192,
    step_ms=220,
    paper="arXiv:1704.00028",
    tiny={"latent_dim": 8, "base_filters": 4, "critic_steps": 2, "ema_decay": 0.9},
)
def wgan_gp(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 128,
    base_filters: int = 32,
    critic_steps: int = 3,
    penalty_weight: float = 10.0,
    ema_decay: float = 0.0,
    augment: str = "",
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """Wasserstein GAN with a gradient penalty: steady, with a loss that tells how good it is."""
    # The paper has 5 updates of the critic and 1e-4, for days of training. With 3 and larger steps
    # G got further in single trainings of two minutes on MNIST.
    model = WGANGP(
        image_shape,
        latent_dim,
        base_filters,
        critic_steps,
        penalty_weight,
        ema_decay,
        augment,
        seed,
    )
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.0, beta_2=0.9),
            discriminator=Adam(learning_rate, beta_1=0.0, beta_2=0.9),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
