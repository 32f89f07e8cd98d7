"""SNGAN: a residual GAN whose discriminator has layers of spectral norm 1.

Spectral Normalization for Generative Adversarial Networks. Miyato, Kataoka, Koyama, Yoshida, 2018,
https://arxiv.org/abs/1802.05957

Each weight matrix W of the discriminator D is divided by its largest singular value (equation 8,
`layers/spectral.py`), so that each layer, and with them D, is Lipschitz continuous. D is then good
to learn from wherever the generated images are, and needs no batch normalisation. The losses are
hinges (equations 16 and 17, negated), D(x) a score:

    d_loss = E_x[max(0, 1 - D(x))] + E_z[max(0, 1 + D(G(z)))]
    g_loss = -E_z[D(G(z))]

The networks are those of appendix B.4: blocks of two 3x3 convolutions beside a shortcut, in the
order of He et al. (2016, https://arxiv.org/abs/1603.05027), activation first. G has batch
normalisation and enlarges by repeating pixels; D halves by averaging and ends in a sum over all
places and one linear layer. Channels double where sides halve, as in the networks for the larger
images there (tables 5 and 6), but are fewer, for a CPU.

With `critic_steps` above 1, D is updated that many times for each update of G (algorithm 1's
n_dis), on as many shares of the batch: an epoch passes the data once, whatever the number.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model
from keras_genai.layers import (
    BatchNormalization,
    SpectralConv2D,
    SpectralDense,
    SpectralPooledConv2D,
    UpsampledConv2D,
)
from keras_genai.models.base import jit_compile_default, network, per_network
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


def halvings(image_shape):
    """How often both sides can be halved, down to a side of 4 to 7."""
    count, (height, width) = 0, image_shape[:2]
    while min(height, width) > 7 and height % 2 == width % 2 == 0:
        count, height, width = count + 1, height // 2, width // 2
    return count


@network
def generator(image_shape, latent_dim, base_filters):
    """Noise (B, Z) to images (B, H, W, C) in [-1, 1]."""
    count = halvings(image_shape)
    height, width = (side >> count for side in image_shape[:2])
    z = keras.Input((latent_dim,))
    x = layers.Dense(height * width * (base_filters << count))(z)
    x = layers.Reshape((height, width, base_filters << count))(x)
    for i in reversed(range(count)):
        x = _up(x, base_filters << i)
    x = layers.Conv2D(
        image_shape[2], 3, padding="same", activation="tanh", dtype="float32"
    )(_normalized(x))  # fmt: skip
    return keras.Model(z, x)


def _up(x, filters):
    """A residual block to twice the height and width."""
    # Biases would be lost in the next normalisation.
    y = UpsampledConv2D(filters, use_bias=False)(_normalized(x))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(_normalized(y))
    # 1x1 convolutions and repeating pixels can change places: the smaller image is cheaper.
    shortcut = layers.UpSampling2D()(layers.Conv2D(filters, 1, use_bias=False)(x))
    return layers.Add()([y, shortcut])


def _normalized(x):
    return layers.ReLU()(BatchNormalization(momentum=0.9)(x))


@network
def discriminator(image_shape, base_filters):
    """Images (B, H, W, C) in [-1, 1] to scores (B, 1): positive is "real"."""
    count = halvings(image_shape)
    image = keras.Input(image_shape)
    # Not activated first: that would blacken the darker half of the image.
    x = _down(image, image, base_filters)
    for i in range(1, count):
        x = _down(x, layers.ReLU()(x), base_filters << i)
    x = _level(x, layers.ReLU()(x), base_filters << count)
    x = keras.ops.sum(layers.ReLU()(x), axis=(1, 2))  # B D
    return keras.Model(image, SpectralDense(1, dtype="float32")(x))


def _down(x, activated, filters):
    """A residual block to half the height and width."""
    y = SpectralConv2D(filters, 3, padding="same", activation="relu")(activated)
    # As in G, the smaller image is cheaper for the shortcut.
    shortcut = SpectralConv2D(filters, 1)(layers.AveragePooling2D(2)(x))
    return layers.Add()([SpectralPooledConv2D(filters)(y), shortcut])


def _level(x, activated, filters):
    """A residual block of unchanged height and width."""
    y = SpectralConv2D(filters, 3, padding="same", activation="relu")(activated)
    y = SpectralConv2D(filters, 3, padding="same")(y)
    return layers.Add()([y, SpectralConv2D(filters, 1)(x)])


def discriminator_loss(real_scores, fake_scores):
    """Equation 16, negated: a scalar from scores (B, 1)."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real_scores)) + tf.reduce_mean(
        tf.nn.relu(1.0 + fake_scores)
    )


def generator_loss(fake_scores):
    """Equation 17, negated: a scalar from scores (B, 1)."""
    return -tf.reduce_mean(fake_scores)


@keras.saving.register_keras_serializable("keras_genai")
class SNGAN(ImageModel):
    """The model of Miyato et al. (2018).

    Args:
        image_shape: (H, W, C) with H and W multiples of 4, or None: from the data.
        latent_dim: Z, the size of the noise.
        base_filters: Channels at the image's size; doubled at each halving.
        critic_steps: Updates of the discriminator for each of the generator.
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("d_loss", "g_loss")
    adversarial = True
    training_only = ("discriminator",)
    stride = 4

    def __init__(
        self,
        image_shape=None,
        latent_dim=128,
        base_filters=16,
        critic_steps=1,
        ema_decay=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(image_shape, seed, **kwargs)
        self.latent_dim, self.base_filters = latent_dim, base_filters
        self.critic_steps, self.ema_decay = critic_steps, ema_decay

    def build_networks(self):
        self.generator = generator(self.image_shape, self.latent_dim, self.base_filters)
        self.discriminator = discriminator(self.image_shape, self.base_filters)
        self.ema_generator = self.averaged(self.generator)

    def call(self, z, training=False):
        return self.generator(z, training=training)

    def sample(self, n, seed):
        return self.ema_generator(tf.random.stateless_normal((n, self.latent_dim), seed))

    def train_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        share = -(-batch_size // self.critic_steps)  # S: where it does not divide, some serve twice
        d_losses = []
        for i in range(self.critic_steps):
            x_share = tf.gather(x_real, (i * share + tf.range(share)) % batch_size)  # S H W C
            x_fake = self.generator(self.normal((share, self.latent_dim)), training=True)
            with tf.GradientTape() as tape:
                # One pass for both: without batch normalisation images do not meet in D.
                scores = self.discriminator(tf.concat([x_share, x_fake], 0), training=True)  # 2S 1
                d_losses.append(discriminator_loss(scores[:share], scores[share:]))
            self.minimize(tape, d_losses[-1], self.discriminator)

        z = self.normal((share, self.latent_dim))  # S Z
        with tf.GradientTape() as tape:
            # D stands still here, and so do its vectors u: not `training`.
            fake_scores = self.discriminator(self.generator(z, training=True), training=False)
            g_loss = generator_loss(fake_scores)
        self.minimize(tape, g_loss, self.generator)
        return self.log({"d_loss": tf.reduce_mean(tf.stack(d_losses)), "g_loss": g_loss})

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
    step_ms=170,
    paper="arXiv:1802.05957",
    tiny={"latent_dim": 8, "base_filters": 4, "critic_steps": 2, "ema_decay": 0.9},
)
def sngan(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 128,
    base_filters: int = 16,
    critic_steps: int = 1,
    ema_decay: float = 0.0,
    learning_rate: float = 2e-4,
    seed: int | None = None,
):
    """Residual GAN with spectral normalisation: steady training, 28 to 64 pixels."""
    model = SNGAN(image_shape, latent_dim, base_filters, critic_steps, ema_decay, seed)
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.0, beta_2=0.9),
            discriminator=Adam(learning_rate, beta_1=0.0, beta_2=0.9),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
