"""DCGAN: a GAN of convolutions.

Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks.
Radford, Metz, Chintala, 2015, https://arxiv.org/abs/1511.06434

The losses are those of `gan.py`, with D(x) a logit and `softplus(a) = log(1 + exp(a))`:

    d_loss = E_x[softplus(-D(x))] + E_z[softplus(D(G(z)))]
    g_loss = E_z[softplus(-D(G(z)))]

What is new are the networks (section 3): strided convolutions instead of pooling, batch
normalisation everywhere but at G's output and D's input, ReLU in G, LeakyReLU in D, sides halved
down to about 4, so that D sees the image as a whole. As in section 4, weights are drawn from
N(0, 0.02), and Adam has beta_1 = 0.5. Its learning rate is 5e-4 where the paper has 2e-4: after ten
epochs of MNIST the Fréchet distance is 10 instead of 21 (FD-mnist, 5,000 images of the validation
part, one training each).

With `ema_decay=0.999` samples are drawn from an exponential moving average of G's weights (Yazıcı
et al., 2018, https://arxiv.org/abs/1806.04498). It is off by default: after 25 minutes on MNIST it
made no difference.

One batch of generated images serves both updates: D learns on it, then G learns from what the new D
says of it. That saves a pass through G. With `updates="simultaneous"` G learns from what D
said before its own update (simultaneous gradient descent), which saves a pass through D as well.

Of some hundred images D learns each by heart. With `augment="color,translation,cutout"` it judges
T(x) and T(G(z)) with random changes T (`layers/augmentation.py`); both updates see one T(G(z)).

With `r1_gamma` above 0, D is kept flat at real images (Mescheder, Geiger, Nowozin, 2018,
https://arxiv.org/abs/1801.04406, equation 9): it minimises d_loss + r1,

    r1 = gamma / 2 E_x[|grad D(x)|^2]

where x is what D looks at, T(x) if there is a T. D then has no batch normalisation, with which the
logits of a batch depend on each other: the penalty is on the slope at each image by itself.

In validation batch normalisation goes by its moving averages, which are those of real and generated
batches together: losses there compare with each other, not with those of training.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

from typing import Literal

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model
from keras_genai.layers import BatchNormalization, Conv2D, Conv2DTranspose, check_policy
from keras_genai.losses import r1_penalty
from keras_genai.models.base import jit_compile_default, network, per_network
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


def sizes(image_shape):
    """(height, width) halved, rounded up, from the image down to a side of 3 to 5."""
    steps = [image_shape[:2]]
    while len(steps) == 1 or min(steps[-1]) > 5:
        height, width = steps[-1]
        steps.append((-(-height // 2), -(-width // 2)))
    return steps


@network
def generator(image_shape, latent_dim, base_filters):
    """Noise (B, Z) to images (B, H, W, C) in [-1, 1]."""
    *larger, smallest = sizes(image_shape)
    start = (*smallest, base_filters << (len(larger) - 1))
    options = {"use_bias": False, "kernel_initializer": normal_weights()}
    z = keras.Input((latent_dim,))
    x = layers.Dense(start[0] * start[1] * start[2], **options)(z)
    x = layers.Reshape(start)(x)
    x = layers.ReLU()(BatchNormalization(momentum=0.9)(x))
    for i in reversed(range(1, len(larger))):
        x = _double(x, larger[i], base_filters << (i - 1), **options)
        x = layers.ReLU()(BatchNormalization(momentum=0.9)(x))
    x = _double(
        x,
        larger[0],
        image_shape[2],
        kernel_initializer=normal_weights(),
        activation="tanh",
        dtype="float32",
    )
    return keras.Model(z, x)


def _double(x, size, filters, **options):
    """Twice the height and width, less a row or column where the larger size is odd."""
    # An output padding of 1 makes both sides odd at once, faster than cropping.
    options["output_padding"] = 1 if all(side % 2 for side in size) else None
    # Kernels that are a multiple of the stride leave no chequered pattern.
    x = Conv2DTranspose(filters, 4, strides=2, padding="same", **options)(x)
    surplus = [(0, have - want) for have, want in zip(x.shape[1:3], size, strict=True)]
    return layers.Cropping2D(surplus, dtype=x.dtype)(x) if any(map(any, surplus)) else x


DOWNSAMPLE = {"kernel_size": 4, "strides": 2, "padding": "same"}


@network
def discriminator(image_shape, base_filters, **options):
    """Images (B, H, W, C) in [-1, 1] to logits (B, 1): positive is "real".

    Later models have other `options`, those of `judgement`.
    """
    image = keras.Input(image_shape)
    x = Conv2D(base_filters, **DOWNSAMPLE, kernel_initializer=normal_weights())(image)
    return keras.Model(image, judgement(x, image_shape, base_filters, **options))


def judgement(
    x, image_shape, base_filters, outputs=1, batch_norm=True, epsilon=1e-3, last_bias=True
):
    """What follows D's first convolution (B, H / 2, W / 2, base_filters): logits (B, outputs).

    `epsilon` is that of batch normalisation.
    """
    x = layers.LeakyReLU(0.2)(x)
    for i in range(1, len(sizes(image_shape)) - 1):
        x = Conv2D(
            base_filters << i,
            **DOWNSAMPLE,
            use_bias=not batch_norm,
            kernel_initializer=normal_weights(),
        )(x)
        x = BatchNormalization(momentum=0.9, epsilon=epsilon)(x) if batch_norm else x
        x = layers.LeakyReLU(0.2)(x)
    last = layers.Dense(
        outputs, use_bias=last_bias, kernel_initializer=normal_weights(), dtype="float32"
    )
    return last(layers.Flatten()(x))


def normal_weights():
    """N(0, 0.02), section 4."""
    return keras.initializers.RandomNormal(stddev=0.02)


def discriminator_loss(real_logits, fake_logits):
    """A scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(
        tf.nn.softplus(fake_logits)
    )


def generator_loss(fake_logits):
    """A scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


@keras.saving.register_keras_serializable("keras_genai")
class DCGAN(ImageModel):
    """The model of Radford et al. (2015).

    Args:
        image_shape: (H, W, C), or None: from the data.
        latent_dim: Z, the size of the noise.
        base_filters: Channels at half the image's size; doubled at each further halving.
        updates: "alternating", D first, or "simultaneous".
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        augment: "" or what D's images go through, such as "color,translation,cutout".
        r1_gamma: Weight of the penalty on D's gradient at real images; 0 for none.
        seed: Fixes weights, noise and data order.
    """

    loss_names: tuple[str, ...] = ("d_loss", "g_loss")
    adversarial = True
    training_only = ("discriminator",)
    sure_d_loss: float | None = 0.04

    def __init__(
        self,
        image_shape=None,
        latent_dim=128,
        base_filters=32,
        updates="alternating",
        ema_decay=0.0,
        augment="",
        r1_gamma=0.0,
        seed=None,
        **kwargs,
    ):
        if r1_gamma:
            self.loss_names = (*self.loss_names, "r1")
        super().__init__(image_shape, seed, **kwargs)
        if updates not in ("alternating", "simultaneous"):
            raise ValueError(
                f'`updates` is "alternating" or "simultaneous". Received: updates={updates!r}'
            )
        self.latent_dim, self.base_filters = latent_dim, base_filters
        self.updates, self.ema_decay = updates, ema_decay
        self.augment, self.r1_gamma = check_policy(augment), r1_gamma

    def build_networks(self):
        self.generator = generator(self.image_shape, self.latent_dim, self.base_filters)
        self.discriminator = discriminator(
            self.image_shape, self.base_filters, batch_norm=not self.r1_gamma
        )
        self.ema_generator = self.averaged(self.generator)

    def call(self, z, training=False):
        return self.generator(z, training=training)

    def draw(self, z):
        return self.ema_generator(z)

    def sample(self, n, seed):
        return self.draw(tf.random.stateless_normal((n, self.latent_dim), seed))

    def train_step(self, data):
        x_real = self.augmented(to_model(data["image"]))  # B H W C
        z = self.normal((tf.shape(x_real)[0], self.latent_dim))  # B Z
        if self.updates == "simultaneous":
            return self.log(self.simultaneous_updates(x_real, z))
        with tf.GradientTape() as tape:
            x_fake = self.augmented(self.generator(z, training=True))  # B H W C
            with tape.stop_recording():
                d_losses = self.train_discriminator(x_real, x_fake)
            g_loss = generator_loss(self.discriminator(x_fake, training=True))
        self.minimize(tape, g_loss, self.generator)
        return self.log({**d_losses, "g_loss": g_loss})

    def train_discriminator(self, x_real, x_fake):
        with tf.GradientTape() as tape:
            # Two passes: batch normalisation must not mix real with generated images.
            real_logits = self.discriminator(x_real, training=True)  # B 1
            fake_logits = self.discriminator(x_fake, training=True)  # B 1
            d_loss = discriminator_loss(real_logits, fake_logits)
            d_losses = {"d_loss": d_loss, **self.r1(x_real)}
            total = tf.add_n([*d_losses.values()])
        self.minimize(tape, total, self.discriminator)
        return d_losses

    def simultaneous_updates(self, x_real, z):
        with tf.GradientTape() as d_tape, tf.GradientTape() as g_tape:
            x_fake = self.augmented(self.generator(z, training=True))  # B H W C
            fake_logits = self.discriminator(x_fake, training=True)  # B 1
            d_loss = discriminator_loss(self.discriminator(x_real, training=True), fake_logits)
            d_losses = {"d_loss": d_loss, **self.r1(x_real)}
            total = tf.add_n([*d_losses.values()])
            g_loss = generator_loss(fake_logits)
        self.minimize(d_tape, total, self.discriminator)
        self.minimize(g_tape, g_loss, self.generator)
        return {**d_losses, "g_loss": g_loss}

    def r1(self, x_real):
        """The penalty by its name, if it is on."""
        if not self.r1_gamma:
            return {}
        return {"r1": 0.5 * self.r1_gamma * r1_penalty(self.discriminator, x_real)}

    def test_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        x_fake = self.generator(self.fixed_normal((batch_size, self.latent_dim)))
        fake_logits = self.discriminator(x_fake)
        d_loss = discriminator_loss(self.discriminator(x_real), fake_logits)
        losses = {"d_loss": d_loss, **self.r1(x_real), "g_loss": generator_loss(fake_logits)}
        return self.log(losses, count=batch_size)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=128,
    step_ms=110,
    paper="arXiv:1511.06434",
    tiny={"latent_dim": 8, "base_filters": 4, "ema_decay": 0.9},
)
def dcgan(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 128,
    base_filters: int = 32,
    updates: Literal["alternating", "simultaneous"] = "alternating",
    ema_decay: float = 0.0,
    augment: str = "",
    r1_gamma: float = 0.0,
    learning_rate: float = 5e-4,
    seed: int | None = None,
):
    """Convolutional GAN: sharp images of 28 to 64 pixels within minutes."""
    model = DCGAN(
        image_shape, latent_dim, base_filters, updates, ema_decay, augment, r1_gamma, seed
    )
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.5),
            discriminator=Adam(learning_rate, beta_1=0.5),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
